"""Single votes to look at: numbers say how much is wrong, texts say what."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pairpref.evaluation.metrics import losses
from pairpref.evaluation.truth import entropy
from pairpref.pairs import LABELS, TEXTS
from pairpref.reporting.glossary import spaced

SHOWN = 600
_HEADINGS = ("Prompt", "Answer A", "Answer B")


@dataclass(frozen=True)
class Example:
    """One vote: a line about it, and its texts under headings, shortened."""

    title: str
    texts: tuple[tuple[str, str], ...]


def surprising(
    votes: pd.DataFrame, p: np.ndarray, truth: np.ndarray | None, count: int = 5
) -> list[Example]:
    """The votes of largest log loss, the worst first.

    Args:
        votes: columns id, label, prompt, response_a, response_b; n rows.
        p: predicted probabilities; shape (n, 3).
        truth: true probabilities, shape (n, 3): then the example says how likely the vote really was; or None.
        count: how many, at most.
    """
    return _examples(-losses(votes["label"].to_numpy(dtype=int), p), votes, p, truth, count)


def hardest(
    votes: pd.DataFrame, p: np.ndarray, truth: np.ndarray | None, count: int = 5
) -> list[Example]:
    """The votes of which the model is least sure, by the entropy of its probabilities; arguments as of `surprising`."""
    return _examples(-entropy(p), votes, p, truth, count)


def _examples(
    key: np.ndarray, votes: pd.DataFrame, p: np.ndarray, truth: np.ndarray | None, count: int
) -> list[Example]:
    first = np.argsort(key, kind="stable")[:count]
    return [_example(votes.iloc[i], p[i], None if truth is None else truth[i]) for i in first]


def _example(vote: pd.Series, p: np.ndarray, truth: np.ndarray | None) -> Example:
    voted = int(vote["label"])
    title = f"Voted {LABELS[voted]}, which the model gave {p[voted]:.1%}; it held {LABELS[p.argmax()]} most likely, at {p.max():.0%}."
    if truth is not None:
        title += f" In truth {LABELS[voted]} had {truth[voted]:.1%}."
    texts = tuple(
        (heading, shortened(vote[name]))
        for heading, name in zip(_HEADINGS, TEXTS, strict=True)
        if pd.notna(vote[name])
    )
    return Example(spaced(title), texts)


def shortened(text: str, length: int = SHOWN) -> str:
    """The beginning of a text, and how much was left out."""
    if not text:
        return "(empty)"
    return (
        text
        if len(text) <= length
        else f"{text[:length]} … ({len(text) - length:,} more characters)"
    )
