"""The features member: several cheap models of counted features, in two heads.

p = ((1 - t) w, (1 - t) (1 - w), t). w, that A wins if there is no tie, is fitted on decisive votes
in both orders, so that swapped answers give 1 - w. t, that it is a tie, is fitted on what swapping
leaves alone: sums and absolute differences of the answers' features, and those of the pair and the
prompt.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file
from scipy.special import expit, logit
from threadpoolctl import threadpool_limits

from pairpref.errors import UserError
from pairpref.model.forest import Forest
from pairpref.pairs import TIE, A
from pairpref.text import counts
from pairpref.text.features import Features

_LIMIT = 4.0  # standard deviations from the mean, so that no odd text decides alone
CLUSTERS = 5


@dataclass(frozen=True)
class Linear:
    """Logistic regression on scaled features."""

    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    bias: np.ndarray  # shape (1,)

    @classmethod
    def fit(cls, x: np.ndarray, target: np.ndarray, strength: float, centred: bool) -> Self:
        """Fit; if not `centred`, no feature means one half, as swapping answers requires."""
        from sklearn.linear_model import LogisticRegression  # predictions do without it

        x = x.astype(np.float64)
        mean = x.mean(axis=0) * centred
        scale = np.sqrt(((x - mean) ** 2).mean(axis=0)) + 1e-6
        if target.all() or not target.any():
            share = (target.sum() + 0.5) / (len(target) + 1)
            return cls(mean, scale, np.zeros(x.shape[1]), np.array([logit(share)]))
        model = LogisticRegression(C=strength, fit_intercept=centred, solver="newton-cholesky")
        model.fit(np.clip((x - mean) / scale, -_LIMIT, _LIMIT), target)
        bias = model.intercept_ if centred else np.zeros(1)
        return cls(mean, scale, model.coef_[0], bias)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Probability that the target is true; float64, shape (n,)."""
        x = np.clip((x.astype(np.float64) - self.mean) / self.scale, -_LIMIT, _LIMIT)
        return expit(x @ self.weights + self.bias)


View = Callable[[Features], np.ndarray]


def _all(f: Features) -> np.ndarray:
    return np.concatenate([f.a - f.b, f.a, f.b, f.prompt, f.pair], axis=1)


def _difference(f: Features) -> np.ndarray:
    return f.a - f.b


def _symmetric(f: Features) -> np.ndarray:
    return np.concatenate([np.abs(f.a - f.b), f.a + f.b, f.prompt, f.pair], axis=1)


def _distance(f: Features) -> np.ndarray:
    return np.concatenate([np.abs(f.a - f.b), f.pair], axis=1)


def _question(f: Features) -> np.ndarray:
    return np.concatenate([f.prompt, f.pair], axis=1)


Model = Forest | Linear


@dataclass(frozen=True)
class _Head:
    """How one expert's winner or tie is learned."""

    view: View
    fit: Callable[[np.ndarray, np.ndarray, int], Model]


def _grown(fewest: int, share: float) -> Callable[[np.ndarray, np.ndarray, int], Model]:
    return lambda x, target, seed: Forest.random(x, target, fewest, share, seed)


_WINNERS = {
    "trees": _Head(_all, _grown(2, 0.1)),
    "linear": _Head(_difference, lambda x, target, _: Linear.fit(x, target, 0.01, centred=False)),
}
_TIES = {
    "trees": _Head(_symmetric, _grown(3, 0.1)),
    "boosted": _Head(_symmetric, Forest.boosted),
    "question": _Head(_question, _grown(3, 0.25)),
    "linear": _Head(_distance, lambda x, target, _: Linear.fit(x, target, 0.001, centred=True)),
}
EXPERTS = {f"features.{name}": name for name in [*_WINNERS, *_TIES]}


@dataclass(frozen=True)
class Experts:
    """All experts, fitted to the same votes."""

    winners: dict[str, Model]
    ties: dict[str, Model]

    @classmethod
    def fit(cls, features: Features, labels: np.ndarray, seed: int) -> Self:
        """Fit to votes; labels 0 = A, 1 = B, 2 = tie, shape (n,)."""
        decisive = features.take(labels != TIE)
        won = labels[labels != TIE] == A
        winners: dict[str, Model] = {}
        for name, head in _WINNERS.items() if len(won) else ():
            x = np.concatenate([head.view(decisive), head.view(decisive.swapped())])
            winners[name] = head.fit(x, np.concatenate([won, ~won]), seed)
        ties = {
            name: head.fit(head.view(features), labels == TIE, seed) for name, head in _TIES.items()
        }
        return cls(winners, ties)

    def save(self, path: Path) -> None:
        """Write all arrays; the same experts give the same bytes."""
        heads = (("winner", self.winners), ("tie", self.ties))
        save_file(
            {
                f"{head}.{name}.{field.name}": np.ascontiguousarray(getattr(model, field.name))
                for head, models in heads
                for name, model in models.items()
                for field in fields(model)
            },
            path,
            metadata={"counts": counts.digest()},
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; a damaged file, or one of other features, is a UserError."""
        models: dict[str, dict[str, dict[str, np.ndarray]]] = {"winner": {}, "tie": {}}
        try:
            with safe_open(path, "numpy") as file:
                if file.metadata() != {"counts": counts.digest()}:
                    raise ValueError("other features were counted when they were fitted")
            for key, array in load_file(path).items():
                head, name, field = key.split(".")
                models[head].setdefault(name, {})[field] = array
            kinds = {True: Forest, False: Linear}
            return cls(
                *(
                    {name: kinds["roots" in arrays](**arrays) for name, arrays in of_head.items()}
                    for of_head in models.values()
                )
            )
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            reason = f"{path}: not experts of this version ({error})"
            raise UserError(f"{reason}. Run dvc repro -f features.") from None

    def predict(self, features: Features) -> dict[str, np.ndarray]:
        """Each expert's p of A, B and tie, (n, 3), by member name; one half without a head."""
        half = np.full(len(features), 0.5)
        found = {}
        for member, name in EXPERTS.items():
            w = t = half
            if name in self.winners:
                view, model = _WINNERS[name].view, self.winners[name]
                w = (
                    model.predict(view(features)) + 1 - model.predict(view(features.swapped()))
                ) / 2
            if name in self.ties:
                t = self.ties[name].predict(_TIES[name].view(features))
            found[member] = np.stack([(1 - t) * w, (1 - t) * (1 - w), t], axis=1)
        return found


def judge(
    features: Features, labels: np.ndarray, rest: np.ndarray, held_out: np.ndarray, seed: int
) -> tuple[Experts, dict[str, np.ndarray]]:
    """Experts fitted to some votes, and what they say of others, whatever the number of threads.

    Args:
        rest, held_out: bool, shape (n,): the votes fitted to, and the others.
    """
    with threadpool_limits(1):  # more would change the last bits
        fitted = Experts.fit(features.take(rest), labels[rest], seed)
        return fitted, fitted.predict(features.take(held_out))


def pooled(answers: dict[str, np.ndarray]) -> np.ndarray:
    """The mean of the experts' log-odds in each head, from p by member name; shape (n, 3)."""
    p = {name: np.clip(answers[member], 0.001, 0.999) for member, name in EXPERTS.items()}
    w = expit(np.mean([np.log(p[name][:, 0] / p[name][:, 1]) for name in _WINNERS], axis=0))
    t = expit(np.mean([logit(p[name][:, TIE]) for name in _TIES], axis=0))
    return np.stack([(1 - t) * w, (1 - t) * (1 - w), t], axis=1)


def clusters(features: Features, groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """Kinds of prompts and answers, for judging models on kinds they have not seen.

    k-means of the prompt's features and of the answers' sums, each ranked to a normal distribution;
    all votes of a prompt group are in one cluster.

    Returns:
        int8, shape (n,): 0 … CLUSTERS - 1, or fewer where fewer groups differ.
    """
    from sklearn.cluster import KMeans
    from sklearn.preprocessing import QuantileTransformer

    parts = []
    for x in (features.prompt, features.a + features.b):
        ranked = QuantileTransformer(
            n_quantiles=min(100, len(x)), output_distribution="normal", random_state=seed
        ).fit_transform(x)
        ranked = np.clip(ranked, -3, 3)
        spread = ranked.std(axis=0)
        kept = spread > 1e-6
        ranked = (ranked[:, kept] - ranked[:, kept].mean(axis=0)) / spread[kept]
        parts.append(ranked / max(1, kept.sum()) ** 0.5)
    mean = pd.DataFrame(np.concatenate(parts, axis=1)).groupby(groups).transform("mean")
    count = min(CLUSTERS, len(np.unique(mean, axis=0)))
    if count < 2:  # nothing to tell them apart by
        return np.zeros(len(mean), dtype=np.int8)
    return KMeans(count, n_init=5, random_state=seed).fit_predict(mean).astype(np.int8)
