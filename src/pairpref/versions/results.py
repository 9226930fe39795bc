"""What was measured of the versions and features, and how the versions compare.

Reads what replays commit: versions/measured.csv, versions/<name>/, versions/features/ and
versions/leaderboard.csv.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from pairpref.errors import UserError
from pairpref.evaluation.comparison import Comparison, compare
from pairpref.paths import LEADERBOARD, MEASURED, TEST_SCORES, VERSIONS
from pairpref.versions import predictions as kept
from pairpref.versions.catalog import Catalog, Changes, Version

FEATURES = VERSIONS / "features"
TRAINING = "training.csv"
REGIMES = ("simulated", "public-2024", "private-2024", "rolling")
SCORES = ["version", "date", "regime", "public", "private", "note"]
_FIGURES = ["log_loss", "accuracy", "f1_macro", "log_loss_final", "information_captured"]
_COLUMNS = [*(f"{name}{end}" for name in _FIGURES for end in ("", "_std")), "seeds", "n"]


@dataclass(frozen=True)
class Row:
    """A version. Comparisons are of final probabilities; None where one side is not replayed."""

    name: str
    version: Version
    measured: dict[str, float] | None  # see `measure`; None where it is not replayed
    to_anchor: Comparison | None
    to_parent: Comparison | None  # the first version is compared with the class shares
    on_long: Comparison | None = None  # with the anchor, on long pairs alone


@dataclass(frozen=True)
class Effect:
    """What a feature does: final log loss with and without it, and differences, with − without."""

    key: str
    with_: float
    without: float
    log_loss: Comparison
    f1_macro: tuple[float, float, float]  # difference and its 95 % interval


@dataclass(frozen=True)
class Gap:
    """A leaderboard's score minus the final log loss of the same model (first seed) on fold 0."""

    version: str
    regime: str
    date: str
    holdout: float
    public: float
    private: float
    gap: float  # of the private score where known, or else of the public one
    growth: float  # since the version before in the same regime; nan for the first
    noise: float  # standard error of the growth
    note: str

    @property
    def grows(self) -> bool:
        """Whether the gap has grown by more than chance explains."""
        return self.growth > 2 * self.noise


@dataclass(frozen=True)
class VersionResults:
    """Everything that was measured on the same votes."""

    catalog: Catalog
    rows: list[Row]  # in natural order
    curves: dict[str, pd.DataFrame]  # plots/train.csv of each replayed version
    effects: list[Effect]
    gaps: list[Gap]
    elsewhere: int  # versions replayed on other votes; they count as not replayed
    now: Comparison | None  # the given run against the anchor

    @property
    def replayed(self) -> list[Row]:
        return [row for row in self.rows if row.measured]

    @classmethod
    def load(
        cls,
        catalog: Catalog,
        run: pd.DataFrame | None = None,
        root: Path = Path(),
        features: bool = True,
        long: pd.Series | None = None,
    ) -> Self:
        """Read and compare everything that has been replayed.

        Args:
            run: predictions of a run (see `collect_predictions`). Its votes are the ones that
                count; without it those of the anchor.
            features: whether to compute the effects of features, which takes most of the time.
            long: ids of long pairs, on which versions are compared with the anchor as well.
        """
        measured = read_measured(root / MEASURED)
        names = [name for name in catalog.ordered() if name in measured.index]
        files = {name: predictions_path(name, root) for name in names}
        found = {name: kept.read(path) for name, path in files.items() if path.exists()}
        votes = run if run is not None else found.get(catalog.anchor)
        if votes is None:
            votes = next(iter(found.values()), None)
        same = {name: frame for name, frame in found.items() if kept.same_votes(frame, votes)}

        def against(name: str, other: str | None) -> Comparison | None:
            if name not in same or name == other:
                return None
            if other is None:
                return kept.difference(same[name], kept.class_shares(same[name]))
            return kept.difference(same[name], same[other]) if other in same else None

        anchor = same.get(catalog.anchor)

        def on_long(name: str) -> Comparison | None:
            if anchor is None or long is None or name not in same or name == catalog.anchor:
                return None
            both = (frame[frame["id"].isin(long)] for frame in (same[name], anchor))
            return kept.difference(*both)

        rows = []
        for name in catalog.ordered():
            version = catalog.versions[name]
            figures = measured.loc[name].dropna().to_dict() if name in same else None
            compared = against(name, catalog.anchor), against(name, version.parent)
            rows.append(Row(name, version, figures, *compared, on_long(name)))
        return cls(
            catalog=catalog,
            rows=rows,
            curves={name: pd.read_csv(root / VERSIONS / name / TRAINING) for name in same},
            effects=_effects(catalog, root, votes) if features and votes is not None else [],
            gaps=_gaps(read_leaderboard(root / LEADERBOARD), same, root / TEST_SCORES),
            elsewhere=len(found) - len(same),
            now=None if run is None or anchor is None else kept.difference(run, anchor),
        )


def predictions_path(name: str, root: Path = Path()) -> Path:
    return root / VERSIONS / name / "predictions.parquet"


def side_path(catalog: Catalog, changes: Changes) -> Path:
    """Where one side of a feature is kept: with a version, or under the first feature that has it.

    Raises:
        ValueError: no version and no feature has these changes.
    """
    for name in catalog.versions:
        if catalog.changes(name) == changes:
            return predictions_path(name)
    for key in catalog.features:
        for side, its_changes in zip(("with", "without"), catalog.sides(key), strict=True):
            if its_changes == changes:
                return FEATURES / f"{key}-{side}.parquet"
    raise ValueError(f"no version and no feature changes {changes}")


def read_measured(path: Path) -> pd.DataFrame:
    """versions/measured.csv, a row per version; empty where there is no file.

    Raises:
        UserError: it is damaged.
    """
    if not path.exists():
        return pd.DataFrame(columns=_COLUMNS, index=pd.Index([], name="version"), dtype=float)
    try:
        return pd.read_csv(path, index_col="version")[_COLUMNS].astype(float)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({error}). `git checkout HEAD -- {MEASURED}` restores it."
        ) from None


def measured_csv(table: pd.DataFrame, order: list[str]) -> str:
    """The text of versions/measured.csv, with the versions in the given order."""
    table = table.reindex([name for name in order if name in table.index])
    table = table.astype({"seeds": int, "n": int}).rename_axis("version")
    return table.to_csv(float_format="%.6f", lineterminator="\n")


def read_leaderboard(path: Path) -> pd.DataFrame:
    """versions/leaderboard.csv; empty where there is no file.

    Raises:
        UserError: it can't be read, a regime is unknown, or a score is not a number.
    """
    if not path.exists():
        return pd.DataFrame(columns=SCORES)
    types = dict.fromkeys(SCORES, str) | {"public": float, "private": float}
    try:
        table = pd.read_csv(path, dtype=types)[SCORES].fillna({"note": ""})
        for line, regime in enumerate(table["regime"], 2):
            if regime not in REGIMES:
                raise ValueError(
                    f"line {line}: regime is {regime!r}; expected {', '.join(REGIMES)}"
                )
        return table
    except (ValueError, KeyError) as error:
        raise UserError(
            f"{path}: {error}. The columns are {', '.join(SCORES)}; scores are numbers or empty."
        ) from None


def _effects(catalog: Catalog, root: Path, votes: pd.DataFrame) -> list[Effect]:
    found = []
    for key in catalog.features:
        paths = [root / side_path(catalog, changes) for changes in catalog.sides(key)]
        sides = [kept.read(path) for path in paths if path.exists()]
        if len(sides) == 2 and all(kept.same_votes(side, votes) for side in sides):
            with_, without = (kept.measure(side)["log_loss_final"] for side in sides)
            differences = kept.difference(*sides), kept.f1_difference(*sides)
            found.append(Effect(key, with_, without, *differences))
    return found


def _gaps(table: pd.DataFrame, same: dict[str, pd.DataFrame], test_scores: Path) -> list[Gap]:
    sizes = json.loads(test_scores.read_text(encoding="utf-8")) if test_scores.exists() else {}
    found: list[Gap] = []
    last: dict[str, tuple[float, np.ndarray]] = {}  # of each regime: gap and losses before
    for row in table.to_dict("records"):
        part = "private" if pd.notna(row["private"]) else "public"
        if row["version"] not in same or pd.isna(row[part]):
            continue
        frame = same[row["version"]]
        first_seed = frame[frame["seed"] == frame["seed"].iloc[0]].sort_values("id")
        loss, n = kept.final_losses(first_seed), len(first_seed)
        gap = float(row[part] - loss.mean())
        growth = noise = np.nan
        if row["regime"] in last:
            gap_before, loss_before = last[row["regime"]]
            error = compare(loss, loss_before, first_seed["group"].to_numpy(), count=1).rows_error
            # Both sets of votes are judged by both models, so the errors of both add up. Where the
            # size of a leaderboard is not known, it counts as large as fold 0.
            there = sizes.get(f"n_{part}", n) if row["regime"] == "simulated" else n
            growth, noise = gap - gap_before, error * (1 + n / there) ** 0.5
        found.append(Gap(holdout=float(loss.mean()), gap=gap, growth=growth, noise=noise, **row))
        last[row["regime"]] = gap, loss
    return found
