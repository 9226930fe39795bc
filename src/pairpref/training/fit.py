"""Train one classifier on given rows, and judge it on others after each epoch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn
from transformers import PreTrainedTokenizerBase

from pairpref import stopping
from pairpref.model import attention, classifier
from pairpref.monitor import Log
from pairpref.params import BUILT_IN, POINTWISE, AugmentParams, Member, Params
from pairpref.text.tokenizer import Template
from pairpref.text.tokens import Tokens
from pairpref.training import determinism, dry_run, failures, recipe, whole
from pairpref.training.arguments import training_arguments
from pairpref.training.batches import KeyedBatches
from pairpref.training.checkpoints import CheckpointManager
from pairpref.training.trainer import PairTrainer


@dataclass(frozen=True)
class Fitted:
    """A trained classifier."""

    model: nn.Module  # weights of the best epoch, or of the last one without train.patience
    config: classifier.InferenceConfig
    # A row an epoch: epoch, train_loss (weighted, where votes are), validation_loss (of A shown
    # first), log_loss, accuracy and f1_macro (of both orders' mean where there are two).
    history: list[dict[str, float]]
    # Uncalibrated probabilities of the validation rows, A and B shown first; shape (2, n, 3), or of
    # single texts and by a reward model (1, n, 3).
    orders: np.ndarray
    machine: dict[str, Any]  # see `determinism.machine`


def fit(
    train: Tokens,
    validation: Tokens,
    params: Params,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    manager: CheckpointManager,
    log: Log,
    member: Member = "classifier",
) -> Fitted:
    """Train on `train`, evaluate on `validation` after each epoch.

    The same arguments give the same weights, bit for bit, on the same kind of machine, however
    often the training was interrupted. Under `accelerate launch` it runs in all processes and
    returns the same in each.

    Args:
        manager: where checkpoints are kept and found.
        log: told of steps, rate, padding and time left.
        member: train this instead of the classifier; a reward model sees each pair once an epoch.

    Raises:
        UserError: the backbone can't be trained so, train.arguments has what can't be used, memory
            ran out, or the loss is not a number, or exploded.
        Stopped: a signal ended it; everything is saved.
    """
    options, backbone = params.train, params.model.backbone
    small = backbone in BUILT_IN
    determinism.fix(options.threads, seed, options.exact)
    config = recipe.inference_config(params, train, member)
    augment = AugmentParams(ab=False) if member in POINTWISE else params.augment
    windows = params.text.windows.train
    batches = KeyedBatches(train, options.batch_size, augment, seed, windows)
    lr, steps = options.lr * (params.model.lr_multiplier if small else 1), len(batches)
    arguments = training_arguments(params, seed, lr, steps * options.epochs, manager.folder)
    machine = determinism.machine(arguments.world_size)
    with failures.naming_cause(backbone, options.arguments):
        aside = manager.folder / whole.ASIDE / f"dry-run-{arguments.process_index}"
        with failures.explained(lambda: f"model.backbone {backbone} alone. Choose a smaller one"):
            model = dry_run.build(config, params.model, tokenizer, aside, log.say)
            if isinstance(model, classifier.PairClassifier) and train.features is not None:
                scale = params.model.lr_multiplier**-0.5 if small else 1.0
                model.head.counted.fit(train.features, scale)
            model.to(arguments.device)
        checkpoint = manager.newest(machine)
        if checkpoint is None and not small:
            dry_run.check(model, config, params.model, tokenizer, aside, options.precision)
        if checkpoint is None and config.longest > config.max_length:
            dry_run.check_longest(model, config, params.model, tokenizer, aside, options.precision)
        attention.fuse(model, params.model.attention, log.say)
        manager.expect(sum(parameter.numel() for parameter in model.parameters()))
        template = Template.of(tokenizer)
        trainer = PairTrainer(
            model, arguments, config, batches, train, validation, template, params, manager, log
        )
        log.event("training", **machine, steps=steps * options.epochs)
        with stopping.deferred(), failures.explained(trainer.smaller):
            history, orders = trainer.finish(checkpoint)
    return Fitted(model, config, history, orders, machine)
