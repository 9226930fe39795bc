"""python -m benchmarks.mechanisms [--only NAME ...] [--seeds 5] [--table]

Does each switch do what it is for? Simulated votes with what the switch is for (its knob on) and
without it, each with the switch off and on, paired by seed: the arena and training share it.

The stages run in a temporary folder and are judged on fresh votes whose true probabilities are
known. Each finished run is a line of the CSV; started again, only missing runs are made.
"""

import argparse
import hashlib
import json
import os
import re
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
from scipy.stats import t as student
from threadpoolctl import threadpool_limits

from benchmarks import pooling
from benchmarks.arena import Aside, captured
from benchmarks.mechanism_table import COMMON, KNOBS, LOSSES, MECHANISMS, RANDOM_FOLDS, SWITCHES
from benchmarks.resource_usage import ROOT
from pairpref import paths
from pairpref.data import folds
from pairpref.evaluation import truth
from pairpref.evaluation.calibration import CALIBRATED, Calibrator
from pairpref.evaluation.metrics import probabilities
from pairpref.parallel import each
from pairpref.params import ParallelParams, Params
from pairpref.typed_yaml import raw
from stages.features import features
from stages.predict import predict

PAGE = ROOT / "docs" / "mechanisms.md"
POWER = 2.8  # standard errors: of a true difference of so many, 80 % are shown if seeds are many
_DEFAULTS = raw(ROOT / paths.PARAMS)
_KEY = ["mechanism", "knob", "switch", "seed", "params"]
_FIGURES = ["information_captured", "expected_log_loss", "log_loss", "f1_macro", "claimed"]
_COLUMNS = [*_KEY, "seconds", *_FIGURES, "overclaim"]
_TABLE = re.compile(r"(<!-- table -->\n).*(<!-- /table -->)", re.DOTALL)


class Run(NamedTuple):
    """One run of the stages: a knob, a switch and a seed of a mechanism."""

    mechanism: str
    knob: str
    switch: str
    seed: int
    rows: int | None  # votes to learn from, if not as in the table

    @property
    def changes(self) -> dict[str, object]:
        """To params.yaml, by dotted names."""
        of, seed = MECHANISMS[self.mechanism], {"simulate.seed": self.seed}
        rows = {"simulate.rows": self.rows} if self.rows else {}
        knob = of.knob_on if self.knob == "on" else of.knob_off
        switch = of.with_ if self.switch == "on" else of.without
        return COMMON | of.base | knob | switch | seed | {"train.seeds": [self.seed]} | rows

    @property
    def key(self) -> tuple:
        """What its line in the CSV begins with; the last is a hash of all params."""
        said = [_params(self.changes).model_dump(mode="json"), self.judged.model_dump(mode="json")]
        text = json.dumps([*said, RANDOM_FOLDS in self.changes], sort_keys=True)
        return (*self[:4], hashlib.blake2b(text.encode(), digest_size=6).hexdigest())

    @property
    def judged(self) -> Params:
        """Params of the arena that the votes to judge by are drawn from."""
        return _params(self.changes | MECHANISMS[self.mechanism].judged)


@dataclass(frozen=True)
class Gain:
    """Mean over seeds of a paired difference, with the switch minus without it."""

    mean: float
    error: float  # its standard error; nan for one seed
    seeds: int

    @classmethod
    def of(cls, differences: np.ndarray) -> Self:
        count = len(differences)
        error = differences.std(ddof=1) / np.sqrt(count) if count > 1 else np.nan
        return cls(float(differences.mean()), float(error), count)

    @property
    def ci(self) -> tuple[float, float]:
        """95% t-interval."""
        margin = float(student.ppf(0.975, self.seeds - 1)) * self.error
        return self.mean - margin, self.mean + margin

    @property
    def power(self) -> float:
        """The smallest true difference that would be shown."""
        return POWER * self.error

    def found(self, expected: str) -> str:
        """shown, not shown or against (a sign was expected, or 0: none shown)."""
        low, high = self.ci if expected != "-" else (-self.ci[1], -self.ci[0])
        if expected == "0":
            return "against" if low > 0 or high < 0 else "none shown"
        return "shown" if low > 0 else "against" if high < 0 else "not shown"


def _params(changes: dict[str, object]) -> Params:
    found = deepcopy(_DEFAULTS)
    for name, value in changes.items():
        *sections, key = name.split(".")
        section = found
        for part in sections:
            section = section[part]
        if name != RANDOM_FOLDS:
            section[key] = value
    return Params.model_validate(found)


def figures_of(run: Run) -> dict[str, float]:
    """Run all stages before the report in this folder; scores on the fresh votes.

    claimed is the information captured that the out-of-fold export claims. overclaim, if it is
    asked for, is how much less single folds' models capture of the fresh votes.
    """
    params, log = _params(run.changes), Aside(run.mechanism)
    first, second, *others = pooling.STAGES
    for stage in (first, second):
        stage(params, log)
    if RANDOM_FOLDS in run.changes:
        _ungroup(params.data.folds)
    for stage in (features, *others):
        stage(params, log)
    votes = pd.read_parquet(paths.OOF)
    known = truth.read(str(params.data.truth), votes["id"])
    claimed = captured(known, probabilities(votes, CALIBRATED))
    first(run.judged, log)
    predict(params, log)
    found = json.loads(paths.TEST_SCORES.read_text(encoding="utf-8")) | {"claimed": claimed}
    if "overclaim" in MECHANISMS[run.mechanism].expects:
        known, p = pooling.answers(params)
        calibrator = Calibrator.load(paths.CALIBRATOR)
        fresh = np.mean([captured(known, calibrator.apply(of_model)) for of_model in p])
        found["overclaim"] = claimed - float(fresh)
    return found


def _ungroup(count: int) -> None:
    """Folds of single votes: a prompt may be in several, and each vote is its own group."""
    pairs = pd.read_parquet(paths.PAIRS)
    own = np.arange(len(pairs))
    fold = folds.assign(pairs["label"].to_numpy(), own, count, seed=0)
    pairs.assign(group=own, fold=fold).to_parquet(paths.PAIRS, index=False)


def work(runs: list[Run], out: Path) -> str:
    """Make runs of one seed in one folder, so that a training that both need is made once.

    Returns:
        The error that ended it, or "".
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        chdir(folder),
        open(os.devnull, "w") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
        threadpool_limits(1),
    ):
        for run in runs:
            began = time.perf_counter()
            try:
                found = figures_of(run)
            except Exception:
                return f"{run}: {traceback.format_exc()}"
            row = dict(zip(_KEY, run.key, strict=True)) | found
            row["seconds"] = round(time.perf_counter() - began, 1)
            line = pd.DataFrame([row]).reindex(columns=_COLUMNS)
            with out.open("a", encoding="utf-8") as file:  # one write: others append, too
                file.write(line.to_csv(header=False, index=False, float_format="%.6g"))
    return ""


def measured(out: Path) -> pd.DataFrame:
    """The finished runs; empty where there is no file."""
    if not out.exists():
        return pd.DataFrame(columns=_COLUMNS)
    return pd.read_csv(out, dtype={name: str for name in _KEY} | {"seed": int})


def planned(names: list[str], seeds: int, rows: int | None) -> list[Run]:
    """All runs, mechanism by mechanism; those of one seed follow each other."""
    return [
        Run(name, knob, switch, seed, rows)
        for name in names
        for seed in range(1, seeds + 1)
        for knob in KNOBS
        for switch in SWITCHES
    ]


def make(runs: list[Run], out: Path, jobs: int) -> list[str]:
    """Make the runs that the CSV lacks; the errors of those that failed."""
    done = set(measured(out)[_KEY].itertuples(index=False, name=None))
    left = [run for run in runs if run.key not in done]
    if left and not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(",".join(_COLUMNS) + "\n", encoding="utf-8")
    pairs = [list(of) for _, of in groupby(left, lambda run: (run.mechanism, run.seed, run.knob))]
    failed, began = [], time.monotonic()
    results = each(work, ((pair, out.absolute()) for pair in pairs), ParallelParams(jobs=jobs))
    for count, (pair, error) in enumerate(zip(pairs, results, strict=True), 1):
        failed += [error] if error else []
        minutes = (time.monotonic() - began) / 60 * (len(pairs) / count - 1)
        print(
            f"{pair[0].mechanism}, knob {pair[0].knob}, seed {pair[0].seed}: "
            f"{error or 'done'}, about {minutes:.0f} min left",
            flush=True,
        )
    return failed


def gain(table: pd.DataFrame, metric: str) -> Gain | None:
    """Gain in a metric from one knob's runs: columns switch, seed and the metric."""
    by_seed = table.pivot(index="seed", columns="switch", values=metric)
    by_seed = by_seed.reindex(columns=list(SWITCHES)).dropna()
    if len(by_seed) < 2:
        return None
    differences = (by_seed["on"] - by_seed["off"]).to_numpy()
    return Gain.of(-differences if metric in LOSSES else differences)


def table_lines(found: pd.DataFrame, runs: list[Run]) -> Iterator[str]:
    """The Markdown table, of runs with the params of today only."""
    keys = pd.DataFrame([run.key for run in runs], columns=_KEY)
    found = found.merge(keys, on=_KEY).drop_duplicates(_KEY, keep="last")
    seeds = max(run.seed for run in runs)  # fewer are no measurement yet
    yield "| switch | votes | gain in | 95 % interval | expected | found | power | seeds |"
    yield "|---|---|---|---|---|---|---|---|"
    for name in dict.fromkeys(run.mechanism for run in runs):
        of = MECHANISMS[name]
        for metric, signs in of.expects.items():
            for knob, expected in zip(KNOBS, signs, strict=True):
                rows = found[(found["mechanism"] == name) & (found["knob"] == knob)]
                votes = of.votes if knob == "on" else of.others
                start = f"| {of.switch} (`{name}`) | {votes} | {metric.replace('_', ' ')} |"
                g = gain(rows, metric)
                if g is None or g.seeds < seeds:
                    yield f"{start} | {expected} | not measured | | |"
                else:
                    interval = f"{g.mean:+.3f} ({g.ci[0]:+.3f} to {g.ci[1]:+.3f})"
                    end = f"{expected} | {g.found(expected)} | {g.power:.3f} | {g.seeds} |"
                    yield f"{start} {interval} | {end}"
    yield f"\n{len(found)} of {len(runs)} runs; {found['seconds'].median():.0f} s each, median."


def write(page: Path, table: str) -> None:
    """Put a table between the page's markers."""
    text = page.read_text(encoding="utf-8")
    page.write_text(_TABLE.sub(lambda m: f"{m[1]}\n{table}\n\n{m[2]}", text), encoding="utf-8")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[1])
    add = parser.add_argument
    add("--only", nargs="+", choices=list(MECHANISMS), help="these mechanisms", metavar="NAME")
    add("--seeds", type=int, default=5, help="pairs of runs of each knob (default: %(default)s)")
    add("--rows", type=int, help="votes to learn from, if not as in benchmarks/mechanism_table.py")
    add("--jobs", type=int, default=2, help="processes (default: %(default)s)")
    add("--out", type=Path, default=Path("work/mechanisms.csv"), help="(default: %(default)s)")
    add("--table", action="store_true", help="run nothing; print the table, and write a whole one")
    add("--page", type=Path, default=PAGE, help="where --table writes it (default: %(default)s)")
    asked = parser.parse_args(argv)
    runs = planned(asked.only or list(MECHANISMS), asked.seeds, asked.rows)
    if not asked.table and (failed := make(runs, asked.out, asked.jobs)):
        raise SystemExit(f"{len(failed)} failed; the same command tries them again")
    table = "\n".join(table_lines(measured(asked.out), runs))
    print(table)
    if asked.table and not asked.only:
        write(asked.page, table)


if __name__ == "__main__":
    main()
