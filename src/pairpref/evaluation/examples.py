"""Single votes to look at."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pairpref.pairs import LABELS, TEXTS

_MOST = 5


@dataclass(frozen=True)
class Example:
    """One vote to look at."""

    texts: dict[str, str]  # prompt, response_a, response_b, those that there are
    voted: str
    likely: str  # the most likely label
    p_voted: float
    p_likely: float
    true_voted: float | None


def largest(
    key: np.ndarray, votes: pd.DataFrame, p: np.ndarray, truth: np.ndarray | None
) -> list[Example]:
    """The votes of largest key, the largest first.

    Args:
        votes: texts and label, n rows.
        p, truth: the model's probabilities and, if known, the true ones; shape (n, 3).
    """
    found = []
    for i in np.argsort(-key, kind="stable")[:_MOST]:
        vote = votes.iloc[i]
        voted, likely = int(vote["label"]), int(p[i].argmax())
        texts = {name: vote[name] for name in TEXTS if pd.notna(vote[name])}
        true = None if truth is None else float(truth[i, voted])
        given = float(p[i, voted]), float(p[i, likely])
        found.append(Example(texts, LABELS[voted], LABELS[likely], *given, true))
    return found
