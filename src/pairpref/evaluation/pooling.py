"""How much bolder the mean of several models' probabilities has to become.

A temperature T calibrates each fold's model. Their mean needs another: errors average out, so it
knows more, and disagreements average to the middle, so it is too careful. No labels are needed.

Let z_k be the centred logits of model k, q_k = softmax(z_k / T), and q the calibrated answer of all
models. Then E[q · z_k] = E[q_k · z_k], as both are E[outcome · z_k] (tower law). With q =
softmax(s · a / T), a the centred logits of the mean, this is, to first order in the logits,

    s = Σ z_k · z_k / Σ z_k · a.

On rows that some models were trained on, s is slightly too small; see `benchmarks/pooling.py`.
"""

import numpy as np

from pairpref.evaluation.calibration import logits


def sharpening(p: np.ndarray) -> float:
    """The factor s for the logits of the models' mean; from 1 to the number of models.

    Args:
        p: each model's uncalibrated probabilities for the same rows; shape (models, n, 3).
    """
    if len(p) < 2 or not p.size:
        return 1.0
    z, of_mean = _centred(p), _centred(p.mean(axis=0))
    own, shared = (z * z).sum() / len(p), (z.mean(axis=0) * of_mean).sum()
    # Models that contradict each other share next to nothing; s never exceeds independent models'.
    return float(np.clip(own / shared, 1, len(p))) if shared > 0 else 1.0


def _centred(p: np.ndarray) -> np.ndarray:
    z = logits(p)
    return z - z.mean(axis=-1, keepdims=True)
