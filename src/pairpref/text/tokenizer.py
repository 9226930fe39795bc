"""Text to ids: a byte-level BPE for the small default, otherwise the backbone's own tokenizer.

Byte-level BPE and not Unigram, because Unigram training writes other bytes on every run.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pairpref.errors import UserError
from pairpref.params import BUILT_IN
from pairpref.text import published

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SPECIAL = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
# SentencePiece and WordPiece fold a line break into a space: it is written as the first of these
# that the tokenizer keeps.
_LINE_BREAKS = ("\n", " ¶ ", " | ", " ; ")
_CUTS = (" …", "…", " ...", "...")  # what may mark a cut, where it is one token


def train_bpe(texts: Iterable[str], vocab_size: int) -> "PreTrainedTokenizerBase":
    """Train a byte-level BPE; the same texts in the same order give the same tokenizer.

    Args:
        vocab_size: upper bound, the 256 bytes and 4 special tokens included.
    """
    from transformers import PreTrainedTokenizerFast  # seconds, also for who needs a Template only

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(_SPECIAL.values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, **_SPECIAL)


def load(
    name: str, path: str | None = None, revision: str | None = None
) -> "PreTrainedTokenizerBase":
    """A backbone's tokenizer; nothing in its folder is executed, spm.model alone is converted.

    Args:
        name: hub name or local folder.
        path: what to load it by, if that is not the name; messages say the name.
        revision: of a hub name: branch, tag or commit.

    Raises:
        UserError: there is none, or it is not a fast one.
    """
    from transformers import AutoTokenizer
    from transformers.utils import logging

    if name in BUILT_IN:
        raise UserError(f"{name} has no tokenizer of its own: the tokenize stage trains it.")
    path = path or name
    published.check(name, path)
    logging.set_verbosity_error()
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path, use_fast=True, trust_remote_code=False, revision=revision
        )
    except Exception as error:  # tokenizers raises Exception itself for damaged files
        reason = published.one_line(error).replace(path, name)
        if "tiktoken" in reason:  # what the library then asks for
            reason = "its .model file is damaged, or not of SentencePiece"
        raise UserError(
            f"model.backbone {name!r}: no tokenizer could be loaded ({reason}). Give a hub name or "
            "a whole folder; for a tokenizer.json of a newer format upgrade tokenizers "
            f"(here {tokenizers.__version__})."
        ) from None
    is_fast = getattr(tokenizer, "is_fast", False)
    if not is_fast or len(tokenizer) <= len(tokenizer.all_special_ids):
        wrong = "has no words" if is_fast else "is a slow one"
        raise UserError(
            f"model.backbone {name!r}: its tokenizer {wrong}; a tokenizer.json is needed."
        )
    return tokenizer


@dataclass(frozen=True)
class Template:
    """The special ids of a pair: `start` prompt `separator` A `separator` B `separator`."""

    start: int | None
    separator: int
    pad: int
    mark: int | None = None  # of a cut inside a part; None if the tokenizer has none

    @classmethod
    def of(cls, tokenizer: "PreTrainedTokenizerBase") -> "Template":
        """[CLS] and [SEP] where there are any, otherwise the start and end of a sequence."""
        start, separator = tokenizer.cls_token_id, tokenizer.sep_token_id
        start = tokenizer.bos_token_id if start is None else start
        separator = tokenizer.eos_token_id if separator is None else separator
        if separator is None:
            raise UserError(
                "The tokenizer has neither a separator nor an end-of-sequence token to put "
                "between prompt, A and B."
            )
        pad = tokenizer.pad_token_id
        encode, unknown = tokenizer.backend_tokenizer.encode, tokenizer.unk_token_id
        marks = (encode(cut, add_special_tokens=False).ids for cut in _CUTS)
        mark = next((ids[0] for ids in marks if len(ids) == 1 and ids[0] != unknown), None)
        return cls(start, separator, separator if pad is None else pad, mark)


class Encoder:
    """Texts to arrays of ids, without special tokens: a text "[SEP]" gives no separator."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = True
        kept = (mark for mark in _LINE_BREAKS if self._keeps(mark, tokenizer.unk_token_id))
        self.line_break = next(kept, "\n")

    def __call__(self, texts: Sequence[str]) -> list[np.ndarray]:
        """int32 ids of each text, shape (tokens,)."""
        broken = [text.replace("\n", self.line_break) for text in texts]
        encoded = self._backend.encode_batch_fast(broken, add_special_tokens=False)
        return [np.asarray(e.ids, dtype=np.int32) for e in encoded]

    def _keeps(self, mark: str, unknown: int | None) -> bool:
        marked, spaced = self._backend.encode_batch([f"a{mark}b", "a b"], add_special_tokens=False)
        return marked.ids != spaced.ids and unknown not in marked.ids


def encoder(folder: Path) -> Encoder:
    """The encoder of a saved tokenizer, loaded once a process."""
    return _encoder(folder.resolve(), (folder / "tokenizer.json").stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _encoder(folder: Path, _saved_at: int) -> Encoder:
    return Encoder(load(str(folder)))
