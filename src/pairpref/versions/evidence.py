"""What a run leaves behind to be judged by: its predictions of fold 0 from each seed, small enough for git.

Every version is judged on the same rows, those of fold 0, and every figure of a version is computed from what is kept here. Probabilities
are rounded to 5 decimals before they are judged, so that the file and the figures can't disagree.
"""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from pairpref.errors import UserError
from pairpref.evaluation import intervals, sufficient_statistics, truth
from pairpref.evaluation.calibration import CALIBRATED, cross_fitted
from pairpref.evaluation.comparison import Comparison, compare, effective_groups, margin_of
from pairpref.evaluation.metrics import answers, losses, probabilities, scores
from pairpref.files import written_aside
from pairpref.pairs import PROBABILITIES
from pairpref.params import Params

FOLDER = Path("versions")
PREDICTIONS = "predictions.parquet"
SEEDS, PAIRS = Path("data/oof/seeds.parquet"), Path("data/clean/pairs.parquet")

DECIMALS = 5
_ROWS = ["id", "group", "label"]
_TRIPLES = (PROBABILITIES, CALIBRATED)


def gather(params: Params, root: Path = Path()) -> pd.DataFrame:
    """Predictions of the finished run in a folder: id, group, label, seed, p_a, p_b, p_tie, and with calibration c_a, c_b, c_tie.

    The calibrated ones are fitted for each seed on the other prompts of the fold (see `pairpref.evaluation.calibration.cross_fitted`), so
    that they compare whatever the number of trained folds.

    Raises:
        UserError: no run has finished there.
    """
    for path in (SEEDS, PAIRS):
        if not (root / path).exists():
            raise UserError(
                f"{path} is not there: no run to judge. `dvc repro` makes one, `dvc checkout` brings the last one back."
            )
    try:
        found = answers(pd.read_parquet(root / SEEDS), params.inference.dual_order)
        groups = pd.read_parquet(root / PAIRS, columns=["id", "group"])
    except (ValueError, KeyError) as error:
        raise _damaged(f"{SEEDS} or {PAIRS}", error) from None
    found = found.merge(groups, on="id", how="left", validate="many_to_one")[
        [*_ROWS, "seed", *PROBABILITIES]
    ]
    if params.oof.enabled and params.calibrate.method != "none":
        calibrated = np.empty((len(found), 3))
        for rows, part in _by_seed(found):
            one_fold = np.zeros(len(part), dtype=int)
            calibrated[rows] = cross_fitted(
                probabilities(part),
                part["label"].to_numpy(int),
                one_fold,
                part["group"].to_numpy(),
                params.calibrate.method,
            )
        found[CALIBRATED] = calibrated
    return rounded(found)


def _damaged(what: object, error: Exception) -> UserError:
    """DVC brings back what the pipeline wrote, git what a replay wrote."""
    why = " ".join(str(error).split())[:120]
    return UserError(
        f"{what} is damaged: {why}. `dvc checkout --force` or `git checkout HEAD -- versions` brings it back."
    )


def write(predictions: pd.DataFrame, path: Path) -> None:
    """Keep predictions, as whole numbers of 1e-5. The third probability is what the other two leave."""
    kept = predictions.drop(columns=[columns[2] for columns in _TRIPLES], errors="ignore")
    numbers = [name for columns in _TRIPLES for name in columns[:2] if name in kept]
    kept[numbers] = (kept[numbers] * 10**DECIMALS).round().astype(np.int32)
    with written_aside(path) as (to,):
        kept.astype({"label": np.int8}).to_parquet(
            to,
            index=False,
            compression="zstd",
            compression_level=19,
            use_dictionary=[*_ROWS, "seed"],
            use_byte_stream_split=numbers,
        )


def read(source: Path | bytes) -> pd.DataFrame:
    """Predictions as `gather` gave them.

    Args:
        source: a file, or its bytes.

    Raises:
        UserError: it is damaged.
    """
    try:
        kept = pd.read_parquet(io.BytesIO(source) if isinstance(source, bytes) else source).astype(
            {"label": np.int64}
        )
    except (ValueError, KeyError) as error:
        raise _damaged(
            source if isinstance(source, Path) else "a version's predictions", error
        ) from None
    numbers = [name for columns in _TRIPLES for name in columns[:2] if name in kept]
    kept[numbers] = kept[numbers] / 10**DECIMALS
    found = rounded(kept)
    return found[[name for name in (*_ROWS, "seed", *PROBABILITIES, *CALIBRATED) if name in found]]


def last_word(predictions: pd.DataFrame) -> pd.DataFrame:
    """The same with the final probabilities in p_a, p_b, p_tie and no others."""
    return predictions.assign(
        **{p: predictions[c] for p, c in zip(PROBABILITIES, final(predictions), strict=True)}
    ).drop(columns=CALIBRATED, errors="ignore")


def rounded(predictions: pd.DataFrame) -> pd.DataFrame:
    """All probabilities as multiples of 1e-5, none of them 0: a rounded 0 would cost a vote 36 nats."""
    smallest = 10.0**-DECIMALS
    for columns in _TRIPLES:
        if columns[0] in predictions:
            first, second = (
                predictions[name].astype(np.float64).round(DECIMALS).clip(lower=smallest)
                for name in columns[:2]
            )
            third = (1 - first - second).round(DECIMALS).clip(lower=smallest)
            predictions = predictions.assign(
                **dict(zip(columns, (first, second, third), strict=True))
            )
    return predictions


def final(predictions: pd.DataFrame) -> list[str]:
    """The columns of a run's last word: calibrated where it calibrates."""
    return CALIBRATED if CALIBRATED[0] in predictions else PROBABILITIES


def same_votes(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether two runs were judged on the same votes: ids, labels and prompt groups."""
    a, b = (
        t[_ROWS].drop_duplicates("id").sort_values("id", ignore_index=True) for t in (one, other)
    )
    return a.astype(str).equals(b.astype(str))


def figures(predictions: pd.DataFrame, true: np.ndarray | None = None) -> dict[str, float]:
    """Mean over seeds and, of several, standard deviation (_std), on fold 0.

    Args:
        true: true probabilities of the rows, where known; shape (n, 3).

    Returns:
        log_loss, accuracy, f1_macro before calibration, log_loss_final after it and, where the truth is known, information_captured
        after it; seeds and n.
    """
    rows = []
    for at, part in _by_seed(predictions):
        labels, last = part["label"].to_numpy(int), probabilities(part, final(part))
        before = scores(labels, probabilities(part))
        row = {name: before[name] for name in ("log_loss", "accuracy", "f1_macro")}
        row["log_loss_final"] = scores(labels, last)["log_loss"]
        if true is not None:
            row["information_captured"] = truth.captured(true[at], last).get(
                "information_captured", np.nan
            )
        rows.append(row)
    table = pd.DataFrame(rows)
    found = {name: float(table[name].mean()) for name in table}
    if len(table) > 1:
        found |= {f"{name}_std": float(table[name].std(ddof=1)) for name in table}
    return found | {"seeds": len(table), "n": len(predictions) // len(table)}


def log_loss(
    new: pd.DataFrame, old: pd.DataFrame, columns: tuple[list[str], list[str]] | None = None
) -> Comparison:
    """Difference in log loss of two runs on the same votes, seed by seed. Seeds that only one of them has are left out.

    Args:
        columns: which probabilities of each; None for the last word of both.
    """
    a, b = _paired(new, old)
    of_new, of_old = columns or (final(new), final(old))
    return compare(_by_row(a, of_new), _by_row(b, of_old), _first(a)["group"].to_numpy())


def f1_macro(new: pd.DataFrame, old: pd.DataFrame) -> tuple[float, float, float]:
    """Difference in macro F1, and its 95 % interval over prompt groups and seeds (see `compare`)."""
    a, b = _paired(new, old)
    groups, seeds = _first(a)["group"].to_numpy(), a["seed"].nunique()
    cells = [
        sufficient_statistics.cells(p["label"].to_numpy(int), probabilities(p, final(p)))
        for t in (a, b)
        for _, p in _by_seed(t)
    ]

    def differences(sums: np.ndarray) -> np.ndarray:
        each = sufficient_statistics.f1(sums.reshape(*sums.shape[:-1], 2, seeds, 3, 3)).mean(axis=-1)
        return each[..., 0, :] - each[..., 1, :]

    columns = np.concatenate(cells, axis=1)
    of_seed = differences(columns.sum(axis=0))
    error = intervals.resampled(columns, groups, differences).mean(axis=1).std(ddof=1)
    margin = margin_of(error, effective_groups(np.unique(groups, return_counts=True)[1]), of_seed)
    return float(of_seed.mean()), float(of_seed.mean() - margin), float(of_seed.mean() + margin)


def _paired(new: pd.DataFrame, old: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    if not same_votes(new, old):
        raise UserError(
            "The two runs were judged on different votes, so their figures don't compare."
        )
    seeds = sorted(set(new["seed"]) & set(old["seed"]))
    if not seeds:
        raise UserError(
            f"No seed is in both: {sorted(set(new['seed']))} and {sorted(set(old['seed']))}; figures compare seed by seed."
        )
    return tuple(
        t[t["seed"].isin(seeds)].sort_values(["seed", "id"], ignore_index=True) for t in (new, old)
    )


def _by_seed(predictions: pd.DataFrame) -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
    """Where a seed's rows are, and the rows."""
    for seed in predictions["seed"].unique():
        rows = (predictions["seed"] == seed).to_numpy()
        yield rows, predictions[rows]


def _first(predictions: pd.DataFrame) -> pd.DataFrame:
    return predictions[predictions["seed"] == predictions["seed"].iloc[0]]


def _by_row(predictions: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """Losses; shape (seeds, n)."""
    each = [
        losses(part["label"].to_numpy(int), probabilities(part, columns))
        for _, part in _by_seed(predictions)
    ]
    return np.stack(each)
