"""What a run is judged by: its predictions on fold 0 from each seed, and figures of them.

Every version is judged on the same rows. Probabilities are rounded to 5 decimals before they are
judged, so that the kept file and the figures can't disagree.
"""

import io
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
from pairpref.paths import PAIRS, SEEDS

DECIMALS = 5
_ROWS = ["id", "group", "label"]
_TRIPLES = (PROBABILITIES, CALIBRATED)


def collect_predictions(params: Params, root: Path = Path()) -> pd.DataFrame:
    """Predictions of the finished run in a folder: id, group, label, seed, p_a, p_b, p_tie, and
    with calibration c_a, c_b, c_tie.

    Each seed is calibrated on the other prompts of fold 0 (see `calibration.cross_fitted`), so that
    versions compare whatever the number of trained folds.

    Raises:
        UserError: there is no finished run, or its files are damaged.
    """
    for path in (SEEDS, PAIRS):
        if not (root / path).exists():
            raise UserError(
                f"{path} does not exist, so there is no run to judge. "
                "`dvc repro` makes one, `dvc checkout` restores the last one."
            )
    try:
        found = answers(pd.read_parquet(root / SEEDS), params.inference.dual_order)
        groups = pd.read_parquet(root / PAIRS, columns=["id", "group"])
    except (ValueError, KeyError) as error:
        raise _damaged(f"{SEEDS} or {PAIRS}", error) from None
    found = found.merge(groups, on="id", how="left", validate="many_to_one")
    found = found[[*_ROWS, "seed", *PROBABILITIES]]
    if params.oof.enabled and params.calibrate.method != "none":
        calibrated = np.empty((len(found), 3))
        for seed in found["seed"].unique():
            at = (found["seed"] == seed).to_numpy()
            part = found[at]
            labels, prompts = part["label"].to_numpy(int), part["group"].to_numpy()
            one_fold = np.zeros(len(part), dtype=int)
            calibrated[at] = cross_fitted(
                probabilities(part), labels, one_fold, prompts, params.calibrate.method
            )
        found[CALIBRATED] = calibrated
    return rounded(found)


def write(predictions: pd.DataFrame, path: Path) -> None:
    """Keep predictions as integers of 1e-5. The third probability follows from the other two."""
    kept = predictions.drop(columns=[triple[2] for triple in _TRIPLES], errors="ignore")
    numbers = _stored(kept)
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
    """Predictions as `collect_predictions` returned them, from a kept file or its bytes.

    Raises:
        UserError: it is damaged.
    """
    try:
        kept = pd.read_parquet(io.BytesIO(source) if isinstance(source, bytes) else source)
        kept = kept.astype({"label": np.int64})
    except (ValueError, KeyError) as error:
        name = source if isinstance(source, Path) else "a version's predictions file"
        raise _damaged(name, error) from None
    numbers = _stored(kept)
    kept[numbers] = kept[numbers] / 10**DECIMALS
    found = rounded(kept)
    return found[[name for name in (*_ROWS, "seed", *PROBABILITIES, *CALIBRATED) if name in found]]


def rounded(predictions: pd.DataFrame) -> pd.DataFrame:
    """All probabilities as multiples of 1e-5 and at least 1e-5: a 0 would cost a vote 36 nats."""
    smallest = 10.0**-DECIMALS
    for triple in _TRIPLES:
        if triple[0] in predictions:
            kept = predictions[triple[:2]].astype(np.float64).round(DECIMALS).clip(lower=smallest)
            third = (1 - kept[triple[0]] - kept[triple[1]]).round(DECIMALS).clip(lower=smallest)
            predictions = predictions.assign(**kept, **{triple[2]: third})
    return predictions


def final_probabilities(predictions: pd.DataFrame) -> pd.DataFrame:
    """The same with the final probabilities in p_a, p_b, p_tie, and no others."""
    last = predictions[final_columns(predictions)].set_axis(PROBABILITIES, axis=1)
    return predictions.assign(**last).drop(columns=CALIBRATED, errors="ignore")


def final_columns(predictions: pd.DataFrame) -> list[str]:
    """The columns with a run's final probabilities: calibrated where it calibrates."""
    return CALIBRATED if CALIBRATED[0] in predictions else PROBABILITIES


def same_votes(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether two runs were judged on the same votes: ids, labels and prompt groups."""
    a, b = (
        table[_ROWS].drop_duplicates("id").sort_values("id", ignore_index=True).astype(str)
        for table in (one, other)
    )
    return a.equals(b)


def measure(predictions: pd.DataFrame, truth_file: Path | None = None) -> dict[str, float]:
    """The figures of a run: mean over seeds and, of several seeds, standard deviation (_std).

    Returns:
        log_loss, accuracy, f1_macro before calibration, log_loss_final after it and, where the
        truth is known, information_captured after it; seeds and n.
    """
    first, before = _by_seed(predictions, PROBABILITIES)
    _, after = _by_seed(predictions, final_columns(predictions))
    labels = first["label"].to_numpy(int)
    true = truth.read(truth_file, first["id"]) if truth_file else None
    rows = []
    for p, last in zip(before, after, strict=True):
        found = scores(labels, p)
        row = {name: found[name] for name in ("log_loss", "accuracy", "f1_macro")}
        row["log_loss_final"] = scores(labels, last)["log_loss"]
        if true is not None:
            captured = truth.captured(true, last)
            row["information_captured"] = captured.get("information_captured", np.nan)
        rows.append(row)
    table = pd.DataFrame(rows)
    spread = table.std().add_suffix("_std").to_dict() if len(rows) > 1 else {}
    return table.mean().to_dict() | spread | {"seeds": len(rows), "n": len(labels)}


def difference(new: pd.DataFrame, old: pd.DataFrame) -> Comparison:
    """Final log loss of two runs on the same votes, new − old, over the seeds that both have."""
    first, a, b = _paired(new, old)
    return compare(_losses(first, a), _losses(first, b), first["group"].to_numpy())


def f1_difference(new: pd.DataFrame, old: pd.DataFrame) -> tuple[float, float, float]:
    """Final macro F1, new − old, and its 95 % interval over prompt groups and seeds."""
    first, a, b = _paired(new, old)
    labels, groups = first["label"].to_numpy(int), first["group"].to_numpy()
    cells = [sufficient_statistics.cells(labels, p) for p in (*a, *b)]
    columns = np.concatenate(cells, axis=1)

    def differences(sums: np.ndarray) -> np.ndarray:
        counts = sums.reshape(*sums.shape[:-1], 2, len(a), 3, 3)
        f1 = sufficient_statistics.f1(counts).mean(axis=-1)
        return f1[..., 0, :] - f1[..., 1, :]

    by_seed = differences(columns.sum(axis=0))
    error = intervals.resampled(columns, groups, differences).mean(axis=1).std(ddof=1)
    margin = margin_of(error, effective_groups(np.unique(groups, return_counts=True)[1]), by_seed)
    mean = float(by_seed.mean())
    return mean, mean - margin, mean + margin


def class_shares(predictions: pd.DataFrame) -> pd.DataFrame:
    """Predictions of the class shares for every vote of a run."""
    shares = predictions["label"].value_counts(normalize=True).reindex(range(3), fill_value=0)
    rows = predictions[["id", "group", "label", "seed"]]
    return rows.assign(**dict(zip(PROBABILITIES, shares, strict=True)))


def first_losses(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Final loss of each vote under the first seed, shape (1, n), and the prompt groups."""
    first_seed = predictions[predictions["seed"] == predictions["seed"].iloc[0]]
    first, p = _by_seed(first_seed, final_columns(predictions))
    return _losses(first, p), first["group"].to_numpy()


def _stored(kept: pd.DataFrame) -> list[str]:
    return [name for triple in _TRIPLES for name in triple[:2] if name in kept]


def _damaged(what: object, error: Exception) -> UserError:
    why = " ".join(str(error).split())[:120]
    return UserError(
        f"{what} is damaged: {why}. "
        "`dvc checkout --force` or `git checkout HEAD -- versions` restores it."
    )


def _by_seed(predictions: pd.DataFrame, columns: list[str]) -> tuple[pd.DataFrame, np.ndarray]:
    """The rows of one seed, sorted by id, and the probabilities of all seeds: (seeds, n, 3)."""
    ordered = predictions.sort_values(["seed", "id"], ignore_index=True)
    first = ordered[ordered["seed"] == ordered["seed"][0]]
    return first, probabilities(ordered, columns).reshape(-1, len(first), 3)


def _paired(new: pd.DataFrame, old: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """As `_by_seed`, the final probabilities of both runs from the seeds that both have."""
    if not same_votes(new, old):
        raise UserError("The two runs were judged on different votes, so they don't compare.")
    seeds = [sorted(set(run["seed"])) for run in (new, old)]
    if not (common := set(seeds[0]) & set(seeds[1])):
        raise UserError(f"No seed is in both runs: {seeds[0]} and {seeds[1]}.")
    (first, a), (_, b) = (
        _by_seed(run[run["seed"].isin(common)], final_columns(run)) for run in (new, old)
    )
    return first, a, b


def _losses(first: pd.DataFrame, p: np.ndarray) -> np.ndarray:
    labels = first["label"].to_numpy(int)
    return np.stack([losses(labels, of_seed) for of_seed in p])
