"""Before the first step: whether a backbone can be trained, saved and asked to predict.

Two pairs in a batch, one as long as model.max_length allows and one of a few tokens, with the
largest ids of the tokenizer, go forward and backward, at half that length forward, and in the other
order through the model and a saved copy. What fails ends in one line, with a value that has passed
the same test.
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
from pairpref.model.classifier import InferenceConfig
from pairpref.model.precision import autocast, best_device
from pairpref.params import ModelParams, Precision
from pairpref.text.compose import inputs
from pairpref.text.features import WIDTH
from pairpref.text.published import one_line
from pairpref.text.tokenizer import Template
from pairpref.training import failures
from pairpref.training.batches import Example
from pairpref.training.inference import collator_for

_SHORTEST = 16


def build(
    config: InferenceConfig,
    params: ModelParams,
    tokenizer: PreTrainedTokenizerBase,
    aside: Path,
    say: Callable[[str], None],
) -> nn.Module:
    """The classifier to train, of the recorded commit of a hub name (see `classifier.build`).

    Args:
        config, aside: as in `check`.
        say: told what was changed.

    Raises:
        UserError: it can't be built; names the other pooling only if that works.
    """
    try:
        return classifier.build(params, tokenizer, say, *source(params), config.member)
    except HeadlessError as error:
        trial = _Trial(params, tokenizer, aside)
        try:
            remedy = trial.other_pooling(config, best_device())
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        raise UserError(f"{error} {remedy or 'Choose another model.backbone'}") from None


def check(
    model: nn.Module,
    config: InferenceConfig,
    params: ModelParams,
    tokenizer: PreTrainedTokenizerBase,
    aside: Path,
    precision: Precision = "auto",
) -> None:
    """Try a classifier that is about to be trained.

    It keeps its weights and mode and gets no gradients; later random numbers stay the same.

    Args:
        model: on the device it will be trained on.
        config: as it will be saved with; its max_length is the longest input's.
        aside: folder to write to, which is gone afterwards.

    Raises:
        UserError: it can't be trained so. Names the backbone, the param and a value that works, or
            says that none was found.
    """
    trial = _Trial(params, tokenizer, aside, precision)
    devices = [device] if (device := next(model.parameters()).device).type == "cuda" else []
    training = model.training

    def advice() -> str:
        return (
            f"2 sequences of up to {config.max_length} tokens, before training. Lower "
            f"model.max_length (now {config.max_length}), or choose a smaller model.backbone"
        )

    try:
        with torch.random.fork_rng(devices), failures.explained(advice):
            problem = trial.problem(model, config)
            remedy = problem and trial.remedy(model, config)
    finally:
        model.train(training)
        shutil.rmtree(aside, ignore_errors=True)
    if problem:
        raise UserError(
            f"model.backbone {params.backbone!r} can't be trained with "
            f"model.pooling={config.pooling} and model.max_length={config.max_length} "
            f"({problem}). {remedy}"
        )


def check_longest(
    model: nn.Module,
    config: InferenceConfig,
    params: ModelParams,
    tokenizer: PreTrainedTokenizerBase,
    aside: Path,
    precision: Precision = "auto",
) -> None:
    """Raise a UserError where a classifier can't be judged by inputs of inference.max_length."""
    trial, training = _Trial(params, tokenizer, aside, precision), model.training
    longest = replace(config, max_length=config.longest)

    def advice() -> str:
        return f"2 sequences of {config.longest} tokens. Lower inference.max_length"

    try:
        with failures.explained(advice):
            problem = _failure(lambda: trial.predict(model, longest))
    finally:
        model.train(training)
    if problem:
        raise UserError(
            f"inference.max_length is {config.longest}: model.backbone {params.backbone!r} can't "
            f"read that many tokens ({problem}). It is trained on model.max_length="
            f"{config.max_length}"
        )


class _Trial:
    """What is tried, of one backbone."""

    def __init__(
        self,
        params: ModelParams,
        tokenizer: PreTrainedTokenizerBase,
        aside: Path,
        precision: Precision = "auto",
    ) -> None:
        self._params, self._tokenizer, self._aside = params, tokenizer, aside
        self._precision = precision
        self._template = Template.of(tokenizer)
        special = {self._template.start, self._template.separator, self._template.pad}
        # The largest first, so that the longest input holds it.
        words = sorted(set(tokenizer.get_vocab().values()) - special, reverse=True)
        self._words = np.array(words, dtype=np.int32)

    def problem(self, model: nn.Module, config: InferenceConfig) -> str | None:
        """What fails, in a line; None when nothing does."""
        return _failure(lambda: self._everything(model, config))

    def remedy(self, model: nn.Module, config: InferenceConfig) -> str:
        """A param with a value that passes: the longest max_length, or else the other pooling."""
        lengths = range(_SHORTEST, config.max_length)

        def too_long(length: int) -> bool:
            shorter = replace(config, max_length=length)
            return _failure(lambda: self._learn(model, shorter)) is not None

        if works := bisect_left(lengths, True, key=too_long):
            longest = lengths[works - 1]
            if self.problem(model, replace(config, max_length=longest)) is None:
                return f"It can with -S model.max_length={longest}"
        return self.other_pooling(config, next(model.parameters()).device) or (
            "Neither a shorter model.max_length nor the other model.pooling helps: "
            "choose another model.backbone"
        )

    def other_pooling(self, config: InferenceConfig, device: torch.device) -> str | None:
        """The other pooling, if it passes."""
        pooling = "cls" if config.pooling == "spans" else "spans"
        params = self._params.model_copy(update={"pooling": pooling, "features": False})

        def everything() -> None:
            rest = self._tokenizer, lambda _: None, *source(params), config.member
            model = classifier.build(params, *rest)
            self._everything(model.to(device), replace(config, pooling=pooling, features=False))

        off = " -S model.features=false" if self._params.features else ""
        works = _failure(everything) is None
        return f"It can with -S model.pooling={pooling}{off}" if works else None

    def _everything(self, model: nn.Module, config: InferenceConfig) -> None:
        self._learn(model, config)
        logits = self.predict(model, config)
        if not torch.equal(self.predict(self._saved(model, config), config), logits):
            raise ValueError("saved and loaded it gives other logits")

    def _learn(self, model: nn.Module, config: InferenceConfig) -> None:
        """Forward and backward; gradients are returned instead of kept."""
        model.train()
        out = self._run(model, config, [False, True], swapped=False)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        gradients = torch.autograd.grad(out["loss"], trained, allow_unused=True)
        found = [tensor for tensor in (out["logits"], *gradients) if tensor is not None]
        if not all(tensor.isfinite().all() for tensor in found):
            raise ValueError("its logits or gradients are not finite numbers")
        # Reformer trains on multiples of its chunks only: an odd length is none.
        odd = replace(config, max_length=config.max_length // 2 | 1)
        with torch.no_grad():
            self._run(model, odd, [False, True], swapped=False)

    def predict(self, model: nn.Module, config: InferenceConfig) -> torch.Tensor:
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

    def _saved(self, model: nn.Module, config: InferenceConfig) -> nn.Module:
        """The model as it comes back from its files."""
        shutil.rmtree(self._aside, ignore_errors=True)
        # Adapters by themselves: added to the backbone they are other weights by design.
        alone = self._params.lora.model_copy(update={"merge": False})
        adapted = self._params.model_copy(update={"lora": alone}) if alone.r else None
        classifier.save(model, config, self._aside, adapted)
        loaded, _ = classifier.load(self._aside)
        loaded.to(next(model.parameters()).device)
        before, after = weights.of(model), weights.of(loaded)
        same = list(before) == list(after)
        if not same or not all(map(torch.equal, before.values(), after.values())):
            raise ValueError("saved and loaded it has other weights")
        return loaded

    def _run(
        self, model: nn.Module, config: InferenceConfig, shorts: list[bool], swapped: bool
    ) -> dict[str, torch.Tensor]:
        """The model's output for a batch of pairs, some of them short."""
        length, single = config.max_length, config.single
        items: list[Example] = []
        for short in shorts:
            # One long part alone fills the input to the last token: several are cut alike.
            sizes = (1, 1, 1) if short else (length, length if single else 1, 1)
            prompt, a, b = (np.resize(self._words, size) for size in sizes)
            parts = prompt, a, None if single else b
            read = inputs(config.member, *parts, length, self._template, swapped)
            counted = (np.zeros((2, WIDTH), np.float32),) if config.features else ()
            items.append((read, int(short), *counted))
        device = next(model.parameters()).device
        batch = collator_for(model, self._template)(items)
        with _InRange(), autocast(self._precision, device):
            return model(**{name: tensor.to(device) for name, tensor in batch.items()})


class _InRange(TorchFunctionMode):
    """Checks indices before they are looked up: on a GPU one out of range ends all use of it."""

    def __torch_function__(
        self, function: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        kwargs = kwargs or {}
        if function is nn.functional.embedding:
            _check_range(ids=args[0], size=len(args[1]))
        elif function in (torch.gather, torch.index_select) and {"index", "dim"} <= kwargs.keys():
            _check_range(ids=kwargs["index"], size=args[0].shape[kwargs["dim"]])
        return function(*args, **kwargs)


def _check_range(ids: torch.Tensor, size: int) -> None:
    if ids.numel() and int(ids.max()) >= size:
        raise IndexError(f"there is no position or id {int(ids.max())}: the table has {size}")


def _failure(act: Callable[[], None]) -> str | None:
    """What an act raises, in a line; running out of memory is raised on."""
    try:
        act()
    except OSError:
        raise
    except Exception as error:  # a backbone of any family may raise anything
        if failures.exhausted(error):
            raise
        return one_line(error) or type(error).__name__
    return None
