"""What a classifier is told of the votes it is trained on: shares and weights of the classes."""

import numpy as np

from pairpref.model.inference_config import InferenceConfig
from pairpref.pairs import LABELS
from pairpref.params import POINTWISE, Member, Params
from pairpref.text.tokens import Tokens
from pairpref.training import determinism


def inference_config(
    params: Params, train: Tokens, member: Member = "classifier"
) -> InferenceConfig:
    """What a member trained on these votes must be told to predict."""
    prior = np.bincount(train.labels, minlength=len(LABELS)) / len(train)
    balanced, symmetric = params.train.class_weights, params.augment.ab or member in POINTWISE
    return InferenceConfig(
        pooling=params.model.pooling,
        max_length=params.model.max_length,
        single=train.single,
        threads=params.train.threads,
        clean=params.clean.model_dump(include={"utf8", "flatten"}),
        prior=tuple(prior.tolist()),
        class_weights=class_weights(prior, balanced, symmetric),
        attention=params.model.attention,
        exact=determinism.is_exact(params.train.exact),
        member=member,
        truncation=params.text.truncation,
        windows=params.text.windows.most,
        stride=params.text.windows.stride,
        features=params.model.features,
        judged_length=params.inference.other_length,
    )


def class_weights(prior: np.ndarray, balanced: bool, symmetric: bool) -> tuple[float, float, float]:
    """Weights of A, B and tie in the loss, of mean 1 over the votes.

    Args:
        prior: shares of A, B and tie among the votes.
        balanced: inverse to the shares; otherwise all are 1.
        symmetric: pairs are shown in both orders, so that A and B are equally frequent, or the
            order is none.
    """
    if not balanced:
        return (1.0, 1.0, 1.0)
    shown = np.array([prior[:2].mean()] * 2 + [prior[2]]) if symmetric else prior
    present = shown > 0
    weights = np.ones(len(shown))
    weights[present] = 1 / (present.sum() * shown[present])
    a, b, tie = weights.tolist()
    return a, b, tie
