"""sample.json: a few pairs with the probabilities that a bundle gave them when it was made."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pairpref.errors import UserError
from pairpref.judge import Judge
from pairpref.pairs import PROBABILITIES, TEXTS

# Turns of prompt, A and B: short and long, several turns, alike, empty, not English.
_PAIRS: list[tuple[list[str], list[str], list[str]]] = [
    (["What is 2 + 2?"], ["2 + 2 = 4."], ["It is 5, I think."]),
    (["Name a colour."], ["Blue."], ["Blue."]),
    (["Name a colour."], [""], ["Red, green or blue."]),
    (["Hi", "And in French?"], ["Hello!", "Bonjour !"], ["Hey", "I only speak English."]),
    (["Schreibe „Grüße“ rückwärts 🙂"], ["„eßürG“"], ["Das geht leider nicht."]),
    (["Sort a list in Python."], ["```python\nsorted(x)\n```"], ["# Sorting\n\n- first\n- then\n"]),
    (["Tell me about rivers. " * 40], ["A river flows. " * 300], ["Rivers are long. " * 20]),
]


def judge(models: Path) -> Judge:
    """A judge that computes in float32."""
    return Judge.load(models, "fp32", lambda text: None)


def rows(single: bool) -> list[dict[str, Any]]:
    """The built-in pairs, or their first answers as single texts."""
    if single:
        return [{"text": a[0]} for _, a, _ in _PAIRS]
    return [dict(zip(TEXTS, pair, strict=True)) for pair in _PAIRS]


def predicted(judge: Judge, pairs: list[dict[str, Any]]) -> np.ndarray:
    """p(A), p(B), p(tie) of each pair; shape (n, 3)."""
    return judge.predict(pd.DataFrame(pairs))[PROBABILITIES].to_numpy()


def read(path: Path) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Pairs and their probabilities.

    Raises:
        UserError: the file has another form.
    """
    try:
        sample = json.loads(path.read_text(encoding="utf-8"))
        pairs, p = sample["rows"], np.array(sample["probabilities"], dtype=np.float64)
        if not pairs or p.shape != (len(pairs), len(PROBABILITIES)) or not np.isfinite(p).all():
            raise ValueError(f"{len(pairs)} rows, probabilities of shape {p.shape}")
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise UserError(f"{path}: no sample with rows and probabilities ({error}).") from None
    return pairs, p
