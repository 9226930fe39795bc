"""sample.json: a few pairs with the probabilities that a bundle gave them when it was made."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from pairpref import bundle as bundles
from pairpref.errors import UserError
from pairpref.pairs import WINNERS
from pairpref.predict import predict

# Turns of prompt, A and B: short and long, several turns, alike, empty, null, not English.
_PAIRS: list[tuple[list, list, list]] = [
    (["What is 2 + 2?"], ["2 + 2 = 4."], ["It is 5, I think."]),
    (["Name a colour."], ["Blue."], ["Blue."]),
    (["Name a colour."], [""], ["Red, green or blue."]),
    (["Say nothing."], [None], ["…"]),
    (["Hi", "And in French?"], ["Hello!", "Bonjour !"], ["Hey", "I only speak English."]),
    (["Schreibe „Grüße“ rückwärts 🙂"], ["„eßürG“"], ["Das geht leider nicht."]),
    (["Sort a list in Python."], ["```python\nsorted(x)\n```"], ["# Sorting\n\n- first\n- then\n"]),
    (["Tell me about rivers. " * 40], ["A river flows. " * 300], ["Rivers are long. " * 20]),
]


def rows(single: bool) -> list[dict[str, Any]]:
    """The built-in pairs, or their first answers as single texts."""
    if single:
        return [{"id": str(i), "text": a[0] or ""} for i, (_, a, _) in enumerate(_PAIRS)]
    names = ("prompt", "response_a", "response_b")
    return [{"id": str(i), **dict(zip(names, p, strict=True))} for i, p in enumerate(_PAIRS)]


def single(models: Path) -> bool:
    """Whether the models were trained on single texts."""
    from pairpref.model import classifier  # seconds, for torch

    return classifier.load_config(bundles.check(models)["classifier"][0]).single


def predicted(models: Path, pairs: list[dict[str, Any]]) -> np.ndarray:
    """p(A), p(B), p(tie) of each pair, computed in float32; shape (n, 3)."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "sample.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in pairs), encoding="utf-8")
        p = predict(path, models, say=lambda text: None, keep_going=True, precision="fp32")
        return p[WINNERS].to_numpy(dtype=np.float64)


def read(path: Path) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Pairs and their probabilities.

    Raises:
        UserError: the file has another form.
    """
    try:
        sample = json.loads(path.read_text(encoding="utf-8"))
        pairs, p = sample["rows"], np.array(sample["probabilities"], dtype=np.float64)
        if not pairs or p.shape != (len(pairs), len(WINNERS)) or not np.isfinite(p).all():
            raise ValueError(f"{len(pairs)} rows, probabilities of shape {p.shape}")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"{path}: no sample with rows and probabilities ({error}).") from None
    return pairs, p
