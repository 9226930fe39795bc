"""What can be counted in a pair of answers: structure, variety, overlap, what an answer adds.

Nothing depends on the order of A and B: an answer's features are computed given the prompt and the
other answer, and those of the pair are the same when A and B are swapped. White space around texts
is left out: it tells where a vote comes from, not how good an answer is.
"""

import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Sequence, Set
from itertools import pairwise, takewhile
from math import log1p

import numpy as np

_MOST = 20_000  # characters of a text that are looked at
_LEVEL = 1  # of compression
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
# Each mark is looked at once, however many follow each other.
_SENTENCES = re.compile(r"(?<![.!?。！？])[.!?。！？]++(?=\s|$)|\n+")
_BULLET = re.compile(r"[-*•–] ")
_NUMBER = re.compile(r"(?:[0-9]{1,3}|[a-zA-Z])[.)] ")
_HEADING = re.compile(r"#{1,6} |\*\*[^*]+\*\*:?$|[A-Z][^.]{2,40}:$")
_PHRASES = {  # searched for in the lower-case text
    "refuses": r"i(?:'m| am) sorry|i can(?:'|no)t |i(?:'m| am) (?:not able|unable)|as an ai\b|as a"
    r" language model|apologi[sz]e|not appropriate",
    "offers": r"let me know|feel free|hope this|happy to help|would you like|anything else",
    "concludes": r"in conclusion|in summary|overall,|to sum up|in short",
}
_WORDS = {  # counted
    "hedges": "perhaps maybe might could possibly probably likely seem seems depends generally"
    " usually often sometimes",
    "connects": "because therefore however example instance such addition moreover thus although"
    " while first second finally then",
    "itself": "i my me",
    "you": "you your",
    "stop": "a an and are as at be but by can do for from had has have he her him his how if in"
    " into is it its may me more my no not of on one or our out she so some than that the their"
    " them then there these they this to up was we were what when which who will with would you"
    " your",
}
_AGREES = frozenset("sure certainly absolutely yes great here okay ok of".split())
_SIGNS = {  # single characters
    "quotes": '"“”«»',
    "brackets": "([",
    "questions": "?？",
    "exclamations": "!！",
    "commas": ",;:，、",
    "digits": "0123456789",
    "capitals": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "code": "{}<>=;_|\\",
    "lines": "\n",
    "stars": "*",
    "ticks": "`",
    "hashes": "#",
    "dashes": "-–—",
}
_ASKS = {
    "what": "what",
    "why": "why",
    "how": "how",
    "who": "who when where",
    "is": "is are do does can could should would will did",
    "write": "write compose create generate design come",
    "story": "story poem essay song email letter speech",
    "list": "list name give suggest idea ideas example examples tips",
    "explain": "explain describe discuss compare difference differences",
    "rewrite": "rewrite edit correct paraphrase summarize summarise summary translate convert",
    "classify": "classify identify extract category categorize which",
    "code": "code python function sql java javascript html program script",
    "maths": "calculate solve many much sum",
    "brief": "brief briefly short sentence concise words simple",
    "long": "detail detailed details step long depth comprehensive",
    "role": "act are pretend imagine",
    "opinion": "best favorite favourite opinion think feel recommend",
    "input": "input text passage article paragraph following",
    "you": "you your",
}
_SCRIPTS = {  # first and last letters
    "cyrillic": (("\u0400", "\u04ff"),),
    "cjk": (("\u3040", "\u30ff"), ("\u3400", "\u9fff"), ("\uac00", "\ud7a3")),
    "other": (("\u0370", "\u03ff"), ("\u0590", "\u08ff"), ("\u0900", "\u0e7f")),
}
_CHOICES = re.compile(r"\n[^\S\n]*+\(?[A-D][).] ")
_WINDOW = 8_000  # bytes of a text that another is compressed with
_SETS = {name: frozenset(words.split()) for name, words in _WORDS.items()}
_STOP = _SETS["stop"]
_KINDS = {
    sign: [name for name, signs in _SIGNS.items() if sign in signs]
    for sign in "".join(_SIGNS.values())
}
_ASKED = {name: frozenset(words.split()) for name, words in _ASKS.items()}
_FOUND = {name: re.compile(pattern) for name, pattern in _PHRASES.items()}


class _Text:
    """A text and what several features need of it."""

    def __init__(self, text: str) -> None:
        self.text = text.strip()[:_MOST]
        self.lower = self.text.lower()
        self.words = _WORD.findall(self.lower)
        self.counts = Counter(self.words)
        self.unique = self.counts.keys()
        self.content = {word for word in self.unique if len(word) > 2} - _STOP
        self.bigrams = set(pairwise(self.words))
        self.numbers = {word for word in self.unique if word[0].isdigit()}
        self.signs = Counter(self.text)
        self.marks, self.scripts, self.non_ascii = self._signs()
        self.lines = [line.strip() for line in self.text.split("\n")]
        self.sentences = [part for part in _SENTENCES.split(self.text) if part.strip()]
        self.bytes = self.text.encode("utf-8", "replace")
        self.size = self.added_to(b"")

    def added_to(self, known: bytes) -> int:
        """Compressed bytes, given that other bytes are known."""
        packer = (
            zlib.compressobj(_LEVEL, zdict=known[-_WINDOW:]) if known else zlib.compressobj(_LEVEL)
        )
        return len(packer.compress(self.bytes)) + len(packer.flush())

    def count(self, words: Set[str]) -> int:
        """How many of its words are among others."""
        return sum(map(self.counts.__getitem__, self.unique & words))

    def _signs(self) -> tuple[dict[str, int], np.ndarray, int]:
        """Characters of each kind of `_SIGNS`, letters of each script, and those beyond ASCII."""
        marks, scripts, others = dict.fromkeys(_SIGNS, 0), dict.fromkeys(("latin", *_SCRIPTS), 0), 0
        for sign, n in self.signs.items():
            for name in _KINDS.get(sign, ()):
                marks[name] += n
            others += n * (sign > "\x7f")
            if sign < "\u0250":
                scripts["latin"] += n * sign.isalpha()
            else:
                for name, ranges in _SCRIPTS.items():
                    scripts[name] += n * any(low <= sign <= high for low, high in ranges)
        return marks, np.array([*scripts.values()], float), others


def _answer(answer: _Text, prompt: _Text, other: _Text) -> dict[str, float]:
    """Of an answer, given the prompt and the other answer."""
    text, words, n, chars = answer.text, answer.words, len(answer.words), len(answer.text)
    counts = answer.counts
    spans = [len(part) for part in answer.sentences] or [0]
    bullets = sum(map(bool, map(_BULLET.match, answer.lines)))
    numbered = sum(map(bool, map(_NUMBER.match, answer.lines)))
    trigrams = len(set(zip(words, words[1:], words[2:], strict=False)))
    own = answer.content - prompt.unique - other.unique
    mine, asked = answer.scripts, prompt.scripts
    found = {
        "characters": _log(chars),
        "words": _log(n),
        "sentences": _log(len(answer.sentences)),
        "sentence_characters": _log(sum(spans) / len(spans)),
        "longest_sentence": _log(max(spans)),
        "word_length": _share(sum(map(len, words)), n),
        "long_words": _share(sum(len(word) > 7 for word in words), n),
        "unique": _share(len(counts), n),
        "root_unique": _share(len(counts), n**0.5),
        "content": _share(len(answer.content), n),
        "log_content": _log(len(answer.content)),
        "once": _share(sum(c == 1 for c in counts.values()), n),
        "commonest": _share(max(counts.values(), default=0), n),
        "repeated": _share(max(0, n - 2) - trigrams, n),
        "repeated_sentences": 1 - _share(len(set(answer.sentences)), len(answer.sentences) or 1),
        "bullets": _log(bullets),
        "numbered": _log(numbered),
        "list": float(bullets + numbered > 1),
        "headings": _log(sum(map(bool, map(_HEADING.match, answer.lines)))),
        "paragraphs": _log(text.count("\n\n")),
        "in_prompt": _share(answer.count(prompt.unique), n),
        "of_prompt": _share(len(answer.content & prompt.content), len(prompt.content)),
        "bigrams_in_prompt": _share(len(answer.bigrams & prompt.bigrams), len(answer.bigrams)),
        "in_other": _share(answer.count(other.unique), n),
        "content_in_other": _share(len(answer.content & other.content), len(answer.content)),
        "own": _log(len(own)),
        "own_share": _share(len(own), len(answer.content)),
        "new_to_prompt": _log(len(answer.content - prompt.content)),
        "numbers": _log(len(answer.numbers)),
        "numbers_in_prompt": _share(len(answer.numbers & prompt.numbers), len(answer.numbers)),
        "numbers_of_prompt": _share(len(answer.numbers & prompt.numbers), len(prompt.numbers)),
        "compressed": _log(answer.size),
        "compression": _share(answer.size, len(answer.bytes)),
        "adds_to_prompt": _log(answer.added_to(prompt.bytes)),
        "adds_to_other": _log(answer.added_to(other.bytes)),
        "starts_lower": float(text[:1].islower()),
        "starts_letter": float(text[:1].isalpha()),
        "starts_as_prompt": float(n > 2 and words[:3] == prompt.words[:3]),
        "starts_agreeing": float(bool(words) and words[0] in _AGREES),
        "echoes": float(len(prompt.text) > 10 and prompt.lower[:40] in answer.lower),
        "ends_whole": float(text[-1:] in tuple(".!?)]}\"'”`。！？*:")),
        "ends_letter": float(text[-1:].isalnum()),
        "ends_asking": float(text[-1:] in ("?", "？")),
        "empty": float(n == 0),
        "one_line": float(len(answer.lines) == 1),
        "short": float(n < 6),
        "same_script": _share(mine @ asked, (mine @ mine * (asked @ asked)) ** 0.5),
        "links": _log(answer.lower.count("http") + answer.lower.count("www.")),
        "non_ascii": _share(answer.non_ascii, chars),
    }
    for name, marks in answer.marks.items():
        found[name], found[f"{name}_share"] = _log(marks), _share(marks, chars)
    for name, said in _SETS.items():
        found[name] = _share(answer.count(said), n)
    for name, phrase in _FOUND.items():
        found[name] = _log(len(phrase.findall(answer.lower)))
    return found


def _pair(a: _Text, b: _Text) -> dict[str, float]:
    """Of two answers, whichever comes first."""
    short, long = sorted((len(a.words), len(b.words)))
    start = sum(
        1 for _ in takewhile(lambda two: two[0] == two[1], zip(a.words, b.words, strict=False))
    )
    both = a.added_to(b.bytes) + b.added_to(a.bytes)
    return {
        "equal": float(a.text == b.text),
        "words_in_common": _jaccard(a.unique, b.unique),
        "content_in_common": _jaccard(a.content, b.content),
        "bigrams_in_common": _jaccard(a.bigrams, b.bigrams),
        "numbers_in_common": _jaccard(a.numbers, b.numbers),
        "same_numbers": float(a.numbers == b.numbers),
        "same_start": _share(start, long),
        "log_same_start": _log(start),
        "same_end": float(a.words[-3:] == b.words[-3:]),
        "shorter": _share(short, long),
        "distance": _share(both / 2 + max(a.size, b.size) - min(a.size, b.size), a.size + b.size),
        "both_short": float(long < 8),
        "longer_words": _log(long),
        "shorter_words": _log(short),
    }


def _prompt(prompt: _Text) -> dict[str, float]:
    """Of the prompt alone: what it asks for."""
    text, n, chars = prompt.text, len(prompt.words), len(prompt.text)
    found = {
        "characters": _log(chars),
        "words": _log(n),
        "unique": _share(len(prompt.unique), n),
        "sentences": _log(len(prompt.sentences)),
        "word_length": _share(sum(map(len, prompt.words)), n),
        "compression": _share(prompt.size, len(prompt.bytes)),
        "ends_asking": float(text[-1:] in ("?", "？")),
        "ends_whole": float(text[-1:] in (".", "!", "?", ":")),
        "starts_lower": float(text[:1].islower()),
        "numbers": _log(len(prompt.numbers)),
        "stop": _share(prompt.count(_STOP), n),
        "first_is_verb": float(bool(n) and prompt.words[0] in _ASKED["is"]),
        "choices": float(bool(_CHOICES.search(text))),
        "non_ascii": _share(prompt.non_ascii, chars),
    }
    for name in ("questions", "commas", "digits", "capitals", "lines", "quotes", "code"):
        marks = prompt.marks[name]
        found[name] = _log(marks) if name == "lines" else _share(marks, chars)
    for name, asked in _ASKED.items():
        found[f"asks_{name}"] = float(not asked.isdisjoint(prompt.unique))
    return found


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _jaccard(one: Set, other: Set) -> float:
    return _share(len(one & other), len(one | other))


def _log(n: float) -> float:
    return log1p(n)


def names() -> tuple[list[str], list[str], list[str]]:
    """Of an answer's features, of a pair's and of a prompt's."""
    empty = _Text("")
    return [*_answer(empty, empty, empty)], [*_pair(empty, empty)], [*_prompt(empty)]


def digest() -> str:
    """16 hexadecimal digits that change with what is counted."""
    return hashlib.blake2b(repr(names()).encode(), digest_size=8).hexdigest()


def measure(prompts: Sequence[str], a: Sequence[str], b: Sequence[str]) -> list[np.ndarray]:
    """Features of A, of B, of both and of the prompt; float32, a row a pair."""
    rows = []
    for texts in zip(prompts, a, b, strict=True):
        asked, one, other = map(_Text, texts)
        found = _answer(one, asked, other), _answer(other, asked, one)
        rows.append([*found, _pair(one, other), _prompt(asked)])
    answer, pair, prompt = map(len, names())
    return [
        np.array([[*row[i].values()] for row in rows], dtype=np.float32).reshape(len(rows), width)
        for i, width in enumerate((answer, answer, pair, prompt))
    ]
