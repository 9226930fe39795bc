"""What a judge answers: the probabilities of a pair, and where they come from."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pairpref.effort import Effort
from pairpref.model.experts import Linear
from pairpref.text import compose, counts

if TYPE_CHECKING:
    from pairpref.training.members import Members, Model, Pairs

_MOST = 8  # features that are named
_IDS = 1 << 30  # ids from here on are those of no word


class Prediction(NamedTuple):
    """How likely a person prefers A, prefers B, or calls it a tie."""

    p_a: float
    p_b: float
    p_tie: float

    def __str__(self) -> str:
        return f"A {self.p_a:.3f}, B {self.p_b:.3f}, tie {self.p_tie:.3f}"


@dataclass(frozen=True)
class Vote:
    """What one member says."""

    member: str
    p: Prediction  # of its folds together
    folds: tuple[Prediction, ...]  # of each of its models; none of an expert
    winner: float  # weight of its log-odds of A against B
    tie: float  # and of those of a tie


@dataclass(frozen=True)
class Part:
    """How much of a text a member reads."""

    name: str  # prompt, A or B
    tokens: int
    read: int
    cut: str  # what is not read


@dataclass(frozen=True)
class Reading:
    """What a trained member reads of a pair."""

    member: str
    windows: int  # inputs that it is shown in
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Difference:
    """A counted feature of the two answers."""

    name: str
    a: float
    b: float
    apart: float  # a - b, in root mean squares of a - b among the training votes


@dataclass(frozen=True)
class Explanation:
    """Of one pair; `print` it to read it."""

    p: Prediction
    a_first: Prediction  # the answer if A alone is shown first
    b_first: Prediction  # if B alone is; p_a is still that of A
    votes: tuple[Vote, ...]
    features: tuple[Difference, ...]  # those that differ most; none where no expert counts
    readings: tuple[Reading, ...]

    def __str__(self) -> str:
        lines = [f"answer      {self.p}", f"A first     {self.a_first}"]
        lines += [f"B first     {self.b_first}", "", "member              weight: A or B, tie"]
        for vote in self.votes:
            lines.append(f"{vote.member:20}{vote.winner:6.2f}{vote.tie:6.2f}   {vote.p}")
        if self.features:
            lines += ["", "feature                     A         B  typical differences"]
        for found in self.features:
            lines.append(f"{found.name:20}{found.a:9.3f} {found.b:9.3f}  {found.apart:+.1f}")
        for reading in self.readings:
            parts = (f"{part.name} {part.read:,} of {part.tokens:,}" for part in reading.parts)
            shown = f" in {reading.windows} windows" if reading.windows > 1 else ""
            lines += ["", f"{reading.member} reads tokens{shown}: {', '.join(parts)}"]
            lines += [f"  not read of {p.name}: {p.cut[:200]!r}" for p in reading.parts if p.cut]
        return "\n".join(lines)


def explain(members: "Members", pair: "Pairs") -> Explanation:
    """Of the one pair in `pair`."""
    effort = Effort()
    first, second = (members.votes(pair, order, effort) for order in ("first", "second"))
    both = members.orders(effort) == "both"
    votes = members.votes(pair, "both", effort) if both else first
    fusion, pooled = members.fusion, members.pooled(votes)
    weights = zip(fusion.members, fusion.winner, fusion.tie, strict=True)
    said = tuple(
        Vote(
            name,
            _prediction(pooled[name][0]),
            tuple(_prediction(p[0]) for p in votes[name] if name in members.models),
            winner,
            tie,
        )
        for name, winner, tie in weights
    )
    readings = tuple(
        _reading(members, name, models[0], pair) for name, models in members.models.items()
    )
    return Explanation(
        _prediction(members.fuse(votes)[0]),
        _prediction(members.fuse(first)[0]),
        _prediction(members.fuse(second)[0]),
        said,
        tuple(_differences(members, pair)),
        readings,
    )


def _prediction(p: np.ndarray) -> Prediction:
    return Prediction(*(p / p.sum()).tolist())


def _differences(members: "Members", pair: "Pairs") -> Iterator[Difference]:
    linear = members.experts.winners.get("linear") if members.experts else None
    if pair.features is None or not isinstance(linear, Linear):
        return
    a, b = pair.features.a[0].astype(float), pair.features.b[0].astype(float)
    apart = (a - b) / linear.scale
    for i in np.argsort(-np.abs(apart), kind="stable")[:_MOST]:
        if apart[i]:
            yield Difference(counts.names()[0][i], float(a[i]), float(b[i]), float(apart[i]))


def _reading(members: "Members", name: str, model: "Model", pair: "Pairs") -> Reading:
    """By composing numbers in the place of the tokens: those that come out are read."""
    prompt, a, b = pair.tokens.pair(0)
    texts, named = [prompt, a], ["prompt", "A"]
    if b is not None:
        texts, named = [*texts, b], [*named, "B"]
    ends = np.cumsum([_IDS, *map(len, texts)])
    numbers = [np.arange(*span, dtype=np.int32) for span in pairwise(ends)]
    config, lengths = model.config, [*map(len, texts if b is not None else [a])]
    member, length, template = config.member, config.longest, members.template
    count = compose.windows(lengths, length, template, config.cut, member)
    of_b, seen = numbers[2] if b is not None else None, []
    for window in range(count):
        seen += compose.inputs(
            member, numbers[0], numbers[1], of_b, length, template, False, config.cut, window
        )
    all_seen = np.concatenate([composed.ids for composed in seen])
    parts = []
    for part, ids, number in zip(named, texts, numbers, strict=True):
        read = np.isin(number, all_seen)
        cut = members.tokenizer.decode(ids[~read]) if not read.all() else ""
        parts.append(Part(part, len(ids), int(read.sum()), cut))
    return Reading(name, count, tuple(parts))
