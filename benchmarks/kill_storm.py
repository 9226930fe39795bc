"""python -m benchmarks.kill_storm [N] [--seed 0] [--signal KILL|TERM] [--stages train oof …]

Checks with N kills that a killed run can be finished, with the bytes of an undisturbed run.

A copy of the working tree runs once undisturbed on small data, and is copied again before each
stage. A run to be killed starts from such a copy: its stage and those after it have never run
there, and no cache knows them. `dvc repro` is killed at a random moment of the stage and started
again, perhaps killed again, and so on until it succeeds. The target is random too: the whole
process group, the stage's process, dvc, or one of the stage's workers if it has any.

Compares all outs, metrics and plots of dvc.yaml, and dvc.lock; checks that the objects in DVC's
cache match their names. Columns:
mid-run   kills while the stage's process was there
resumed   kills after which a training was found begun or done
refused   starts that ended with a clear line: a process of the start before was still at work
failed    starts that ended otherwise although nothing killed them
mended    garbled files of DVC's own that had to be removed
strays    processes that outlived the command
"""

import argparse
import hashlib
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import psutil
import yaml

from benchmarks import copies
from benchmarks.copies import SMALL, Repository
from benchmarks.repro import TARGETS, Kill, Repro, Strike, living, stop
from benchmarks.resource_usage import ROOT

# Large enough that train and oof train for some seconds and write several checkpoints.
PARAMS = [*SMALL, "simulate.rows=3600", "train.epochs=3", "parallel.jobs=2"]
_AGAIN = 1 / 3
_FAILURES = 2
_REFUSED = r"already running|another process|Unable to acquire lock|is busy"
_REFUSED_SECONDS = 300.0
# A process that was left behind with nothing to do is given this long to notice.
_STRAY_SECONDS = 20.0


@dataclass
class Run:
    """A killed run. `lost` says why it could not be finished; the counts are the columns."""

    stage: str
    kills: list[Kill] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    lost: str = ""
    refused: int = 0
    failed: int = 0
    mended: int = 0
    strays: int = 0


@dataclass(frozen=True)
class Calm:
    """An undisturbed run."""

    results: dict[str, str]  # hashes of all that is compared
    seconds: dict[str, float]  # of each stage until DVC has recorded it
    before: dict[str, Repository]  # a copy from before each stage


def undisturbed(
    repository: Repository, folder: Path, stages: Sequence[str], say: Callable[[str], None] = print
) -> Calm:
    """Run a repository's pipeline stage by stage, and copy it before each of `stages`."""
    folder.mkdir(exist_ok=True)
    seconds, before = {}, {}
    for stage in copies.stages(repository.path):
        if stage in stages:
            before[stage] = repository.copy(folder / stage)
        repro = Repro(repository, folder / f"{stage}.txt", stage)
        began = repro.reach(stage)
        if repro.process.wait() or began is None:
            raise RuntimeError(f"{stage} failed though nobody killed it:\n{repro.printed}")
        seconds[stage] = time.perf_counter() - began
        say(f"undisturbed: {stage} {seconds[stage]:.1f} s")
    return Calm(_results(repository.path), seconds, before)


def draw(count: int, stages: Sequence[str], rng: random.Random) -> Iterator[list[Strike]]:
    """Strikes for each run, `count` in all. Every stage comes once before one comes again."""
    deck: list[str] = []
    while count:
        deck = deck or rng.sample(stages, len(stages))
        stage, strikes, ahead = deck.pop(), [], 1.0
        while count and (not strikes or rng.random() < _AGAIN):
            strikes.append(
                Strike(stage, rng.uniform(0, ahead), tuple(rng.sample(TARGETS, len(TARGETS))))
            )
            # A training that goes on from where it was has less before it.
            ahead = max(ahead - strikes[-1].share, 0.25)
            count -= 1
        yield strikes


def ride_out(
    strikes: Sequence[Strike], calm: Calm, folder: Path, signum: signal.Signals = signal.SIGKILL
) -> Run:
    """Run from the first strike's stage on, kill it by each strike in turn, and then finish it.

    Args:
        folder: is made and kept; processes that outlived the command are left alone.
    """
    run, coming = Run(strikes[0].stage), list(strikes)
    repository = calm.before[run.stage].copy(folder)
    limit, refused_since, starts = 60 + 10 * sum(calm.seconds.values()), None, 0
    while not run.lost:
        left = living(folder)
        starts += 1
        repro = Repro(repository, folder / f"start-{starts}.txt")
        kill = repro.strike(coming[0], calm.seconds[coming[0].stage], signum) if coming else None
        with suppress(subprocess.TimeoutExpired):
            repro.process.wait(limit)
        if run.kills:
            run.kills[-1].resumed += re.findall(
                r"(?:going on from |already )(step [\d,]*\d|trained)", repro.printed
            )
        if kill:
            run.kills.append(kill)
            del coming[0]
        if repro.process.returncode == 0:
            break
        if repro.process.returncode is None:
            run.lost = f"no end after {limit:.0f} s: {_last(repro.printed)}"
        elif kill:
            kill.words += "".join(
                f", exit {code}" for code in re.findall(r"exited with (\d+)", repro.printed)
            )
        elif left and re.search(_REFUSED, repro.printed):
            run.refused += 1
            refused_since = refused_since or time.perf_counter()
            if time.perf_counter() - refused_since > _REFUSED_SECONDS:
                run.lost = f"refused for {_REFUSED_SECONDS:.0f} s: {_last(repro.printed)}"
            psutil.wait_procs(left, timeout=10)
        elif _mended(repository.path, repro.printed):
            run.mended += 1
        else:
            run.failed += 1
            run.lost = (
                f"failed again and again: {_last(repro.printed)}" if run.failed > _FAILURES else ""
            )
    run.strays = len(psutil.wait_procs(living(folder), timeout=_STRAY_SECONDS)[1])
    if not run.lost:
        run.different = sorted(
            {name for name, _ in _results(repository.path).items() ^ calm.results.items()}
        )
    return run


def _mended(folder: Path, printed: str) -> bool:
    """Take away what DVC wrote in part and now stumbles over, as the README says."""
    garbled = re.findall(
        r"(dvc\.lock|\.dvc/tmp/rwlock)'.*(?:invalid|validation failed|corrupted|format error)",
        printed,
    )
    for name in garbled:
        (folder / name).unlink(missing_ok=True)
    return bool(garbled)


def _results(folder: Path) -> dict[str, str]:
    """Hashes of outputs, of dvc.lock (in any order), and of cached objects with a wrong name."""
    lock = yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))
    found = {
        **copies.outputs(folder),
        "dvc.lock": hashlib.sha256(json.dumps(lock, sort_keys=True).encode()).hexdigest(),
    }
    for path in (folder / ".dvc/cache/files/md5").glob("??/*"):
        digest = hashlib.md5(path.read_bytes()).hexdigest()
        if path.parent.name + path.name.removesuffix(".dir") != digest:
            found[path.relative_to(folder).as_posix()] = digest
    return found


def _last(printed: str) -> str:
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    return ([line for line in lines if line.startswith("ERROR")] or lines or ["nothing printed"])[
        -1
    ]


def described(run: Run) -> Iterator[str]:
    """A line a kill, the last with what came of the run."""
    lost, different = (
        run.lost and f"LOST, {run.lost}",
        run.different and f"DIFFERENT in {', '.join(run.different)}",
    )
    counts = [
        f"{getattr(run, name)} {name}"
        for name in ("refused", "failed", "mended", "strays")
        if getattr(run, name)
    ]
    end = ", ".join([lost or different or "same bytes", *counts])
    for kill in run.kills or [Kill(f"{run.stage:9} ended before it could be killed", True)]:
        beside = "" if kill.hit else ", between stages"
        resumed = f", found {' and '.join(kill.resumed)}" if kill.resumed else ""
        again = run.kills and kill is not run.kills[-1]
        yield f"{kill.words}{beside}{resumed}: {'killed again' if again else end}"


def table(runs: Sequence[Run], stages: Sequence[str]) -> str:
    """The counts, a row a stage."""
    rows = [
        {
            "stage": run.stage,
            "kills": len(run.kills),
            "mid-run": sum(kill.hit for kill in run.kills),
            "resumed": sum(bool(kill.resumed) for kill in run.kills),
            **{name: getattr(run, name) for name in ("refused", "failed", "mended", "strays")},
            "different": bool(run.different),
            "lost": bool(run.lost),
        }
        for run in runs
    ]
    by_stage = pd.DataFrame(rows).groupby("stage").sum().reindex(stages, fill_value=0)
    return pd.concat([by_stage, by_stage.sum().to_frame("in all").T]).to_string()


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder that goes with all that works in it, by Ctrl-C and SIGTERM too."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda number, _: sys.exit(128 + number))
    folder = Path(tempfile.mkdtemp(prefix="kill_storm-")).resolve()
    try:
        yield folder
    finally:
        stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    stages = list(copies.stages(ROOT))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[2])
    parser.add_argument(
        "kills", metavar="N", type=int, nargs="?", default=8, help="kills; 8 if not given"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of what is drawn: stages, moments, targets"
    )
    parser.add_argument("--signal", choices=("KILL", "TERM"), default="KILL")
    parser.add_argument(
        "--stages",
        nargs="+",
        choices=stages,
        default=stages,
        metavar="STAGE",
        help="all if not given",
    )
    asked = parser.parse_args()

    with _scratch() as folder:
        calm = undisturbed(
            copies.working_tree(folder / "calm", PARAMS), folder / "before", asked.stages
        )
        runs, done, began = [], 0, time.perf_counter()
        for strikes in draw(asked.kills, asked.stages, random.Random(asked.seed)):
            done += len(strikes)
            runs.append(
                run := ride_out(
                    strikes, calm, folder / f"run-{done}", signal.Signals[f"SIG{asked.signal}"]
                )
            )
            stop(folder / f"run-{done}")
            left = (time.perf_counter() - began) / done * (asked.kills - done) / 60
            print(
                "\n".join(
                    f"{done:3} of {asked.kills}, {left:3.0f} min left │ {line}"
                    for line in described(run)
                ),
                flush=True,
            )
            if run.lost or run.different:
                kept = shutil.move(
                    folder / f"run-{done}", tempfile.mkdtemp(prefix="kill_storm-kept-")
                )
                print(f"      kept for a look: {kept}", flush=True)
            else:
                shutil.rmtree(folder / f"run-{done}")
    print(table(runs, asked.stages))
    raise SystemExit(any(run.lost or run.different for run in runs))


if __name__ == "__main__":
    main()
