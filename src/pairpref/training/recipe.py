"""The recipe of a training: optimizer, learning rate, class weights, when to stop."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from transformers import get_scheduler

from pairpref.model.classifier import InferenceConfig
from pairpref.pairs import LABELS
from pairpref.params import Params, TrainParams
from pairpref.text.tokens import Tokens

_SCHEDULERS = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


def inference_config(params: Params, train: Tokens) -> InferenceConfig:
    """What a classifier trained on these votes must be told to predict."""
    prior = np.bincount(train.labels, minlength=len(LABELS)) / len(train)
    balanced = params.train.class_weights
    return InferenceConfig(
        pooling=params.model.pooling,
        max_length=params.model.max_length,
        single=train.single,
        threads=params.train.threads,
        clean=params.clean.model_dump(include={"utf8", "flatten"}),
        prior=tuple(prior.tolist()),
        class_weights=class_weights(prior, balanced, symmetric=params.augment.ab),
    )


def optimizer(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019) without decay of biases and norms."""
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for parameter in model.parameters():
        (decayed if parameter.ndim > 1 else others).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, fused=True)


def schedule(of: torch.optim.Optimizer, options: TrainParams, steps: int) -> Callable[[int], float]:
    """The learning rate as a share of its peak, for the number of steps that are done.

    Args:
        steps: of the whole training.
    """
    name, warmup = _SCHEDULERS[options.scheduler], round(options.warmup * steps)
    return get_scheduler(name, of, num_warmup_steps=warmup, num_training_steps=steps).lr_lambdas[0]


def class_weights(prior: np.ndarray, balanced: bool, symmetric: bool) -> tuple[float, float, float]:
    """Weights of A, B and tie in the loss, of mean 1 over the votes.

    Args:
        prior: shares of A, B and tie among the votes.
        balanced: inverse to the shares; otherwise all are 1.
        symmetric: pairs are shown in both orders, so that A and B are equally frequent.
    """
    if not balanced:
        return (1.0, 1.0, 1.0)
    shown = np.array([prior[:2].mean()] * 2 + [prior[2]]) if symmetric else prior
    present = shown > 0
    weights = np.ones(len(shown))
    weights[present] = 1 / (present.sum() * shown[present])
    a, b, tie = weights.tolist()
    return a, b, tie


def exhausted(history: list[dict[str, float]], patience: int | None, min_delta: float) -> bool:
    """Whether the log loss got no better by more than `min_delta` for `patience` epochs."""
    if patience is None:
        return False
    best, waited = math.inf, 0
    for row in history:
        better = row["log_loss"] < best - min_delta
        best, waited = (row["log_loss"], 0) if better else (best, waited + 1)
    return waited >= patience
