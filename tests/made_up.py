"""Made-up votes for tests of evaluation."""

import numpy as np
from hypothesis import strategies as st


def drawn(n: int, seed: int, sharpness: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """True probabilities and votes drawn from them."""
    rng = np.random.default_rng(seed)
    p = np.exp(sharpness * rng.normal(size=(n, 3)))
    p /= p.sum(axis=1, keepdims=True)
    return p, (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, 2)


rows = st.builds(drawn, st.integers(1, 80), st.integers(0, 2**32 - 1))
