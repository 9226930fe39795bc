"""python -m stages.predict: the submission for the test file, and its score where labels are known.

Reads data.test and models/; writes submission.csv, submission.unreadable.csv, data/test.json (all
scores) and metrics/test.json (those of a leaderboard). data.solution and data.truth are used for
scoring only. Without a test file the submission has no rows.
"""

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
from pairpref.paths import MODELS, SUBMISSION, TEST_METRICS, TEST_SCORES, UNREADABLE, WORK


def predict(params: Params, log: Log) -> None:
    if params.data.test is None:
        log.say("no test file for these votes (data.test): the submission has no rows")
        submission = pd.DataFrame(columns=["id", *WINNERS])
    else:
        submission = prediction.predict(
            params.data.test,
            MODELS,
            log.say,
            UNREADABLE,
            kept=WORK / "predict",
            batch_size=params.predict.batch_size,
            precision=params.predict.precision,
            parallel=params.parallel,
            keep_going=True,
        )
    if not UNREADABLE.exists():
        quarantine.write(UNREADABLE, [])
    prediction.write(submission, SUBMISSION)
    figures = score(submission, params.data)
    write_json(TEST_SCORES, figures)
    leaderboard = ("log_loss_public", "log_loss_private")
    write_json(TEST_METRICS, {name: figures[name] for name in leaderboard if name in figures})
    shown = "".join(f", {name} {value:.4f}" for name, value in figures.items() if "loss" in name)
    log.say(f"{len(submission):,} predictions in {SUBMISSION}{shown}")


def score(submission: pd.DataFrame, data: DataParams) -> dict[str, float]:
    """Scores of a submission: n, those by the solution file and those by the true probabilities."""
    metrics: dict[str, float] = {"n": len(submission)}
    if not len(submission):
        return metrics
    p = probabilities(submission, WINNERS)
    if data.solution:
        solution = _solution(data.solution, submission["id"])
        labels = solution[WINNERS].to_numpy(int).argmax(axis=1)
        metrics |= scores(labels, p)
        metrics["log_loss_error"] = float(losses(labels, p).std(ddof=1) / len(labels) ** 0.5)
        for usage in ("Public", "Private"):
            if (rows := (solution["Usage"] == usage).to_numpy()).any():
                metrics[f"log_loss_{usage.lower()}"] = scores(labels[rows], p[rows])["log_loss"]
                metrics[f"n_{usage.lower()}"] = int(rows.sum())
    # The arena's truth is not about another test file.
    if data.truth and (in_arena(data.test or "") or not in_arena(data.truth)):
        known = truth.captured(truth.read(data.truth, submission["id"]), p)
        names = ("expected_log_loss", "information_captured")
        metrics |= {name: known[name] for name in names if name in known}
    return metrics


def _solution(path: str, ids: pd.Series) -> pd.DataFrame:
    """The solution's rows in the order of `ids`."""
    try:
        solution = pd.read_csv(
            path,
            usecols=["id", *WINNERS, "Usage"],
            dtype={"id": str},
            converters=dict.fromkeys(WINNERS, values.flag),
            na_filter=False,
        )
        found = ids.to_frame().merge(solution, on="id", how="left", validate="many_to_one")
    except (OSError, ValueError) as error:
        raise UserError(
            f"data.solution: {path} should be a CSV of id (each once), {', '.join(WINNERS)}, "
            f"Usage: {str(error).splitlines()[0]}"
        ) from None
    winners = found[WINNERS]
    right = winners.isin([0, 1]).all(axis=1) & (winners.sum(axis=1) == 1)
    if wrong := int((~right).sum()):
        raise UserError(
            f"data.solution: {path} lacks {wrong:,} of {len(ids):,} rows of data.test, or has not "
            f"exactly one winner there; expected one 1 and two 0 in {', '.join(WINNERS)}."
        )
    return found


if __name__ == "__main__":
    monitor.run("predict", predict)
