"""python -m benchmarks.pipeline [--runs 3]

What the whole pipeline costs and reaches on the default.

Clones the last commit, with this folder's params.yaml, into a temporary folder and runs it from
scratch `--runs` times (no outs, no cache, no dvc.lock). Prints the medians; then the median of 5
runs of `dvc repro` with nothing to do; last, whether all runs wrote the same bytes.

Seconds of a stage are its own process's (logs/<stage>.jsonl); the rest is DVC's. Commit first:
other changes are not measured.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pandas as pd
import yaml

from benchmarks import resource_usage
from benchmarks.resource_usage import ROOT, Watched
from pairpref import params
from pairpref.evaluation import truth
from pairpref.evaluation.calibration import CALIBRATED
from pairpref.evaluation.metrics import probabilities
from pairpref.monitor import LOGS
from pairpref.pairs import PROBABILITIES

REPRO = [sys.executable, "-m", "dvc", "repro", "--quiet"]
IDENTICAL = ("models", "data/oof", "metrics", "submission.csv")
IDLE_RUNS = 5


@dataclass(frozen=True)
class Run:
    """One run from nothing.

    Attributes:
        whole: the command as a whole.
        stages: name of a stage → (seconds, peak MiB) as it logged them.
        before, after: information captured out of fold, before and after calibration.
        bytes: path of an out → its SHA-256.
    """

    whole: Watched
    stages: dict[str, tuple[float, float]]
    before: float
    after: float
    bytes: dict[str, str]


def clone(folder: Path, env: dict[str, str]) -> None:
    """The last commit, with the params of the working tree."""
    subprocess.run(
        ["git", "clone", "--quiet", "--local", str(ROOT), str(folder)], env=env, check=True
    )
    shutil.copy(ROOT / params.PARAMS, folder / params.PARAMS)


def clear(folder: Path, env: dict[str, str]) -> None:
    """Remove all that a run leaves behind, DVC's cache and run cache among it."""
    subprocess.run(["git", "clean", "-ffdxq"], cwd=folder, env=env, check=True)
    for name in ("metrics", "plots"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "dvc.lock").unlink(missing_ok=True)


def once(folder: Path, env: dict[str, str]) -> Run:
    clear(folder, env)
    whole = resource_usage.run(REPRO, folder, env)
    names = yaml.safe_load((folder / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    oof = pd.read_parquet(folder / "data/oof/oof.parquet")
    known = truth.read(folder / params.load(folder / params.PARAMS).data.truth, oof["id"])
    shares = (
        truth.captured(known, probabilities(oof, p))["information_captured"]
        for p in (PROBABILITIES, CALIBRATED)
    )
    return Run(whole, {name: ended(folder, name) for name in names}, *shares, digests(folder))


def ended(folder: Path, stage: str) -> tuple[float, float]:
    """Seconds and peak MiB of a stage's last run."""
    event = json.loads(
        (folder / LOGS / f"{stage}.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    )
    return event["at"], event["peak_mib"]


def digests(folder: Path) -> dict[str, str]:
    outs = [
        path
        for name in IDENTICAL
        for path in (folder / name, *(folder / name).rglob("*"))
        if path.is_file()
    ]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(outs)
    }


def table(runs: Sequence[Run], idle: Sequence[Watched]) -> str:
    total = median(run.whole.seconds for run in runs)
    stages = {
        name: [median(run.stages[name][i] for run in runs) for i in (0, 1)]
        for name in runs[0].stages
    }
    differing = sorted(
        {name for run in runs for name, _ in run.bytes.items() ^ runs[0].bytes.items()}
    )
    same = (
        ", ".join(differing) + " differ"
        if differing
        else f"identical in {len(runs[0].bytes)} files"
    )
    return "\n".join(
        [
            f"medians of {len(runs)}     seconds   peak MiB",
            *(f"{name:12} {seconds:10.1f} {mib:10,.0f}" for name, (seconds, mib) in stages.items()),
            f"{'DVC':12} {total - sum(seconds for seconds, _ in stages.values()):10.1f}",
            f"{'in all':12} {total:10.1f} {max(run.whole.peak_mib for run in runs):10,.0f}  "
            "(any one process, seen every 0.1 s)",
            f"{'nothing to do':12} {median(run.seconds for run in idle):9.1f}",
            f"information captured out of fold: {median(run.before for run in runs):.3f} before "
            f"calibration, {median(run.after for run in runs):.3f} after",
            f"bytes of {', '.join(IDENTICAL)} in {len(runs)} runs: {same}",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[2])
    parser.add_argument("--runs", type=int, default=3, help="runs from nothing")
    asked = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        home, folder = Path(name), Path(name) / "clone"
        env = resource_usage.environment(home)
        clone(folder, env)
        runs = [once(folder, env) for _ in range(asked.runs)]
        idle = [resource_usage.run(REPRO, folder, env) for _ in range(IDLE_RUNS)]
    print(table(runs, idle))


if __name__ == "__main__":
    main()
