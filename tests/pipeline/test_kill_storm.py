"""A small storm: runs killed or stopped, in training and elsewhere; and what a storm reports."""

import signal
from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pytest

from benchmarks.copies import SMALL, working_tree
from benchmarks.kill_storm import Calm, Run, described, ride_out, undisturbed
from benchmarks.repro import Strike, stop

pytestmark = pytest.mark.slow

_PARAMS = [*SMALL, "simulate.rows=2400", "train.epochs=3", "parallel.jobs=2"]
# In the pipeline's order: one run comes to all of them.
_KILLED = [
    Strike("tokenize", 0.6, ("stage", "dvc")),
    Strike("train", 0.45, ("stage", "dvc")),
    Strike("oof", 0.45, ("worker", "stage", "dvc")),
    Strike("oof", 0.3, ("group",)),
    Strike("predict", 0.4, ("dvc", "stage")),
]
_TRIES = 4  # a strike comes too late where a stage is faster than measured
_TOLD = [Strike("train", 0.45, ("group",)), Strike("oof", 0.45, ("stage", "dvc"))]


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> Calm:
    """An undisturbed run, and a copy of the repository before each of its stages."""
    stages = {strike.stage for strike in (*_KILLED, *_TOLD)} | {"report"}
    return undisturbed(
        working_tree(tmp_path_factory.mktemp("calm"), _PARAMS),
        tmp_path_factory.mktemp("before"),
        sorted(stages),
    )


@pytest.fixture
def storm(calm, tmp_path):
    """Kill a run by the given strikes and finish it; no process of it outlives the test."""
    folders = (tmp_path / f"run-{number}" for number in count())

    def ride(
        strikes: list[Strike], signum: signal.Signals = signal.SIGKILL, calm: Calm = calm
    ) -> Run:
        run = ride_out(strikes, calm, next(folders), signum)
        print("\n".join(described(run)))
        return run

    yield ride
    stop(tmp_path)


@pytest.fixture
def changed(calm, storm, tmp_path):
    """Kill the report stage in a repository in which the text of one file was changed."""

    def ride(name: str, change: Callable[[str], str]) -> Run:
        repository = calm.before["report"].copy(tmp_path / "changed")
        path = repository.path / name
        path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
        return storm(
            [Strike("report", 0.3, ("group",))], calm=replace(calm, before={"report": repository})
        )

    return ride


@pytest.mark.fault(1, 6)
def test_killed_run_ends_with_the_same_bytes(storm):
    finished(storm, _KILLED, signal.SIGKILL)


@pytest.mark.fault(5)
def test_run_told_to_end_ends_with_the_same_bytes(storm):
    finished(storm, _TOLD, signal.SIGTERM)


def finished(storm, strikes: list[Strike], signum: signal.Signals) -> None:
    """Strike, earlier each time, until every strike has hit its stage; the bytes stay the same."""
    missed = strikes
    for _ in range(_TRIES):
        run = storm(missed, signum)
        assert not run.lost
        assert not run.different
        assert not run.failed and not run.strays
        hit = {kill.strike for kill in run.kills if kill.hit}
        missed = [replace(s, share=s.share / 2) for s in missed if s not in hit]
        if not missed:
            return
    pytest.fail(f"not killed in the middle: {missed}")


def test_storm_sees_other_bytes(changed):
    """A stage that draws a number without a seed is found out."""
    unseeded = (
        "import random\nfrom pathlib import Path\n\n"
        'Path("report/headline.json").write_text(str(random.random()))\n'
    )
    run = changed("stages/report.py", lambda text: text + unseeded)
    assert not run.lost
    assert "report/headline.json" in run.different and "report/report.md" not in run.different


def test_storm_sees_a_run_that_cannot_be_finished(changed):
    run = changed("stages/report.py", lambda text: text + 'raise SystemExit("no more")\n')
    assert "failed to reproduce 'report'" in run.lost


def test_storm_mends_an_empty_lock_file_and_says_so(changed):
    run = changed("dvc.lock", lambda text: "")
    assert run.mended == 1
    assert not run.lost and not run.different
