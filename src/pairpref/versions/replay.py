"""Versions run again: each with its own params, through the whole pipeline, as a commit of its own.

All of it happens in a linked worktree of git, work/replay, which shares DVC's cache: the user's files are not touched before everything
that was asked for is done, and then only by a fast-forward. What is finished lies in the worktree's commits, so the same command goes on.
"""

import gzip
import hashlib
import io
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from filelock import FileLock, Timeout
from ruamel.yaml import YAML

from pairpref import params, stopping
from pairpref.errors import UserError
from pairpref.evaluation import truth
from pairpref.files import write_json, write_text
from pairpref.monitor import Log
from pairpref.params import ARENA, PARAMS, Params, in_arena
from pairpref.training import determinism
from pairpref.typed_yaml import flat
from pairpref.versions import evidence, experiments, standing
from pairpref.versions.catalog import Catalog, Changes, changed, natural
from pairpref.versions.history import Commit, Repository, environment

WORKTREE = Path("work/replay")
_BASE = Path("work/replay.base")
"""The commit that the worktree began at: on another one its versions would bring along what is not there."""
MACHINE = "machine.json"
MEASURED = "Measured"
"""Trailer of the commit that holds the features' effects."""

# What the pipeline and replays write themselves: never somebody's edits.
_PIPELINE = ("dvc.lock", "metrics", "plots")
_COMMITTED = (
    "params.yaml",
    *_PIPELINE,
    "versions.csv",
    "leaderboard.csv",
    "experiments.md",
    "README.md",
    "versions",
)
# Stages whose outcome a version's figures are. The others only look at it.
_JUDGED = ("simulate", "clean", "backbone", "tokenize", "train", "oof", "calibrate", "predict")
_IRRELEVANT = ("parallel.", "report.")


class Replay:
    """A session of replaying. Use as `with Replay(catalog, log) as replay:`, then `versions`, or `impact`."""

    def __init__(self, catalog: Catalog, log: Log, root: Path = Path()) -> None:
        self.catalog, self.log, self.root = catalog, log, root.resolve()
        self.main, self.there = Repository(self.root), Repository(self.root / WORKTREE)
        self._lock = FileLock(self.root / "work" / "replay.lock", timeout=0)

    def __enter__(self) -> "Replay":
        if (top := Path(self.main.git("rev-parse", "--show-toplevel"))) != self.root:
            raise UserError(
                f"this is not the root of its git repository, {top}: a replay commits params.yaml there. Run it in the root."
            )
        (self.root / WORKTREE).parent.mkdir(exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise UserError(
                "another replay is running in this repository; wait for it, or stop it with Ctrl-C where it runs."
            ) from None
        try:
            if edited := self._edited():
                raise UserError(
                    f"{', '.join(edited[:5])}{' and others' * (len(edited) > 5)} differ from the last commit. Versions are run by "
                    "committed code, so that others can run them too: commit or stash your edits, then the same command again."
                )
            # As they are now: whoever edits params.yaml meanwhile, or goes on committing, does not change what is replayed.
            self.begun = self.main.head(), self.main.branch()
            self.text = (self.root / PARAMS).read_text(encoding="utf-8")
            self.base: dict[str, Any] = yaml.safe_load(self.text)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def versions(self, names: list[str]) -> None:
        """Replay those of the named versions that are not what today's code, params and votes would make of them.

        Raises:
            UserError: a version can't be expressed by today's params, there are edits in the way, or the pipeline stopped.
        """
        wanted = {
            name: changed(self.base, self.catalog.changes(name), name)
            for name in self.catalog.versions
            if name in names
        }
        self._open()
        before = self.there.versions()
        why = {name: self._stale(before.get(name), raw) for name, raw in wanted.items()}
        for name in before:
            if name in why and not standing.predictions_of(name, self.there.folder).exists():
                why[name] = why[name] or "its predictions are gone"
        todo = [name for name, reason in why.items() if reason]
        if not todo and self.there.head() == self.main.head():
            self.log.say(
                f"{_listed(list(wanted))}: replayed by this code with these params on these votes; nothing to do"
            )
            self._close()
            return
        for name in todo:
            if name in before:
                self.log.say(f"{name} is replayed again: {why[name]}")
        self._forget(todo)
        for name in self._paced(todo):
            self._version(name)
        self._finish(f"Back on the params as they were, with {_listed(list(wanted))} replayed")

    def impact(self) -> None:
        """Run both sides of every feature and keep their predictions.

        Raises:
            UserError: as `versions`, or a version that features begin with is not replayed.
        """
        sides = {}
        for key in self.catalog.features:
            for changes in self.catalog.sides(key):
                changed(self.base, changes, key)
                sides[standing.side_path(self.catalog, changes)] = changes
        self._open()
        own = {
            path: changes for path, changes in sides.items() if standing.FEATURES in path.parents
        }
        versions = self.there.versions()
        for path in set(sides) - set(own):
            name = path.parent.name
            if reason := self._stale(versions.get(name), changed(self.base, sides[path], name)):
                again = f"`python -m pairpref.versions replay {name}`"
                raise UserError(
                    f"{name}, which features are compared with, needs a replay: {reason}. {again}"
                )
        missing = [f"{path} is missing" for path in own if not (self.there.folder / path).exists()]
        reason = self._stale(self.there.marked(MEASURED).get("features"), self.base) or next(
            iter(missing), ""
        )
        if not reason and self.there.head() == self.main.head():
            self.log.say("all features are measured by this code with these params; nothing to do")
            self._close()
            return
        if reason:
            shutil.rmtree(self.there.folder / standing.FEATURES, ignore_errors=True)
            for path in self._paced(list(own)):
                self._set(own[path])
                self._dvc("repro", "calibrate")
                predictions = evidence.gather(
                    params.load(self.there.folder / PARAMS), self.there.folder
                )
                (self.there.folder / path).parent.mkdir(parents=True, exist_ok=True)
                evidence.write(evidence.last_word(predictions), self.there.folder / path)
            experiments.update(self.there.folder, self.catalog, features=_today())
        # Code that gives the same bytes leaves nothing to commit, but the next time they count as this code's.
        self._finish(
            f"What each feature does, measured on its own\n\n{MEASURED}: features",
            even_empty=bool(reason),
        )

    def _paced(self, work: list[Any]) -> Iterator[Any]:
        """Pass work through, saying what is next and about how long the rest will take."""
        began = time.monotonic()
        for done, item in enumerate(work):
            left = (
                f", about {_minutes((time.monotonic() - began) / done * (len(work) - done))} left"
                if done
                else ""
            )
            self.log.say(
                f"{item.stem if isinstance(item, Path) else item}, {done + 1} of {len(work)}{left}"
            )
            yield item
        self.log.say(f"{len(work)} done in {_minutes(time.monotonic() - began)}")

    def _version(self, name: str) -> None:
        folder = self.there.folder
        self._set(self.catalog.changes(name))
        self._dvc("repro", "predict")
        settings = params.load(folder / PARAMS)
        predictions = evidence.gather(settings, folder)
        (folder / evidence.FOLDER / name).mkdir(parents=True, exist_ok=True)
        evidence.write(predictions, standing.predictions_of(name, folder))
        shutil.copy(
            folder / "plots" / "train.csv", folder / evidence.FOLDER / name / standing.TRAINING
        )
        write_json(folder / evidence.FOLDER / name / MACHINE, machine())
        if name == self.catalog.anchor:
            # No time and no name inside: the same submission is the same bytes.
            packed = gzip.compress((folder / "submission.csv").read_bytes(), mtime=0)
            (folder / evidence.FOLDER / name / "submission.csv.gz").write_bytes(packed)
        self._enter_figures(name, settings, predictions)
        self._enter_score(name, settings)
        experiments.update(folder, self.catalog, predictions, versions={name: _today()})
        self._dvc("repro")
        row = next(
            row
            for row in standing.stand(self.catalog, predictions, folder, features=False).rows
            if row.name == name
        )
        self.there.commit(experiments.message(row), *_COMMITTED, even_empty=True)

    def _enter_figures(self, name: str, settings: Params, predictions: pd.DataFrame) -> None:
        path, known = self.there.folder / standing.FIGURES, settings.data.truth
        true = None
        if known:
            ids = predictions["id"].drop_duplicates()
            true = truth.read(self.there.folder / known, ids)[
                pd.Index(ids).get_indexer(predictions["id"])
            ]
        table = standing.read_figures(path)
        measured = pd.DataFrame([evidence.figures(predictions, true)], index=[name])
        table = pd.concat(
            [table.drop(index=name, errors="ignore"), measured.reindex(columns=table.columns)]
        )
        write_text(path, standing.to_csv(table, self.catalog.ordered()))

    def _enter_score(self, name: str, settings: Params) -> None:
        """The arena's solution file plays the leaderboard. Nobody else's does: their scores are entered by hand or from a listing."""
        if not settings.data.solution or not settings.data.solution.startswith(str(ARENA)):
            return
        path = self.there.folder / standing.LEADERBOARD
        scores = yaml.safe_load(
            (self.there.folder / "metrics" / "test.json").read_text(encoding="utf-8")
        )
        table = standing.read_leaderboard(path)
        table = table[(table["version"] != name) | (table["regime"] != "simulated")]
        row = [
            name,
            _today(),
            "simulated",
            scores.get("log_loss_public"),
            scores.get("log_loss_private"),
            "by replay",
        ]
        table = (
            pd.concat([table, pd.DataFrame([row], columns=list(table))])
            if len(table)
            else pd.DataFrame([row], columns=list(table))
        )
        order = {version: place for place, version in enumerate(self.catalog.ordered())}
        table = table.sort_values("version", key=lambda column: column.map(order), kind="stable")
        write_text(path, standing.leaderboard_csv(table))

    def _edited(self) -> list[str]:
        """Files that differ from HEAD and are not the pipeline's."""
        return [path for path in self.main.changed() if path.split("/")[0] not in _PIPELINE]

    def _forget(self, names: list[str]) -> None:
        """Take away what the worktree says of versions that are about to be replayed: no table mixes old and new."""
        path = self.there.folder / standing.FIGURES
        table = standing.read_figures(path)
        if set(names) & set(table.index):
            write_text(
                path,
                standing.to_csv(table.drop(index=names, errors="ignore"), self.catalog.ordered()),
            )
        for name in names:
            shutil.rmtree(self.there.folder / evidence.FOLDER / name, ignore_errors=True)

    def _open(self) -> None:
        """The worktree: where an interrupted replay left it, or a new one where main has gone on since."""
        head, folder = self.main.head(), self.there.folder
        base = self.root / _BASE
        begun = (
            base.read_text(encoding="utf-8")
            if base.exists() and (folder / ".git").exists()
            else None
        )
        if (
            begun != head
            or self.main.git("merge-base", head, self.there.head(), check=False) != head
        ):
            self._close()
            self.main.git("worktree", "add", "--quiet", "--detach", str(folder), head)
            write_text(base, head)
        # A version that was being replayed is begun again; the cache has what it had finished.
        self.there.git("reset", "--quiet", "--hard")
        self.there.git("clean", "--quiet", "-d", "--force")
        write_text(folder / ".dvc" / "config.local", f'[cache]\n    dir = "{self._cache()}"\n')
        for path in self._own_files():
            link = folder / path
            if not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(self.root / path)

    def _close(self) -> None:
        remove = ("worktree", "remove", "--force", str(self.there.folder))
        self.main.git(*remove, check=False)
        shutil.rmtree(self.there.folder, ignore_errors=True)
        # Once more: git does not let go of one that is damaged, but of one that is gone. Never `prune`, which takes others' along.
        self.main.git(*remove, check=False)

    def _finish(self, message: str, even_empty: bool = False) -> None:
        """The params as they were, the report with all versions, one commit; then the user's branch follows."""
        self._set({})
        self._dvc("repro")
        self.there.commit(f"{message}\n", *_COMMITTED, even_empty=even_empty)
        if (self.main.head(), self.main.branch()) != self.begun:
            raise UserError(
                "commits were made, or another branch was checked out, while versions were replayed. All is done and in DVC's cache: "
                "the same command puts it on top of what is there now, in a few minutes."
            )
        if edited := self._edited():
            raise UserError(
                f"{', '.join(edited[:5])} were edited meanwhile. All is done and kept in {WORKTREE}: stash your edits, then the same "
                "command again puts it on your branch. (After a commit it would have to begin anew, though from DVC's cache.)"
            )
        if written := [path for path in _PIPELINE if self.main.git("ls-files", "--", path)]:
            self.main.git("checkout", "--quiet", "HEAD", "--", *written)
        before = self.main.versions()
        self.main.git("merge", "--quiet", "--ff-only", self.there.head())
        tags = self.main.tags()
        anew = {
            name: commit
            for name, commit in self.main.versions().items()
            if commit != before.get(name)
        }
        # A tag follows its version; one that somebody has put elsewhere stays there.
        ours = {
            name
            for name in anew
            if name not in tags or (name in before and tags[name] == before[name].sha)
        }
        if made := self.main.tag({name: anew[name] for name in ours}, move=True)[0]:
            self.log.say(f"tagged {_listed(natural(made))}")
        if others := set(anew) - ours:
            names = _listed(natural(others))
            self.log.say(
                f"{names}: the tag was put elsewhere, and left there; `python -m pairpref.versions tag --move` moves it"
            )
        self._close()
        # Outputs follow their lock file, but for those that are edited by hand.
        if self._run(self.root, "checkout", check=False):
            self.log.say(
                "not all outputs could follow: `dvc checkout` says which, `dvc repro` makes them"
            )

    def _stale(self, commit: Commit | None, raw: dict[str, Any]) -> str:
        """Why a commit is not what today's code would make of these params and votes; empty where it is."""
        if commit is None:
            return "it has never been replayed"
        if files := self.there.git(
            "diff", "--name-only", commit.sha, "HEAD", "--", *self._code()
        ).splitlines():
            return f"{files[0]}{' and others' * (len(files) > 1)} changed since"
        now, then = (_judged(self.main.show(sha, "dvc.yaml")) for sha in ("HEAD", commit.sha))
        if now != then:
            return "dvc.yaml changed since"
        new, old = (
            flat(raw),
            flat(yaml.safe_load(self.main.show(commit.sha, "params.yaml") or "{}")),
        )
        different = [
            name
            for name in sorted({*new, *old})
            if not name.startswith(_IRRELEVANT) and new.get(name) != old.get(name)
        ]
        return (
            f"{', '.join(different[:3])} changed since" if different else self._other_votes(commit)
        )

    def _other_votes(self, commit: Commit) -> str:
        """The user's own votes may be others under the same name; the arena's follow from its params."""
        locked = yaml.safe_load(self.main.show(commit.sha, "dvc.lock") or "{}").get("stages", {})
        md5 = {
            dep["path"]: dep.get("md5")
            for stage in locked.values()
            for dep in stage.get("deps", [])
        }
        for path in self.base["data"].values():
            if (
                isinstance(path, str)
                and md5.get(path)
                and not in_arena(str(self.root / path))
                and (self.root / path).is_file()
            ):
                with (self.root / path).open("rb") as opened:
                    if hashlib.file_digest(opened, "md5").hexdigest() != md5[path]:
                        return f"{path} is another file since"
        return ""

    def _code(self) -> list[str]:
        """What a version's figures are made with; outputs of stages are among it, too, which git knows nothing of."""
        stages = yaml.safe_load((self.root / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
        return sorted({dep for stage in _JUDGED for dep in stages[stage]["deps"] if "$" not in dep})

    def _own_files(self) -> Iterator[str]:
        """The user's files that params.yaml names, which git does not know: votes, a backbone's folder."""
        for path in (*self.base["data"].values(), self.base["model"]["backbone"]):
            relative = (
                isinstance(path, str) and not os.path.isabs(path) and (self.root / path).exists()
            )
            if relative and not Path(os.path.normpath(self.root / path)).is_relative_to(self.root):
                raise UserError(
                    f"{path} lies outside the repository, and a replay runs in {WORKTREE}, from where it leads elsewhere. Name it by "
                    "its absolute path in params.yaml, or put a link to it under data/raw, and commit."
                )
            if (
                relative
                and not in_arena(str(self.root / path))
                and not self.main.git("ls-files", "--", path)
            ):
                yield path

    def _set(self, changes: Changes) -> None:
        """params.yaml of the worktree: the one at HEAD of main with changes, comments kept."""
        write_text(self.there.folder / PARAMS, rewritten(self.text, changes))

    def _cache(self) -> Path:
        asked = subprocess.run(
            [sys.executable, "-m", "dvc", "cache", "dir"],
            cwd=self.root,
            env=environment(),
            capture_output=True,
            text=True,
        )
        if asked.returncode:
            raise UserError(f"dvc cache dir: {asked.stderr.strip()}")
        return (self.root / asked.stdout.strip()).resolve()

    def _dvc(self, *arguments: str) -> None:
        self._run(self.there.folder, *arguments)

    def _run(self, folder: Path, *arguments: str, check: bool = True) -> int:
        bin = Path(sys.executable).parent
        inherited = environment()
        own = {"PATH": f"{bin}{os.pathsep}{inherited.get('PATH', '')}", "DVC_NO_ANALYTICS": "1"}
        # A session of its own: a signal is passed on once, to DVC and the stage alike.
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", *arguments, "--quiet"],
            cwd=folder,
            env=inherited | own,
            start_new_session=True,
        )
        with _passed_on(process) as signals:
            code = process.wait()
        if signals:
            raise stopping.Stopped(signals[0])
        if check and code:
            raise UserError(
                f"`dvc {' '.join(arguments)}` stopped in {WORKTREE}, as said above. Once that is mended, the same command goes on. "
                f"(Where nothing is said above: `cd {WORKTREE} && dvc {' '.join(arguments)}` does.)"
            )
        return code


@contextmanager
def _passed_on(process: subprocess.Popen) -> Iterator[list[int]]:
    """Hand Ctrl-C, SIGTERM and a closed terminal to all of a process's group, and list them."""
    got: list[int] = []

    def pass_on(signum: int, _: object) -> None:
        got.append(signum)
        if process.poll() is None:
            os.killpg(process.pid, signum)

    before = {
        signum: signal.signal(signum, pass_on)
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield got
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def rewritten(text: str, changes: Changes) -> str:
    """A params file with other values, its comments and layout as they were.

    Args:
        changes: dotted name to value; every name is there already.
    """
    editor = YAML()
    editor.width, editor.preserve_quotes = 4096, True
    editor.representer.add_representer(
        type(None), lambda of, _: of.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    content = editor.load(text)
    for name, value in changes.items():
        *sections, key = name.split(".")
        section = content
        for part in sections:
            section = section[part]
        # A float as both YAML 1.1 and 1.2 read it.
        small = isinstance(value, float) and value and abs(value) < 1e-3
        section[key] = editor.load(np.format_float_scientific(value, trim="0")) if small else value
    out = io.StringIO()
    editor.dump(content, out)
    return out.getvalue()


def machine() -> dict[str, str]:
    """What decides a training's last bits besides params, data and code."""
    found = determinism.machine()
    return {
        "device": found["device"],
        "cpu": _processor(),
        "cpu_capability": found["cpu_capability"],
        "torch": metadata.version("torch"),
    }


def _processor() -> str:
    """Its kind as libraries of numerics tell kinds apart."""
    about = Path("/proc/cpuinfo")
    lines = (
        about.read_text(encoding="utf-8", errors="replace").split("\n\n")[0].splitlines()
        if about.exists()
        else []
    )
    known = {
        name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    named = [
        f"{name} {known[name]}" for name in ("cpu family", "model", "stepping") if name in known
    ]
    return ", ".join(
        [known.get("model name") or platform.processor() or platform.machine(), *named]
    )


def _judged(dvc_yaml: bytes | None) -> dict:
    stages = yaml.safe_load(dvc_yaml or b"{}").get("stages", {})
    return {
        name: {key: value for key, value in stages.get(name, {}).items() if key != "plots"}
        for name in _JUDGED
    }


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _listed(names: list[str]) -> str:
    return ", ".join(names)
