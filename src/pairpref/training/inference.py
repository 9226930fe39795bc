"""Probabilities of tokenised pairs under one model, for evaluation, export and submission alike."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from pairpref.model.classifier import BagClassifier, InferenceConfig, SpanClassifier, knows_segments
from pairpref.model.precision import autocast
from pairpref.pairs import LABELS, swap_probabilities
from pairpref.params import POINTWISE, Precision
from pairpref.text.tokenizer import Template
from pairpref.text.tokens import Tokens
from pairpref.training import failures
from pairpref.training.batches import Collator, PairDataset

_BATCH_TOKENS = 16_384  # of one evaluation batch at most: 64 inputs of the default's 256 tokens


def evaluation_batch(max_length: int) -> int:
    """Inputs in a forward pass of training's own evaluation; no param of inference changes it."""
    return min(64, max(1, _BATCH_TOKENS // max_length))


def collator_for(model: nn.Module, template: Template) -> Collator:
    """The collator whose batches a model takes as keyword arguments."""
    segments = isinstance(model, SpanClassifier | BagClassifier) or knows_segments(model.config)
    return Collator(template.pad, segments)


def by_order(
    model: nn.Module,
    config: InferenceConfig,
    tokens: Tokens,
    template: Template,
    batch_size: int,
    dual_order: bool = True,
    share: tuple[int, int] = (0, 1),
    precision: Precision = "auto",
    say: Callable[[str], object] = print,
    step: Callable[[int], object] = lambda rows: None,
) -> np.ndarray:
    """p(A), p(B), p(tie) of each row for each order, as float64 of shape (orders, n, 3).

    A row read in windows has the mean of their probabilities.

    The first order is A, B; the second is B, A, swapped back. Their mean is swap-consistent to the
    last bit: exchanging A and B exchanges their probabilities. So is a reward model's one order.

    A model trained with class weights w estimates p · w; dividing by w gives p back (Elkan 2001,
    "The Foundations of Cost-Sensitive Learning", section 3).

    Args:
        model: a classifier; left in evaluation mode.
        config: how it was trained.
        batch_size: inputs in a forward pass.
        dual_order: give both orders; single texts and reward models have one in any case.
        share: this process's number and how many there are: each fills in its part of the batches
            and leaves the others zero.
        say: told of batches whose logits were no numbers: they are computed again in float32.
        step: told how many rows have just been read in one order.

    Raises:
        UserError: memory ran out.
    """
    dataset = PairDataset(tokens, config.longest, template, config.member, config.cut)
    collate = collator_for(model, template)
    orders = 1 + (dual_order and config.ordered)
    # A reward model reads an answer alike in both places but for last bits: it gets fixed ones.
    fixed = config.member in POINTWISE
    pairs = max(1, batch_size // (1 + fixed))
    result = np.zeros((orders, len(tokens), len(LABELS)))
    model.eval()
    device = next(model.parameters()).device
    correction = torch.tensor(config.class_weights, dtype=torch.float64, device=device).log()
    by_length = np.argsort(tokens.lengths(), kind="stable")
    number, processes = share
    lower, again = autocast(precision, device), 0

    def advice() -> str:
        return (
            f"{collate.shape[0]} sequences of {collate.shape[1]} tokens at a time. "
            f"Lower predict.batch_size (now {batch_size}; in pairpref.predict --batch-size)"
        )

    with torch.inference_mode(), failures.explained(advice):
        for begin in range(number * pairs, len(tokens), processes * pairs):
            rows = by_length[begin : begin + pairs].tolist()
            windows = [dataset.windows(row) for row in rows]
            for order in range(orders):
                swapped = [order == 1 or (fixed and tokens.b_sorts_first(row)) for row in rows]
                of_rows = zip(rows, swapped, windows, strict=True)
                shown = [(row, side, k) for row, side, count in of_rows for k in range(count)]
                p = []
                for at in range(0, len(shown), pairs):
                    batch = collate([dataset[item] for item in shown[at : at + pairs]])
                    batch.pop("labels", None)
                    batch = {name: tensor.to(device) for name, tensor in batch.items()}
                    with lower:
                        logits = model(**batch)["logits"].double()
                    if lower._enabled and not logits.isfinite().all():
                        logits, again = model(**batch)["logits"].double(), again + 1
                    p.append(torch.softmax(logits - correction, dim=-1).cpu().numpy())
                first = np.cumsum([0, *windows[:-1]])
                mean = np.add.reduceat(np.concatenate(p), first) / np.c_[windows]
                result[order, rows] = np.where(np.c_[swapped], swap_probabilities(mean), mean)
                step(len(rows))
    if again:
        say(f"{again:,} batches left the range of {lower.fast_dtype}: computed in float32")
    return result
