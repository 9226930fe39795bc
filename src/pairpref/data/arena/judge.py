"""The simulated voter: a rule over exactly the text that is shown, and Davidson's model of ties.

Utility of an answer = relevance · (share of its topical words that are on the prompt's topic)
                     + quality   · (share of good minus share of bad among its judging words)
                     + length    · log2(1 + words)
and, for an answer without words, the constant `EMPTY`. With d = u(A) − u(B) + order_effect,

    p(A) : p(B) : p(tie) = exp(d/2) : exp(−d/2) : exp(tie)

Davidson, R. R. (1970), "On extending the Bradley-Terry model to accommodate ties in paired
comparison experiments", JASA 65.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

from pairpref.data.arena.lexicon import WORD_QUALITY, WORD_TOPIC
from pairpref.params import JudgeParams

EMPTY = -2.0
_WORD = re.compile(r"[^\s\"`.,:;!?<>()\[\]{}=*&]+")


def words(text: str) -> list[str]:
    """The words of a text, lower-cased, without punctuation (hyphens inside a word stay)."""
    return [word for word in (w.strip("-'") for w in _WORD.findall(text.lower())) if word]


def topic_of(prompt: list[str]) -> str | None:
    """The topic of most topical words, of several the first named; None without such words."""
    counts = Counter(WORD_TOPIC[w] for turn in prompt for w in words(turn) if w in WORD_TOPIC)
    return counts.most_common(1)[0][0] if counts else None


def utility(topic: str | None, answer: Sequence[str | None], rule: JudgeParams) -> float:
    """How much the voter likes one answer (its turns together) to a prompt on `topic`."""
    seen = [word for turn in answer if turn for word in words(turn)]
    if not seen:
        return EMPTY
    topical = [WORD_TOPIC[w] == topic for w in seen if w in WORD_TOPIC]
    judging = [WORD_QUALITY[w] for w in seen if w in WORD_QUALITY]
    relevance = sum(topical) / len(topical) if topical else 0.0
    quality = sum(judging) / len(judging) if judging else 0.0
    length = math.log2(1 + len(seen))
    return rule.relevance * relevance + rule.quality * quality + rule.length * length


def vote_probabilities(
    prompt: list[str], a: Sequence[str | None], b: Sequence[str | None], rule: JudgeParams
) -> tuple[float, float, float]:
    """(p_a, p_b, p_tie), rounded to 6 decimals so that every machine draws the same vote."""
    topic = topic_of(prompt)
    d = utility(topic, a, rule) - utility(topic, b, rule) + rule.order_effect
    weights = math.exp(d / 2), math.exp(-d / 2), math.exp(rule.tie)
    total = sum(weights)
    p_a, p_b = round(weights[0] / total, 6), round(weights[1] / total, 6)
    return p_a, p_b, round(1 - p_a - p_b, 6)
