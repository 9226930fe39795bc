"""Made-up votes for tests of evaluation."""

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from pairpref.evaluation.calibration import CALIBRATED
from pairpref.pairs import PROBABILITIES
from pairpref.versions.predictions import rounded


def drawn(n: int, seed: int, sharpness: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """True probabilities and votes drawn from them."""
    rng = np.random.default_rng(seed)
    p = np.exp(sharpness * rng.normal(size=(n, 3)))
    p /= p.sum(axis=1, keepdims=True)
    return p, (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, 2)


rows = st.builds(drawn, st.integers(1, 80), st.integers(0, 2**32 - 1))


def predictions(
    n: int = 300, seeds: int = 3, noise: float = 0.1, seed: int = 0, calibrated: bool = False
) -> pd.DataFrame:
    """Predictions of several seeds, the truth with noise, in the form of `collect_predictions`."""
    p, labels = drawn(n, 0)
    rng = np.random.default_rng(1000 + seed)
    parts = []
    for number in range(seeds):
        q = p * np.exp(noise * rng.normal(size=p.shape))
        part = pd.DataFrame(
            {
                "id": np.arange(n).astype(str),
                "group": np.arange(n) // 2,
                "label": labels,
                "seed": number,
            }
        )
        part[PROBABILITIES] = q / q.sum(axis=1, keepdims=True)
        if calibrated:
            part[CALIBRATED] = p
        parts.append(part)
    return rounded(pd.concat(parts, ignore_index=True))
