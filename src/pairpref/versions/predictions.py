"""What a run is judged by: its predictions on fold 0 from each seed, and figures of them.

Every version is judged on the same rows. Probabilities are rounded to 5 decimals before they are
judged, so that the kept file and the figures can't disagree.
"""

import io
from pathlib import Path

import numpy as np
import pandas as pd

from pairpref.errors import UserError
from pairpref.evaluation import fusion, intervals, sufficient_statistics, truth
from pairpref.evaluation.calibration import CALIBRATED, cross_fitted, splits
from pairpref.evaluation.comparison import Comparison, compare, effective_groups, margin_of
from pairpref.evaluation.metrics import answers, losses, probabilities, scores
from pairpref.files import written_aside
from pairpref.pairs import PROBABILITIES
from pairpref.params import Params
from pairpref.paths import FEATURES_OOF, MEMBERS, PAIRS, SEEDS

DECIMALS = 5
_ROWS = ["id", "group", "label"]
_TRIPLES = (PROBABILITIES, CALIBRATED)


def collect_predictions(params: Params, root: Path = Path()) -> pd.DataFrame:
    """Predictions of the finished run in a folder: id, group, label, seed, p_a, p_b, p_tie, and
    with calibration c_a, c_b, c_tie.

    Each seed is calibrated, or its members are fused, on the other prompts of fold 0 (see
    `calibration.cross_fitted`), so that versions compare whatever the number of trained folds.

    Raises:
        UserError: there is no finished run, or its files are damaged.
    """
    try:
        found = answers(pd.read_parquet(root / SEEDS), params.inference.dual_order)
        groups = pd.read_parquet(root / PAIRS, columns=["id", "group"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"there is no run to judge in {SEEDS} and {PAIRS} ({error}). `dvc repro` makes one, "
            "`dvc checkout --force` restores the last one."
        ) from None
    found = found.merge(groups, on="id", how="left", validate="many_to_one")
    found = found[[*_ROWS, "seed", *PROBABILITIES]]
    fused = len(params.fusion.members) > 1
    if params.oof.enabled and (fused or params.calibrate.method != "none"):
        found[CALIBRATED] = np.nan
        for seed, part in found.groupby("seed"):
            labels, prompts = part["label"].to_numpy(int), part["group"].to_numpy()
            one_fold, p = np.zeros(len(part), dtype=int), probabilities(part)
            if fused:
                exports = pd.read_parquet(root / MEMBERS), pd.read_parquet(root / FEATURES_OOF)
                home_rows, _ = fusion.answers_of(part, *exports, seed)
                members, home = fusion.stacked(part["id"], home_rows)
                parts = splits(one_fold, prompts)
                p = fusion.cross_fitted(members, home, None, labels, parts)
            else:
                p = cross_fitted(p, labels, one_fold, prompts, params.calibrate.method)
            found.loc[part.index, CALIBRATED] = p
    return rounded(found)


def write(predictions: pd.DataFrame, path: Path) -> None:
    """Keep predictions as integers of 1e-5. The third probability follows from the other two."""
    kept = predictions.drop(columns=[triple[2] for triple in _TRIPLES], errors="ignore")
    numbers = _numbers(kept)
    kept[numbers] = (kept[numbers] * 10**DECIMALS).round().astype(np.int32)
    with written_aside(path) as (to,):
        kept.to_parquet(to, index=False, compression="zstd", compression_level=19)


def read(source: Path | bytes) -> pd.DataFrame:
    """Predictions as `collect_predictions` returned them, from a kept file or its bytes.

    Raises:
        UserError: it is damaged.
    """
    try:
        kept = pd.read_parquet(io.BytesIO(source) if isinstance(source, bytes) else source)
        kept = kept.astype({"label": np.int64})
        numbers = _numbers(kept)
        kept[numbers] = kept[numbers] / 10**DECIMALS
        found = rounded(kept)
        columns = [*_ROWS, "seed", *PROBABILITIES]
        return found[[*columns, *CALIBRATED] if CALIBRATED[0] in found else columns]
    except (ValueError, KeyError) as error:
        name = source if isinstance(source, Path) else "a version's predictions file"
        raise UserError(
            f"{name} is damaged ({error}). `git checkout HEAD -- versions` restores it."
        ) from None


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
    """The same with the final probabilities in p_a, p_b, p_tie: calibrated where there are such."""
    if CALIBRATED[0] not in predictions:
        return predictions
    final = predictions[CALIBRATED].set_axis(PROBABILITIES, axis=1)
    return predictions.assign(**final).drop(columns=CALIBRATED)


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
    votes, before = _by_seed(predictions)
    _, after = _by_seed(final_probabilities(predictions))
    labels = votes["label"].to_numpy(int)
    true = truth.read(truth_file, votes["id"]) if truth_file else None
    rows = []
    for p, final in zip(before, after, strict=True):
        found = scores(labels, p)
        row = {name: found[name] for name in ("log_loss", "accuracy", "f1_macro")}
        row["log_loss_final"] = scores(labels, final)["log_loss"]
        if true is not None:
            captured = truth.captured(true, final)
            row["information_captured"] = captured.get("information_captured", np.nan)
        rows.append(row)
    table = pd.DataFrame(rows)
    spread = table.std().add_suffix("_std").to_dict() if len(rows) > 1 else {}
    return table.mean().to_dict() | spread | {"seeds": len(rows), "n": len(labels)}


def difference(new: pd.DataFrame, old: pd.DataFrame) -> Comparison:
    """Final log loss of two runs on the same votes, new − old, over the seeds that both have."""
    a, b = _paired(new, old)
    return compare(final_losses(a), final_losses(b), _by_seed(a)[0]["group"].to_numpy())


def f1_difference(new: pd.DataFrame, old: pd.DataFrame) -> tuple[float, float, float]:
    """Final macro F1, new − old, and its 95 % interval over prompt groups and seeds."""
    (votes, a), (_, b) = (_by_seed(final_probabilities(run)) for run in _paired(new, old))
    labels, groups = votes["label"].to_numpy(int), votes["group"].to_numpy()
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
    rows = predictions[[*_ROWS, "seed"]]
    return rows.assign(**dict(zip(PROBABILITIES, shares, strict=True)))


def final_losses(predictions: pd.DataFrame) -> np.ndarray:
    """Final loss of each vote, sorted by id, under each seed; shape (seeds, n)."""
    votes, after = _by_seed(final_probabilities(predictions))
    labels = votes["label"].to_numpy(int)
    return np.stack([losses(labels, p) for p in after])


def _numbers(kept: pd.DataFrame) -> list[str]:
    return [name for triple in _TRIPLES for name in triple[:2] if name in kept]


def _by_seed(predictions: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """The votes, sorted by id, and their p_a, p_b, p_tie from all seeds: (seeds, n, 3)."""
    ordered = predictions.sort_values(["seed", "id"], ignore_index=True)
    votes = ordered[ordered["seed"] == ordered["seed"][0]]
    return votes, probabilities(ordered).reshape(-1, len(votes), 3)


def _paired(new: pd.DataFrame, old: pd.DataFrame) -> list[pd.DataFrame]:
    """Both runs with the seeds that both have."""
    if not same_votes(new, old):
        raise UserError("The two runs were judged on different votes, so they don't compare.")
    common = set(new["seed"]) & set(old["seed"])
    if not common:
        raise UserError("No seed is in both runs, so they don't compare.")
    return [run[run["seed"].isin(common)] for run in (new, old)]
