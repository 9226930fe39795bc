"""Run versions again: each with its own params, through the whole pipeline, as a commit of its own.

Everything runs in a git worktree that shares the repository's DVC cache. The user's files change
only when all is done, by a fast-forward. If it is interrupted, the same command resumes: DVC's
cache has the finished stages, and the worktree the checkpoints of the others.
"""

import gzip
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pandas as pd
from dvc.repo import Repo
from filelock import FileLock, Timeout

from pairpref import params, paths
from pairpref.errors import UserError
from pairpref.files import write_json, write_text
from pairpref.monitor import Log
from pairpref.params import in_arena
from pairpref.versions import log as logs
from pairpref.versions import predictions as kept
from pairpref.versions import results
from pairpref.versions.catalog import Catalog, Changes, with_changes
from pairpref.versions.git import Commit, Repository
from pairpref.versions.pipeline import changed_since, dvc, machine
from pairpref.versions.results import FEATURES, VersionResults, predictions_path

WORKTREE = Path("work/replay")
_PIPELINE = ("dvc.lock", "metrics", "plots")  # written by the pipeline: not the user's edits
_COMMITTED = ("params.yaml", *_PIPELINE, "versions")


class Replay:
    """Replays in a repository, one process at a time.

    Raises:
        UserError: another process replays, or files differ from the last commit.
    """

    def __init__(self, catalog: Catalog, log: Log, root: Path = Path()) -> None:
        self.catalog, self.log, self.root = catalog, log, root.resolve()
        self.folder = self.root / WORKTREE
        self.main, self.tree = Repository(self.root), Repository(self.folder)
        self._lock = FileLock(self.root / "work" / "replay.lock")  # held while this object lives
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                "another replay is running in this repository; wait for it, or stop it with Ctrl-C."
            ) from None
        if edited := [path for path in self.main.changed() if path.split("/")[0] not in _PIPELINE]:
            raise UserError(
                f"{', '.join(edited[:5])} differ from the last commit. Versions run committed "
                "code, so that others can run them too: commit or stash your edits first."
            )
        # Read now: later edits and commits don't change what is replayed.
        self.begun = self._where()
        self.params = (self.root / paths.PARAMS).read_text(encoding="utf-8")

    def versions(self, names: list[str]) -> None:
        """Replay those of the named versions that are not up to date.

        Raises:
            UserError: a version can't be expressed by the current params, or the pipeline failed.
            Stopped: Ctrl-C, SIGTERM or SIGHUP.
        """
        wanted = {n: self.catalog.changes(n) for n in self.catalog.versions if n in names}
        for name, changes in wanted.items():
            with_changes(self.params, changes, name)
        self._open()
        before, todo = self.tree.versions(), {}
        for name, changes in wanted.items():
            gone = not predictions_path(name, self.folder).exists()
            reason = self._stale(before.get(name), changes) or gone * "its predictions are gone"
            if reason:
                todo[name] = changes
            if reason and name in before:
                self.log.say(f"{name} is replayed again: {reason}")
        if not todo:
            return self._up_to_date(", ".join(wanted))
        # No table may mix old and new figures.
        table = results.read_measured(self.folder / paths.MEASURED)
        self._write_measured(table.drop(index=list(todo), errors="ignore"))
        for name in todo:
            shutil.rmtree(self.folder / paths.VERSIONS / name, ignore_errors=True)
        for name, changes in self._paced(todo):
            self._version(name, changes)
        self._finish(f"Back to the params as they were, with {', '.join(wanted)} replayed")

    def impact(self) -> None:
        """Run both sides of every feature and keep their predictions.

        Raises:
            UserError: as `versions`, or a version that features start from is not up to date.
            Stopped: Ctrl-C, SIGTERM or SIGHUP.
        """
        sides = {}
        for key in self.catalog.features:
            for changes in self.catalog.sides(key):
                with_changes(self.params, changes, key)
                sides[results.side_path(self.catalog, changes)] = changes
        self._open()
        versions, own = self.tree.versions(), {}
        for path, changes in sides.items():
            name = path.parent.name
            if path.parent == FEATURES:
                own[path.stem] = changes
            elif reason := self._stale(versions.get(name), changes):
                raise UserError(
                    f"{name}, which features are compared with, needs a replay: {reason}. "
                    f"Run `python -m pairpref.versions replay {name}`."
                )
        files = {name: self.folder / FEATURES / f"{name}.parquet" for name in own}
        commit = self.tree.versions(logs.FEATURES).get("features")
        if not self._stale(commit, {}) and all(path.exists() for path in files.values()):
            return self._up_to_date("all features")
        shutil.rmtree(self.folder / FEATURES, ignore_errors=True)
        for name, changes in self._paced(own):
            kept.write(kept.final_probabilities(self._run(changes, "calibrate")), files[name])
        message = f"What each feature does, measured on its own\n\n{logs.FEATURES}: features"
        self._finish(message, {"features": _today()})

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
        self._write_measured(table)
        # The arena's solution plays the leaderboard; scores of a real one are entered by hand.
        if settings.data.solution and in_arena(settings.data.solution):
            self._write_score(name)
        dvc(self.folder, "repro")
        found = VersionResults.load(self.catalog, predictions, self.folder, features=False)
        row = next(row for row in found.rows if row.name == name)
        self.tree.commit(logs.commit_message(row), *_COMMITTED)

    def _run(self, changes: Changes, stage: str) -> pd.DataFrame:
        """The predictions of the pipeline with changed params, run up to a stage."""
        self._set(changes)
        dvc(self.folder, "repro", stage)
        return kept.collect_predictions(params.load(self.folder / paths.PARAMS), self.folder)

    def _write_measured(self, table: pd.DataFrame) -> None:
        text = results.measured_csv(table, self.catalog.ordered())
        write_text(self.folder / paths.MEASURED, text)

    def _write_score(self, name: str) -> None:
        found = json.loads((self.folder / paths.TEST_METRICS).read_text(encoding="utf-8"))
        scores = [found.get(f"log_loss_{part}") for part in ("public", "private")]
        path = self.folder / paths.LEADERBOARD
        order = {version: place for place, version in enumerate(self.catalog.ordered())}
        table = results.read_leaderboard(path)
        others = (table["version"] != name) | (table["regime"] != "simulated")
        table = table[others].reset_index(drop=True)
        table.loc[len(table)] = [name, _today(), "simulated", *scores, "by replay"]
        table = table.sort_values("version", key=lambda names: names.map(order), kind="stable")
        write_text(path, table.to_csv(index=False, float_format="%.5f", lineterminator="\n"))

    def _paced(self, work: Mapping[str, Changes]) -> Iterator[tuple[str, Changes]]:
        """Pass work on, saying what is next and about how long the rest will take."""
        began = time.monotonic()
        for done, (name, changes) in enumerate(work.items()):
            left = (time.monotonic() - began) / max(done, 1) * (len(work) - done)
            about = f", about {timedelta(seconds=round(left))} left" if done else ""
            self.log.say(f"{name}, {done + 1} of {len(work)}{about}")
            yield name, changes

    def _where(self) -> tuple[str, str]:
        return self.main.head(), self.main.git("branch", "--show-current")

    def _finish(self, message: str, dates: Mapping[str, str] = {}) -> None:
        """Commit the params as they were, with the report; bring all to the user's branch."""
        self._set({})
        logs.write(self.catalog, self.folder, dates)
        dvc(self.folder, "repro")
        self.tree.commit(f"{message}\n", *_COMMITTED)
        if self._where() != self.begun:
            raise UserError(
                "commits were made or another branch was checked out during the replay. The "
                "results are in DVC's cache: the same command adds them to the branch in minutes."
            )
        if written := [path for path in _PIPELINE if self.main.git("ls-files", "--", path)]:
            self.main.git("checkout", "--quiet", "HEAD", "--", *written)
        before, tags = self.main.versions(), self.main.tags()
        self.main.git("merge", "--quiet", "--ff-only", self.tree.head())
        new = {name: c for name, c in self.main.versions().items() if c != before.get(name)}
        # A tag follows its version. A tag that the user has put elsewhere stays there.
        following = [name for name, commit in before.items() if tags.get(name) == commit.sha]
        for line in self.main.tag(new, move=following):
            self.log.say(line)
        self._close()
        try:
            dvc(self.root, "checkout")
        except UserError:
            self.log.say("some outputs could not follow; `dvc repro` makes them")

    def _open(self) -> None:
        """Enter the worktree, with the user's last commit and links to the user's files."""
        if self.tree.git("rev-parse", "--show-toplevel", check=False) != str(self.folder):
            self._close()
            self.main.git("worktree", "add", "--quiet", "--detach", str(self.folder))
        self._reset(self.main.head())
        cache = Repo(self.root).cache.local_cache_dir
        write_text(self.folder / ".dvc" / "config.local", f'[cache]\n    dir = "{cache}"\n')
        settings = params.load(self.folder / paths.PARAMS)
        for path in (*settings.data.model_dump().values(), settings.model.backbone):
            if not isinstance(path, str) or os.path.isabs(path) or in_arena(path):
                continue
            link = Path(os.path.normpath(self.folder / path))
            if link.exists() or not (self.root / path).exists():
                continue
            if not link.is_relative_to(self.folder):
                raise UserError(
                    f"{path} is outside the repository, where a replay in {WORKTREE} can't find "
                    "it. Use its absolute path in params.yaml, or a link in data/raw, and commit."
                )
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(self.root / path)

    def _reset(self, commit: str = "HEAD") -> None:
        self.tree.git("reset", "--quiet", "--hard", commit)
        self.tree.git("clean", "--quiet", "-d", "--force")

    def _close(self) -> None:
        # Deleted first: git refuses to remove a damaged worktree, but not a missing one.
        shutil.rmtree(self.folder, ignore_errors=True)
        self.main.git("worktree", "prune")

    def _up_to_date(self, what: str) -> None:
        self._close()
        self.log.say(f"{what}: up to date, nothing to do")

    def _set(self, changes: Changes) -> None:
        text = with_changes(self.params, changes, "a version") if changes else self.params
        write_text(self.folder / paths.PARAMS, text)

    def _stale(self, commit: Commit | None, changes: Changes) -> str:
        """Why a commit is not what the current code, params and votes would give; "" if it is."""
        if commit is None:
            return "it has never been replayed"
        self._set(changes)
        (self.folder / "dvc.lock").write_bytes(self.main.show(commit.sha, "dvc.lock") or b"")
        reason = changed_since(self.folder)
        self._reset()
        return reason


def _today() -> str:
    return logs.day(time.time())
