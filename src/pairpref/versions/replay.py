"""Run versions again: each with its own params, through the whole pipeline, as a commit of its own.

Everything runs in a worktree. The user's files change only when all is done, by a fast-forward.
Finished versions are commits in the worktree, so the same command resumes an interrupted replay.
"""

import gzip
import json
import platform
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from importlib import metadata
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from pairpref import params, paths
from pairpref.errors import UserError
from pairpref.files import write_json, write_text
from pairpref.monitor import Log
from pairpref.params import in_arena
from pairpref.training import determinism
from pairpref.versions import log as logs
from pairpref.versions import predictions as kept
from pairpref.versions import results
from pairpref.versions.catalog import Catalog, Changes, changed, natural
from pairpref.versions.git import Repository
from pairpref.versions.results import FEATURES, VersionResults, predictions_path
from pairpref.versions.worktree import WORKTREE, Worktree

_PIPELINE = ("dvc.lock", "metrics", "plots")  # written by the pipeline: not the user's edits
_COMMITTED = ("params.yaml", *_PIPELINE, "versions")


@contextmanager
def session(catalog: Catalog, log: Log, root: Path = Path()) -> Iterator["Replay"]:
    """A session of replaying, one at a time.

    Raises:
        UserError: another one is running, this is not the repository's root, or it has edits.
    """
    root = root.resolve()
    if (top := Repository(root).git("rev-parse", "--show-toplevel")) != str(root):
        raise UserError(f"Run this in the repository's root, {top}.")
    (root / "work").mkdir(exist_ok=True)
    try:
        with FileLock(root / "work" / "replay.lock", timeout=0):
            yield Replay(catalog, log, root)
    except Timeout:
        raise UserError(
            "another replay is running in this repository; wait for it, or stop it with Ctrl-C."
        ) from None


class Replay:
    def __init__(self, catalog: Catalog, log: Log, root: Path) -> None:
        self.catalog, self.log, self.root = catalog, log, root
        self.main = Repository(root)
        if edited := self._edited():
            raise UserError(
                f"{edited} differ from the last commit. Versions run committed code, so that "
                "others can run them too: commit or stash your edits, then run this again."
            )
        # Read now: later edits and commits don't change what is replayed.
        self.tree, self.begun = Worktree(root), self._where()
        self.folder = self.tree.folder

    def versions(self, names: list[str]) -> None:
        """Replay those of the named versions that are not up to date.

        Raises:
            UserError: a version can't be expressed by the current params, or the pipeline failed.
        """
        wanted = {name: self.catalog.changes(name) for name in self.catalog.versions}
        wanted = {name: changes for name, changes in wanted.items() if name in names}
        for name, changes in wanted.items():
            changed(self.tree.params, changes, name)
        self.tree.open()
        before, todo = self.tree.git.versions(), {}
        for name, changes in wanted.items():
            reason = self.tree.stale(before.get(name), changes)
            if not reason and not predictions_path(name, self.folder).exists():
                reason = "its predictions are gone"
            if reason:
                todo[name] = changes
            if reason and name in before:
                self.log.say(f"{name} is replayed again: {reason}")
        if not todo and self._nothing_new(", ".join(wanted)):
            return
        # No table may mix old and new figures.
        table = results.read_measured(self.folder / paths.MEASURED)
        self._record_measured(table.drop(index=list(todo), errors="ignore"))
        for name in todo:
            shutil.rmtree(self.folder / paths.VERSIONS / name, ignore_errors=True)
        for name, changes in self._paced(todo):
            self._version(name, changes)
        self._finish(f"Back to the params as they were, with {', '.join(wanted)} replayed")

    def impact(self) -> None:
        """Run both sides of every feature and keep their predictions.

        Raises:
            UserError: as `versions`, or a version that features start from is not up to date.
        """
        sides = {}
        for key in self.catalog.features:
            for changes in self.catalog.sides(key):
                changed(self.tree.params, changes, key)
                sides[results.side_path(self.catalog, changes)] = changes
        self.tree.open()
        versions, own = self.tree.git.versions(), {}
        for path, changes in sides.items():
            name = path.parent.name
            if path.parent == FEATURES:
                own[path.stem] = changes
            elif reason := self.tree.stale(versions.get(name), changes):
                raise UserError(
                    f"{name}, which features are compared with, needs a replay: {reason}. "
                    f"Run `python -m pairpref.versions replay {name}`."
                )
        files = {name: self.folder / FEATURES / f"{name}.parquet" for name in own}
        commit = self.tree.git.versions(logs.FEATURES).get("features")
        current = not self.tree.stale(commit, {}) and all(map(Path.exists, files.values()))
        if current and self._nothing_new("all features"):
            return
        if not current:
            shutil.rmtree(self.folder / FEATURES, ignore_errors=True)
            for name, changes in self._paced(own):
                predictions = self._run(changes, "calibrate")
                kept.write(kept.final_probabilities(predictions), files[name])
        message = f"What each feature does, measured on its own\n\n{logs.FEATURES}: features"
        self._finish(message, {} if current else {"features": _today()})

    def _version(self, name: str, changes: Changes) -> None:
        predictions = self._run(changes, "predict")
        settings, own = params.load(self.folder / paths.PARAMS), self.folder / paths.VERSIONS / name
        kept.write(predictions, predictions_path(name, self.folder))
        shutil.copy(self.folder / paths.TRAINING_CURVES, own / results.TRAINING)
        write_json(own / "machine.json", machine())
        if name == self.catalog.anchor:
            # mtime=0: the same submission is the same bytes.
            packed = gzip.compress((self.folder / paths.SUBMISSION).read_bytes(), mtime=0)
            (own / "submission.csv.gz").write_bytes(packed)
        truth = self.folder / settings.data.truth if settings.data.truth else None
        table = results.read_measured(self.folder / paths.MEASURED)
        table.loc[name] = pd.Series(kept.measure(predictions, truth))
        self._record_measured(table)
        # The arena's solution plays the leaderboard; scores of a real one are entered by hand.
        if settings.data.solution and in_arena(settings.data.solution):
            self._record_score(name)
        self.tree.dvc("repro")
        found = VersionResults.load(self.catalog, predictions, self.folder, features=False)
        row = next(row for row in found.rows if row.name == name)
        self.tree.git.commit(logs.commit_message(row), *_COMMITTED)

    def _run(self, changes: Changes, stage: str) -> pd.DataFrame:
        """The predictions of the pipeline with changed params, run up to a stage."""
        self.tree.set(changes)
        self.tree.dvc("repro", stage)
        return kept.collect_predictions(params.load(self.folder / paths.PARAMS), self.folder)

    def _record_measured(self, table: pd.DataFrame) -> None:
        text = results.measured_csv(table, self.catalog.ordered())
        write_text(self.folder / paths.MEASURED, text)

    def _record_score(self, name: str) -> None:
        found = json.loads((self.folder / paths.TEST_METRICS).read_text(encoding="utf-8"))
        scores = [found.get(f"log_loss_{part}") for part in ("public", "private")]
        path = self.folder / paths.LEADERBOARD
        table = results.read_leaderboard(path)
        others = (table["version"] != name) | (table["regime"] != "simulated")
        table = table[others].reset_index(drop=True)
        table.loc[len(table)] = [name, _today(), "simulated", *scores, "by replay"]
        order = {version: place for place, version in enumerate(self.catalog.ordered())}
        table = table.sort_values("version", key=lambda names: names.map(order), kind="stable")
        write_text(path, table.to_csv(index=False, float_format="%.5f", lineterminator="\n"))

    def _nothing_new(self, what: str) -> bool:
        """Close the worktree and say so if it has nothing that the user's branch lacks."""
        if self.tree.git.head() != self.main.head():
            return False
        self.tree.close()
        self.log.say(f"{what}: up to date, nothing to do")
        return True

    def _paced(self, work: Mapping[str, Changes]) -> Iterator[tuple[str, Changes]]:
        """Pass work on, saying what is next and about how long the rest will take."""
        began = time.monotonic()
        for done, (name, changes) in enumerate(work.items()):
            left = (time.monotonic() - began) / max(done, 1) * (len(work) - done)
            about = f", about {timedelta(seconds=round(left))} left" if done else ""
            self.log.say(f"{name}, {done + 1} of {len(work)}{about}")
            yield name, changes

    def _edited(self) -> str:
        """Files that differ from HEAD and that the pipeline does not write."""
        edited = [path for path in self.main.changed() if path.split("/")[0] not in _PIPELINE]
        return ", ".join(edited[:5]) + " and others" * (len(edited) > 5)

    def _where(self) -> tuple[str, str]:
        return self.main.head(), self.main.git("branch", "--show-current")

    def _finish(self, message: str, dates: Mapping[str, str] = {}) -> None:
        """Commit the params as they were, with the report; bring all to the user's branch."""
        self.tree.set({})
        logs.write(self.catalog, self.folder, dates)
        self.tree.dvc("repro")
        self.tree.git.commit(f"{message}\n", *_COMMITTED)
        if self._where() != self.begun:
            raise UserError(
                "commits were made or another branch was checked out during the replay. The "
                "results are in DVC's cache: the same command adds them to the branch in minutes."
            )
        if edited := self._edited():
            raise UserError(
                f"{edited} were edited during the replay. The results are kept in {WORKTREE}: "
                "stash your edits, and the same command adds them to the branch."
            )
        if written := [path for path in _PIPELINE if self.main.git("ls-files", "--", path)]:
            self.main.git("checkout", "--quiet", "HEAD", "--", *written)
        before, tags = self.main.versions(), self.main.tags()
        self.main.git("merge", "--quiet", "--ff-only", self.tree.git.head())
        new = {name: c for name, c in self.main.versions().items() if c != before.get(name)}
        # A tag follows its version. A tag that the user has put elsewhere stays there.
        free = {n: c for n, c in new.items() if tags.get(n) in (None, before.get(n, c).sha)}
        if made := self.main.tag(free, move=True)[0]:
            self.log.say(f"tagged {', '.join(natural(made))}")
        if others := natural(set(new) - set(free)):
            self.log.say(
                f"{', '.join(others)}: the tag is on another commit and stays there; "
                "`python -m pairpref.versions tag --move` moves it"
            )
        self.tree.close()
        if self.tree.dvc("checkout", folder=self.root, check=False):
            self.log.say("some outputs could not follow; `dvc repro` makes them")


def machine() -> dict[str, str]:
    """What decides a training's last bits besides params, data and code."""
    found, about = determinism.machine(), Path("/proc/cpuinfo")
    text = about.read_text(encoding="utf-8", errors="replace") if about.exists() else ""
    known = dict(re.findall(r"^(\w[\w ]*\w)\s*: (.*)$", text, re.MULTILINE))
    name = known.get("model name") or platform.processor() or platform.machine()
    kind = [f"{key} {known[key]}" for key in ("cpu family", "model", "stepping") if key in known]
    return {
        "device": found["device"],
        "cpu": ", ".join([name, *kind]),
        "cpu_capability": found["cpu_capability"],
        "torch": metadata.version("torch"),
    }


def _today() -> str:
    return logs.day(time.time())
