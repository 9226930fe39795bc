"""python -m stages.predict: the submission for the test file, and its score where the labels are known.

Reads data.test, models/; writes submission.csv, data/test.json (all scores) and metrics/test.json (those of a leaderboard).
data.solution (labels, with Kaggle's Usage column) and data.truth (true probabilities) are for scoring only. Without a test file the
submission has no rows. Rows that can't be read are listed in submission.unreadable.csv; each is predicted all the same, by the shares of
A, B and tie among the training votes.
"""

from pathlib import Path

import pandas as pd

from pairpref import monitor
from pairpref import predict as prediction
from pairpref.data import quarantine, values
from pairpref.errors import UserError
from pairpref.evaluation import truth
from pairpref.evaluation.metrics import losses, probabilities, scores
from pairpref.files import write_json
from pairpref.monitor import Log
from pairpref.pairs import WINNERS
from pairpref.params import DataParams, Params, in_arena

SUBMISSION = Path("submission.csv")
UNREADABLE = Path("submission.unreadable.csv")
METRICS, FIGURES = Path("metrics/test.json"), Path("data/test.json")


def predict(params: Params, log: Log) -> None:
    if params.data.test is None:
        log.say(
            "no test file for these votes: the submission has no rows. Name one with -S data.test=…"
        )
        submission = pd.DataFrame(columns=["id", *WINNERS])
    else:
        submission = prediction.predict(
            params.data.test,
            prediction.BUNDLE,
            params.predict.batch_size,
            params.parallel,
            log.say,
            unreadable=UNREADABLE,
            keep_going=True,
        )
    if not UNREADABLE.exists():
        quarantine.write(UNREADABLE, [])
    prediction.write(submission, SUBMISSION)
    figures = score(submission, params.data)
    write_json(FIGURES, figures)
    write_json(
        METRICS, {k: figures[k] for k in ("log_loss_public", "log_loss_private") if k in figures}
    )
    log.say(
        f"{len(submission):,} predictions in {SUBMISSION}"
        + "".join(f", {k} {v:.4f}" for k, v in figures.items() if "loss" in k)
    )


def score(submission: pd.DataFrame, data: DataParams) -> dict[str, float]:
    """Scores of a submission against whatever is known of it: n, and with a solution file the public and private log loss."""
    metrics: dict[str, float] = {"n": len(submission)}
    p = probabilities(submission, WINNERS)
    if data.solution and len(submission):
        solution = _solution(data.solution, submission["id"])
        labels = solution[WINNERS].to_numpy().argmax(axis=1)
        metrics |= scores(labels, p) | {
            "log_loss_error": float(losses(labels, p).std(ddof=1) / len(labels) ** 0.5)
        }
        for usage in ("Public", "Private"):
            rows = (solution["Usage"] == usage).to_numpy()
            if rows.any():
                metrics[f"log_loss_{usage.lower()}"] = scores(labels[rows], p[rows])["log_loss"]
                metrics[f"n_{usage.lower()}"] = int(rows.sum())
    # The arena's truth says nothing of anybody else's test file.
    if data.truth and len(submission) and not (in_arena(data.truth) and not in_arena(data.test)):
        known = truth.captured(truth.read(data.truth, submission["id"]), p)
        metrics |= {
            name: known[name]
            for name in ("expected_log_loss", "information_captured")
            if name in known
        }
    return metrics


def _solution(path: str, ids: pd.Series) -> pd.DataFrame:
    """The solution's rows in the order of `ids`."""
    try:
        flags = dict.fromkeys(WINNERS, values.flag)
        columns = ["id", *WINNERS, "Usage"]
        solution = pd.read_csv(
            path, usecols=columns, dtype={"id": str}, converters=flags, na_filter=False
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"data.solution: {path} should be a CSV with id, the three winner columns and Usage: {error}"
        ) from None
    if solution["id"].duplicated().any():
        raise UserError(f"data.solution: {path} names an id twice.")
    solution = ids.to_frame().merge(solution, on="id", how="left")
    if lacking := int(solution["Usage"].isna().sum()):
        raise UserError(
            f"data.solution: {path} lacks {lacking:,} of {len(ids):,} rows of data.test; give the one that belongs to it."
        )
    winners = solution[WINNERS]
    if not (winners.isin([0, 1]).all(axis=None) and (winners.sum(axis=1) == 1).all()):
        raise UserError(
            f"data.solution: {path} has rows without exactly one winner; expected one 1 and two 0 in {', '.join(WINNERS)}."
        )
    return solution


if __name__ == "__main__":
    monitor.run("predict", predict)
