"""All members of a bundle, loaded once: what each says of some pairs, and the answer of all."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain, repeat, starmap
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import psutil
import torch
from threadpoolctl import ThreadpoolController
from torch import nn

from pairpref import bundle as bundles
from pairpref.effort import Effort, Orders, fewer, second_weight
from pairpref.errors import UserError
from pairpref.evaluation.calibration import Calibrator, of_fewer, pooled
from pairpref.evaluation.fusion import Fusion
from pairpref.model import attention, classifier
from pairpref.model.experts import Experts
from pairpref.model.inference_config import InferenceConfig
from pairpref.model.precision import best_device
from pairpref.pairs import swap_probabilities
from pairpref.params import Precision, PredictParams
from pairpref.text import tokenizer as tokenizers
from pairpref.text.features import Features
from pairpref.text.tokens import Tokens, tokenize
from pairpref.training.inference import by_order

BATCH_SIZE = PredictParams().batch_size
Order = Literal["both", "first", "second"]

_ROOM = 0.5  # of the free memory, which models that stay loaded may take


@dataclass(frozen=True)
class Pairs:
    """Pairs as the members read them."""

    tokens: Tokens
    features: Features | None  # None where nothing is counted

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass
class Model:
    """A saved model of one fold."""

    folder: Path
    config: InferenceConfig
    kept: list[nn.Module] = field(default_factory=list)  # one a device, if there is room

    def load(self, devices: list[torch.device], say: Callable[[str], object]) -> list[nn.Module]:
        """The model on each device: those that are kept, or else loaded anew."""
        return self.kept or [self._on(device, say) for device in devices]

    def _on(self, device: torch.device, say: Callable[[str], object]) -> nn.Module:
        model, _ = classifier.load(self.folder)
        attention.fuse(model.to(device), self.config.attention, say)
        return model


class Members:
    """What a finished pipeline has trained.

    Models stay loaded if there is room for all of them; otherwise each is loaded for each call of
    `votes`. With several GPUs each has every model, and reads its share of the pairs.

    Args:
        bundle: its folder of models.
        precision: see `pairpref.model.precision`.
        say: told what the models can't do.

    Raises:
        UserError: the bundle can't be used.
    """

    def __init__(
        self,
        bundle: Path,
        folders: dict[str, list[Path]],
        precision: Precision = "auto",
        say: Callable[[str], object] = print,
    ) -> None:
        self.bundle, self.precision, self._say = bundle, precision, say
        self.tokenizer = tokenizers.load(str(bundle / "tokenizer"))
        self.template = tokenizers.Template.of(self.tokenizer)
        self.calibrator = Calibrator.load(bundle / bundles.CALIBRATOR)
        self.fusion = Fusion.load(bundle / bundles.FUSION)
        self.config = classifier.load_config(folders["classifier"][0])
        experts = len(folders) < len(self.fusion.members)
        self.experts = Experts.load(bundle / bundles.EXPERTS) if experts else None
        self._blas = ThreadpoolController()
        self._devices = _devices()
        self.models = {
            name: [Model(folder, classifier.load_config(folder)) for folder in folders[name]]
            for name in self.fusion.members
            if name in folders
        }
        self._keep([*chain.from_iterable(self.models.values())])

    def _keep(self, models: list[Model]) -> None:
        """Load all models and keep them, if by the first one there is room."""
        loaded = models[0].load(self._devices, self._say)
        size = sum(part.nbytes for part in (*loaded[0].parameters(), *loaded[0].buffers()))
        if size * len(models) <= _ROOM * min(map(_free, self._devices)):
            models[0].kept = loaded
            for model in models[1:]:
                model.kept = model.load(self._devices, self._say)

    def read(self, frame: pd.DataFrame, run: Callable[..., Iterable] = starmap) -> Pairs:
        """Tokenise and count clean texts.

        Args:
            frame: id, prompt, response_a, response_b.
            run: runs the jobs that count in order, as `starmap` does.

        Raises:
            UserError: single texts, and the models read pairs; or the other way round.
        """
        tokens = tokenize(frame, self.bundle / "tokenizer")
        if len(tokens) and tokens.single != self.config.single:
            kinds = {True: "single texts", False: "pairs of answers"}
            raise UserError(
                f"got {kinds[tokens.single]}; {self.bundle} was trained on "
                f"{kinds[self.config.single]}."
            )
        counted = self.config.features or self.experts is not None
        features = Features.of(frame, run) if counted else None
        if self.config.features:
            tokens = replace(tokens, features=features)
        return Pairs(tokens, features)

    def answer(
        self,
        pairs: Pairs,
        effort: Effort,
        batch_size: int = BATCH_SIZE,
        step: Callable[[int], object] = lambda rows: None,
    ) -> np.ndarray:
        """Calibrated p(A), p(B), p(tie); float64, shape (n, 3).

        Args:
            batch_size: sequences in a forward pass.
            step: told how many pairs a model has just read in one order.

        Raises:
            UserError: memory ran out.
        """
        how = effort, batch_size, step
        orders = self.orders(effort)
        votes = self.votes(pairs, "both" if orders == "both" else "first", *how)
        p = self.fuse(votes)
        if orders == "uncertain":
            weight = second_weight(p)
            rows = np.flatnonzero(weight)
            unsure, share = Pairs(pairs.tokens.take(rows), None), weight[rows, None]
            for name, models in self.models.items():
                if models[0].config.ordered:
                    second = self._asked(name, unsure, "second", *how)
                    votes[name][:, rows] = (1 - share) * votes[name][:, rows] + share * second
            p = self.fuse(votes)
        same = pairs.tokens.same()
        p[same] = (p[same] + swap_probabilities(p[same])) / 2  # where they differ in the last bits
        return p

    def orders(self, effort: Effort) -> Orders:
        """What is asked for, or what the calibrator was fitted to."""
        return effort.orders or ("both" if self.calibrator.dual_order else "one")

    def votes(
        self,
        pairs: Pairs,
        order: Order,
        effort: Effort,
        batch_size: int = BATCH_SIZE,
        step: Callable[[int], object] = lambda rows: None,
    ) -> dict[str, np.ndarray]:
        """p by each member: of trained ones each model's, (models, n, 3), of experts (n, 3).

        Args:
            order: A shown first, or B, or the mean of both; the others as for `answer`.
        """
        found = {
            name: self._asked(name, pairs, order, effort, batch_size, step) for name in self.models
        }
        if self.experts is not None and pairs.features is not None:
            with self._blas.limit(limits=1, user_api="blas"):
                found |= self.experts.predict(pairs.features)
        return found

    def fuse(self, votes: dict[str, np.ndarray]) -> np.ndarray:
        """The answer of all, (n, 3), from `votes` of as many folds as were asked."""
        if self.fusion.members == ("classifier",):
            p, trained = votes["classifier"], len(self.models["classifier"])
            factor = of_fewer(self.calibrator.sharpening, trained, len(p))
            return replace(self.calibrator, sharpening=factor).pool(p)
        return self.fusion.apply(np.stack([*self.pooled(votes).values()]))

    def pooled(self, votes: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """p by each member of the fusion, its models pooled, (n, 3)."""
        answers = {}
        for name, factor in zip(self.fusion.members, self.fusion.sharpening, strict=True):
            p = votes[name]
            if name in self.models:
                p = pooled(p, of_fewer(factor, len(self.models[name]), len(p)))
            answers[name] = p
        return answers

    def _asked(
        self,
        name: str,
        pairs: Pairs,
        order: Order,
        effort: Effort,
        batch_size: int,
        step: Callable[[int], object],
    ) -> np.ndarray:
        """p by the first `effort.folds` models of a member, (models, n, 3)."""
        tokens = pairs.tokens.swapped() if order == "second" else pairs.tokens
        before, count = torch.get_num_threads(), len(self._devices)

        def ask(loaded: nn.Module, number: int, config: InferenceConfig) -> np.ndarray:
            # Threads change the last bits; a new thread begins with another number of them.
            torch.set_num_threads(self.config.threads)
            asked = loaded, config, tokens, self.template, batch_size, order == "both"
            return by_order(*asked, (number, count), self.precision, self._say, step)

        def ask_all(model: Model, run: Callable[..., Iterable[np.ndarray]]) -> np.ndarray:
            config = replace(model.config, judged_length=_length(model.config, effort))
            loaded = model.load(self._devices, self._say)
            return np.mean(sum(run(ask, loaded, range(count), repeat(config))), axis=0)

        try:
            with ThreadPoolExecutor(count) as pool:
                run: Callable[..., Iterable] = pool.map if count > 1 else map
                p = np.stack([ask_all(model, run) for model in self.models[name][: effort.folds]])
        finally:
            torch.set_num_threads(before)
        return swap_probabilities(p) if order == "second" else p

    def says(self, effort: Effort) -> list[str]:
        """What is asked of a pair, a line a member."""
        lines = []
        for name, models in self.models.items():
            config, length = models[0].config, _length(models[0].config, effort)
            parts = [f"{name}: {len(models[: effort.folds])} of {len(models)} folds"]
            parts += [str(Effort(self.orders(effort)))] if config.ordered else []
            parts += [f"up to {length} tokens"]
            if length != config.max_length:
                parts[-1] += f" (trained on {config.max_length})"
            parts += [f"up to {config.windows} windows"] if config.windows > 1 else []
            lines.append(", ".join(parts))
        return lines + ["features: experts on what is counted"] * (self.experts is not None)

    def work(self, effort: Effort, lengths: np.ndarray) -> float:
        """Tokens that models read of a pair, about.

        Args:
            lengths: tokens of some pairs, shape (n,).
        """
        tokens, orders = 0.0, {"both": 2.0, "uncertain": 1.5, "one": 1.0}[self.orders(effort)]
        for models in self.models.values():
            config = models[0].config
            most = _length(config, effort) * config.windows
            read = float(np.minimum(lengths, most).mean()) if len(lengths) else 1.0
            tokens += len(models[: effort.folds]) * (orders if config.ordered else 1.0) * read
        return tokens

    def passes(self, effort: Effort) -> float:
        """Pairs that models read for one, about; `work` counts their tokens."""
        return self.work(effort, np.ones(1))

    def efforts(self, asked: Effort) -> list[Effort]:
        """What is asked for, then ever less (see `effort.fewer`)."""
        folds = max(map(len, self.models.values()))
        longest = max(models[0].config.longest for models in self.models.values())
        return [asked, *fewer(asked, self.orders(asked), folds, longest)]


def _length(config: InferenceConfig, effort: Effort) -> int:
    return min(effort.length or config.longest, config.longest)


def _devices() -> list[torch.device]:
    """All GPUs, or the CPU."""
    count = torch.cuda.device_count()
    return [torch.device("cuda", i) for i in range(count)] if count > 1 else [best_device()]


def _free(device: torch.device) -> int:
    """Bytes of memory that are free on a device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available
