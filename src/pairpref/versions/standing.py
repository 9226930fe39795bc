"""Where the versions stand: what each was measured at, against the anchor, against its parent, and beside what was documented.

Read from the files that replays commit: versions.csv, versions/<name>/, versions/features/, leaderboard.csv.
"""

import io
import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from pairpref.errors import UserError
from pairpref.evaluation.comparison import Comparison, compare
from pairpref.evaluation.metrics import losses, probabilities
from pairpref.pairs import PROBABILITIES
from pairpref.versions import evidence
from pairpref.versions.catalog import Catalog, Changes, Version

FIGURES = Path("versions.csv")
LEADERBOARD = Path("leaderboard.csv")
TEST = Path("metrics/test.json")
FEATURES = evidence.FOLDER / "features"
TRAINING = "training.csv"

REGIMES = ("simulated", "public-2024", "private-2024", "rolling")
_SCORES = ["version", "date", "regime", "public", "private", "note"]
_MEASURED = ["log_loss", "accuracy", "f1_macro", "log_loss_final", "information_captured"]
_COLUMNS = [
    "version",
    *(name for figure in _MEASURED for name in (figure, f"{figure}_std")),
    "seeds",
    "n",
]


@dataclass(frozen=True)
class Row:
    """A version: what it is, and where replayed, its figures (see `evidence.figures`) and how it compares.

    Attributes:
        to_anchor: against the anchor, last word against last word. None for the anchor, or where one of them is not replayed.
        to_parent: likewise; the first version's is against the shares of A, B and tie.
    """

    name: str
    version: Version
    measured: dict[str, float] | None
    to_anchor: Comparison | None
    to_parent: Comparison | None


@dataclass(frozen=True)
class Effect:
    """What a feature does: log loss with − without it, macro F1 likewise with its interval."""

    key: str
    with_: float
    without: float
    log_loss: Comparison
    f1_macro: tuple[float, float, float]


@dataclass(frozen=True)
class Gap:
    """A leaderboard's score beside the log loss on held-out votes of the same model (first seed, last word).

    Attributes:
        score: private where known, or else public.
        noise: standard error of how far the gap moves from the version before in the same regime; nan for the first.
            A leaderboard whose number of votes is not known counts as if it had as many as the holdout.
    """

    version: str
    regime: str
    date: str
    holdout: float
    public: float
    private: float
    gap: float
    growth: float
    noise: float
    note: str

    @property
    def grows(self) -> bool:
        """Whether the gap has grown by more than twice what luck makes of it."""
        return self.growth > 2 * self.noise


@dataclass(frozen=True)
class Standing:
    """All there is to tell about versions.

    Attributes:
        rows: in natural order.
        curves: plots/train.csv of each replayed version.
        elsewhere: how many versions were replayed on other votes than the run in question; they count as not replayed.
        now: the run in question against the anchor; None where that is not replayed.
    """

    catalog: Catalog
    rows: list[Row]
    curves: dict[str, pd.DataFrame]
    effects: list[Effect]
    gaps: list[Gap]
    elsewhere: int
    now: Comparison | None

    @property
    def replayed(self) -> list[Row]:
        return [row for row in self.rows if row.measured]


def stand(
    catalog: Catalog, run: pd.DataFrame | None = None, root: Path = Path(), features: bool = True
) -> Standing:
    """Read and compare everything that has been replayed.

    Args:
        run: predictions of the run in question (see `evidence.gather`).
        features: whether the effects of features are wanted, which take most of the time.
    """
    figures = read_figures(root / FIGURES)
    there = [
        name
        for name in catalog.ordered()
        if name in figures.index and predictions_of(name, root).exists()
    ]
    everything = {name: evidence.read(predictions_of(name, root)) for name in there}
    reference = (
        run
        if run is not None
        else everything.get(catalog.anchor, next(iter(everything.values()), None))
    )
    kept = {
        name: found for name, found in everything.items() if evidence.same_votes(found, reference)
    }
    anchor = kept.get(catalog.anchor)
    rows = []
    for name in catalog.ordered():
        version = catalog.versions[name]
        measured = figures.loc[name].dropna().to_dict() if name in kept else None
        rows.append(
            Row(
                name,
                version,
                measured,
                *(_against(name, other, kept) for other in (catalog.anchor, version.parent)),
            )
        )
    return Standing(
        catalog=catalog,
        rows=rows,
        curves={name: pd.read_csv(root / evidence.FOLDER / name / TRAINING) for name in kept},
        effects=_effects(catalog, root, reference) if features else [],
        gaps=_gaps(read_leaderboard(root / LEADERBOARD), kept, _test_sizes(root / TEST)),
        elsewhere=len(everything) - len(kept),
        now=evidence.log_loss(run, anchor) if run is not None and anchor is not None else None,
    )


def predictions_of(name: str, root: Path = Path()) -> Path:
    """Where a version's predictions are kept."""
    return root / evidence.FOLDER / name / evidence.PREDICTIONS


def read_figures(path: Path) -> pd.DataFrame:
    """versions.csv by version; empty where it is not there."""
    if not path.exists():
        return pd.DataFrame(columns=_COLUMNS[1:], index=pd.Index([], name="version"), dtype=float)
    try:
        table = pd.read_csv(path, index_col="version")[_COLUMNS[1:]].astype(float)
        if table.index.has_duplicates:
            raise ValueError("a version stands there twice")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged: {' '.join(str(error).split())}. `git checkout HEAD -- {path.name}` brings it back."
        ) from None
    return table


def to_csv(figures: pd.DataFrame, order: list[str]) -> str:
    """versions.csv, in the given order of versions."""
    table = figures.reindex([name for name in order if name in figures.index]).astype(
        {"seeds": int, "n": int}
    )
    return table.rename_axis("version").to_csv(float_format="%.6f", lineterminator="\n")


def class_shares(predictions: pd.DataFrame) -> pd.DataFrame:
    """The answer that knows nothing but the shares of A, B and tie, in the shape of a run's predictions."""
    shares = predictions["label"].value_counts(normalize=True).reindex(range(3), fill_value=0)
    return predictions.assign(**dict(zip(PROBABILITIES, shares, strict=True)))[
        ["id", "group", "label", "seed", *PROBABILITIES]
    ]


def _against(name: str, other: str | None, kept: dict[str, pd.DataFrame]) -> Comparison | None:
    if name not in kept or name == other or (other is not None and other not in kept):
        return None
    return evidence.log_loss(kept[name], class_shares(kept[name]) if other is None else kept[other])


def side_path(catalog: Catalog, changes: Changes) -> Path | None:
    """Where the predictions of one side of a feature are kept: with a version of the same params, or under the first feature that has
    this side. None where no version and no feature has these changes."""
    for name in catalog.versions:
        if catalog.changes(name) == changes:
            return predictions_of(name)
    for key in catalog.features:
        for side, its_changes in zip(("with", "without"), catalog.sides(key), strict=True):
            if its_changes == changes:
                return FEATURES / f"{key}-{side}.parquet"
    return None


def _effects(catalog: Catalog, root: Path, reference: pd.DataFrame | None) -> list[Effect]:
    found = []
    for key in catalog.features if reference is not None else ():
        paths = [root / side_path(catalog, changes) for changes in catalog.sides(key)]
        sides = [evidence.read(path) for path in paths if path.exists()]
        if len(sides) == 2 and all(evidence.same_votes(side, reference) for side in sides):
            a, b = sides
            levels = (evidence.figures(side)["log_loss_final"] for side in (a, b))
            found.append(Effect(key, *levels, evidence.log_loss(a, b), evidence.f1_macro(a, b)))
    return found


def read_leaderboard(path: Path) -> pd.DataFrame:
    """leaderboard.csv: version, date, regime, public, private, note.

    Raises:
        UserError: it can't be read, or a regime is unknown or a score no number.
    """
    if not path.exists():
        return pd.DataFrame(columns=_SCORES)
    try:
        table = pd.read_csv(
            path,
            dtype={name: str for name in ("version", "date", "regime", "note")},
            keep_default_na=False,
            na_values={"public": "", "private": ""},
        )
    except ValueError as error:
        raise UserError(f"{path}: not readable as CSV: {error}") from None
    if list(table) != _SCORES:
        raise UserError(
            f"{path}: has the columns {', '.join(table)}; expected {', '.join(_SCORES)}."
        )
    for line, row in enumerate(table.itertuples(), 2):
        if row.regime not in REGIMES:
            raise UserError(
                f"{path}, line {line}: regime is {row.regime!r}; expected {', '.join(REGIMES)}. Scores of different regimes don't compare."
            )
        if row.date and not _is_date(row.date):
            raise UserError(
                f"{path}, line {line}: date is {row.date!r}; expected e.g. 2024-08-31, or nothing."
            )
        for name in ("public", "private"):
            if not isinstance(getattr(row, name), int | float):
                raise UserError(
                    f"{path}, line {line}: {name} is {getattr(row, name)!r}; expected a log loss, or nothing."
                )
    return table


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def leaderboard_csv(table: pd.DataFrame) -> str:
    """leaderboard.csv of a table with its columns."""
    return table[_SCORES].to_csv(index=False, float_format="%.5f", lineterminator="\n")


def _test_sizes(path: Path) -> dict[str, int]:
    """Votes in the public and in the private part of the test file, where that has labels."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {part: found[f"n_{part}"] for part in ("public", "private") if f"n_{part}" in found}


def _gaps(scores: pd.DataFrame, kept: dict[str, pd.DataFrame], sizes: dict[str, int]) -> list[Gap]:
    found: list[Gap] = []
    for row in scores.to_dict("records"):
        part = "private" if pd.notna(row["private"]) else "public"
        if row["version"] not in kept or pd.isna(row[part]):
            continue
        loss, groups = _first_losses(kept[row["version"]])
        gap = row[part] - loss.mean()
        before = next((g for g in reversed(found) if g.regime == row["regime"]), None)
        growth = noise = np.nan
        if before is not None:
            # Holdout and leaderboard are different votes, each judged by both models: the gap moves by the error of both differences.
            error = compare(
                loss[None], _first_losses(kept[before.version])[0][None], groups, count=1
            ).rows_error
            there = sizes.get(part, len(loss)) if row["regime"] == "simulated" else len(loss)
            growth, noise = gap - before.gap, error * (1 + len(loss) / there) ** 0.5
        found.append(
            Gap(
                holdout=float(loss.mean()),
                gap=float(gap),
                growth=float(growth),
                noise=float(noise),
                **row,
            )
        )
    return found


def _first_losses(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The first seed's loss of each vote, and the prompt groups."""
    first = predictions[predictions["seed"] == predictions["seed"].iloc[0]].sort_values("id")
    return losses(first["label"].to_numpy(int), probabilities(first, evidence.final(first))), first[
        "group"
    ].to_numpy()


def from_kaggle(listing: str, regime: str, known: list[str]) -> pd.DataFrame:
    """Rows for leaderboard.csv from what `kaggle competitions submissions -v` lists.

    Args:
        listing: CSV with fileName, date, description, status, publicScore, privateScore. A line belongs to the version that its file
            name or description names; lines that name none are left out.
        known: names of versions.

    Raises:
        UserError: it is no such listing, or a line names two versions.
    """
    try:
        table = pd.read_csv(io.StringIO(listing), dtype=str, keep_default_na=False)
    except ValueError as error:
        raise UserError(f"the listing is not readable as CSV: {error}") from None
    if missing := {"fileName", "date", "description", "publicScore"} - set(table):
        raise UserError(
            f"the listing lacks {', '.join(sorted(missing))}; expected what `kaggle competitions submissions -v` prints."
        )
    rows = []
    for row in table.to_dict("records"):
        words = (
            f"{row['description']} {row['fileName']}".replace("_", " ").replace(".csv", " ").split()
        )
        version, *others = sorted({word for word in words if word in known}) or [None]
        if others:
            raise UserError(
                f"the listing's line “{row['description']}” ({row['fileName']}) names {version} and {others[0]}; whose score is it? "
                "Leave one name, or the line, out."
            )
        if version and row["publicScore"]:
            try:
                scores = [
                    round(float(row.get(name) or "nan"), 5)
                    for name in ("publicScore", "privateScore")
                ]
                if not _is_date(row["date"][:10]):
                    raise UserError(
                        f"the listing's date of {version} is {row['date']!r}; expected e.g. 2024-08-31 10:00:00."
                    )
            except ValueError:
                raise UserError(
                    f"the listing's score of {version} is no number: {row['publicScore']!r}. Leave that line out."
                ) from None
            rows.append([version, row["date"][:10], regime, *scores, row["description"]])
    return pd.DataFrame(rows, columns=_SCORES)
