"""How much bolder the mean of several models' probabilities has to become.

Cross-validation leaves a model a fold, and a temperature T that calibrates each of them. Their mean needs
another: it knows more than a single model, because errors average out, and it is more careful, because
models that disagree average to the middle. Both are measured without labels.

Let z_k be the centred logits of model k, q_k = softmax(z_k / T) its calibrated answer, and q the calibrated
answer of all models. Then E[q · z_k] = E[q_k · z_k], because both are E[outcome · z_k] (the tower law). With
q = softmax(s · a / T), a the centred logits of the mean, and to first order in the logits, this is

    s = Σ z_k · z_k / Σ z_k · a.

On rows that some of the models were trained on, s comes out slightly too small: `python -m benchmarks.pooling`
says by how much, and what other ways of pooling cost.
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
    # Models that contradict each other share next to nothing: more than independent ones no model can add.
    return float(np.clip(own / shared, 1, len(p))) if shared > 0 else 1.0


def _centred(p: np.ndarray) -> np.ndarray:
    z = logits(p)
    return z - z.mean(axis=-1, keepdims=True)
