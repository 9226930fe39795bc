"""Before the first step: whether a backbone can be trained, saved and asked to predict.

Two pairs in a batch, one as long as model.max_length allows and one of a few tokens, with the largest
ids of the tokenizer, go forward and backward, at half that length forward, and in the other order
through the model and a saved copy. What fails ends in one line, with a value that has passed the same test.
"""

import shutil
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedTokenizerBase

from pairpref.backbone import source
from pairpref.errors import UserError
from pairpref.model import classifier, weights
from pairpref.model.backbone import HeadlessError
from pairpref.params import ModelParams
from pairpref.text.compose import compose
from pairpref.text.published import one_line
from pairpref.text.tokenizer import Template
from pairpref.training import memory
from pairpref.training.inference import autocast, best_device, collator_for

_SHORTEST = 16


def build(
    config: classifier.InferenceConfig,
    params: ModelParams,
    tokenizer: PreTrainedTokenizerBase,
    aside: Path,
    say: Callable[[str], None],
) -> nn.Module:
    """The classifier to train, of the recorded commit of a hub name, as `classifier.build` makes it.

    Args:
        config, aside: as in `check`.
        say: told what was changed.

    Raises:
        UserError: it can't be built; names the other pooling only if that works.
    """
    try:
        return classifier.build(params, tokenizer, say, *source(params))
    except HeadlessError as error:
        trial = _Trial(params, tokenizer, aside)
        try:
            remedy = trial.other_pooling(config, best_device())
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        raise UserError(f"{error} {remedy or 'Choose another model.backbone'}") from None


def check(
    model: nn.Module,
    config: classifier.InferenceConfig,
    params: ModelParams,
    tokenizer: PreTrainedTokenizerBase,
    aside: Path,
) -> None:
    """Try a classifier that is about to be trained.

    It keeps its weights and mode and gets no gradients; later random numbers stay the same.

    Args:
        model: on the device it will be trained on.
        config: as it will be saved with; its max_length is the longest input's.
        aside: folder to write to, which is gone afterwards.

    Raises:
        UserError: it can't be trained so. Names the backbone, the param and a value that works, or says
            that none was found.
    """
    trial = _Trial(params, tokenizer, aside)
    devices = [device] if (device := next(model.parameters()).device).type == "cuda" else []
    training = model.training
    try:
        with (
            torch.random.fork_rng(devices),
            memory.explained(
                lambda: (
                    f"2 sequences of up to {config.max_length} tokens, before training. Lower model.max_length (now {config.max_length}), "
                    "or choose a smaller model.backbone"
                )
            ),
        ):
            problem = trial.problem(model, config)
            remedy = problem and trial.remedy(model, config)
    finally:
        model.train(training)
        shutil.rmtree(aside, ignore_errors=True)
    if problem:
        raise UserError(
            f"model.backbone {params.backbone!r} can't be trained with model.pooling={config.pooling} and "
            f"model.max_length={config.max_length} ({problem}). {remedy}"
        )


class _Trial:
    """What is tried, of one backbone."""

    def __init__(
        self, params: ModelParams, tokenizer: PreTrainedTokenizerBase, aside: Path
    ) -> None:
        self._params, self._tokenizer, self._aside = params, tokenizer, aside
        self._template = Template.of(tokenizer)
        template = {self._template.start, self._template.separator, self._template.pad}
        # The largest first, so that the longest input holds it.
        self._words = np.array(
            sorted(set(tokenizer.get_vocab().values()) - template, reverse=True), dtype=np.int32
        )

    def problem(self, model: nn.Module, config: classifier.InferenceConfig) -> str | None:
        """What fails, in a line; None when nothing does."""
        return _failure(lambda: self._everything(model, config))

    def remedy(self, model: nn.Module, config: classifier.InferenceConfig) -> str:
        """A param with a value that passes: the longest max_length, or else the other pooling."""
        lengths = range(_SHORTEST, config.max_length)

        def too_long(length: int) -> bool:
            return (
                _failure(lambda: self._learn(model, replace(config, max_length=length))) is not None
            )

        if works := bisect_left(lengths, True, key=too_long):
            longest = lengths[works - 1]
            if self.problem(model, replace(config, max_length=longest)) is None:
                return f"It can with -S model.max_length={longest}"
        device = next(model.parameters()).device
        nothing = "Neither a shorter model.max_length nor the other model.pooling helps: choose another model.backbone"
        return self.other_pooling(config, device) or nothing

    def other_pooling(self, config: classifier.InferenceConfig, device: torch.device) -> str | None:
        """The other pooling, if it passes."""
        pooling = "cls" if config.pooling == "spans" else "spans"
        params, config = (
            self._params.model_copy(update={"pooling": pooling}),
            replace(config, pooling=pooling),
        )

        def everything() -> None:
            model = classifier.build(params, self._tokenizer, lambda _: None, *source(params))
            self._everything(model.to(device), config)

        return f"It can with -S model.pooling={pooling}" if _failure(everything) is None else None

    def _everything(self, model: nn.Module, config: classifier.InferenceConfig) -> None:
        self._learn(model, config)
        logits = self._predict(model, config)
        if not torch.equal(self._predict(self._saved(model, config), config), logits):
            raise ValueError("saved and loaded it gives other logits")

    def _learn(self, model: nn.Module, config: classifier.InferenceConfig) -> None:
        """Forward and backward; gradients are returned instead of kept."""
        model.train()
        out = self._run(model, config, [False, True], swapped=False)
        gradients = torch.autograd.grad(
            out["loss"], [p for p in model.parameters() if p.requires_grad], allow_unused=True
        )
        if not all(
            tensor.isfinite().all() for tensor in (out["logits"], *gradients) if tensor is not None
        ):
            raise ValueError("its logits or gradients are not finite numbers")
        # Reformer trains on multiples of its chunks only: an odd length is none.
        with torch.no_grad():
            self._run(
                model,
                replace(config, max_length=config.max_length // 2 | 1),
                [False, True],
                swapped=False,
            )

    def _predict(self, model: nn.Module, config: classifier.InferenceConfig) -> torch.Tensor:
        """Logits in the other order. The short pair must have the same alone, without padding."""
        model.eval()
        with torch.no_grad():
            together, alone = (
                self._run(model, config, shorts, swapped=not config.single)["logits"].float()
                for shorts in ([False, True], [True])
            )
        tolerance = 0.05 if together.is_cuda else 1e-4
        if not torch.allclose(together[1:], alone, rtol=tolerance, atol=tolerance):
            raise ValueError("padding changes its logits")
        return together

    def _saved(self, model: nn.Module, config: classifier.InferenceConfig) -> nn.Module:
        """The model as it comes back from its files."""
        shutil.rmtree(self._aside, ignore_errors=True)
        classifier.save(model, config, self._aside)
        loaded, _ = classifier.load(self._aside)
        loaded.to(next(model.parameters()).device)
        before, after = weights.of(model), weights.of(loaded)
        if list(before) != list(after) or not all(
            map(torch.equal, before.values(), after.values())
        ):
            raise ValueError("saved and loaded it has other weights")
        return loaded

    def _run(
        self,
        model: nn.Module,
        config: classifier.InferenceConfig,
        shorts: list[bool],
        swapped: bool,
    ) -> dict[str, torch.Tensor]:
        items = []
        for short in shorts:
            # One long part alone fills the input to the last token: several are cut to one length.
            sizes = (
                (1, 1, 1)
                if short
                else (config.max_length, config.max_length if config.single else 1, 1)
            )
            prompt, a, b = (np.resize(self._words, size) for size in sizes)
            ids, segments = compose(
                prompt, a, None if config.single else b, config.max_length, self._template, swapped
            )
            items.append((ids, segments, int(short)))
        device = next(model.parameters()).device
        batch = collator_for(model, self._template)(items)
        with _InRange(), autocast(device):
            return model(**{name: tensor.to(device) for name, tensor in batch.items()})


class _InRange(TorchFunctionMode):
    """Checks indices before they are looked up: on a GPU one out of range ends all use of it."""

    def __torch_function__(
        self, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        kwargs = kwargs or {}
        if function is nn.functional.embedding:
            _in_range(ids=args[0], size=len(args[1]))
        elif (
            function in (torch.gather, torch.index_select) and "index" in kwargs and "dim" in kwargs
        ):
            _in_range(ids=kwargs["index"], size=args[0].shape[kwargs["dim"]])
        return function(*args, **kwargs)


def _in_range(ids: torch.Tensor, size: int) -> None:
    if ids.numel() and int(ids.max()) >= size:
        raise IndexError(f"there is no position or id {int(ids.max())}: the table has {size}")


def _failure(act: Callable[[], None]) -> str | None:
    """What an act raises, in a line; running out of memory is raised on."""
    try:
        act()
    except OSError:
        raise
    # A backbone of any family may raise anything here.
    except Exception as error:
        if memory.exhausted(error):
            raise
        return one_line(error) or type(error).__name__
    return None
