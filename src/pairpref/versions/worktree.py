"""The git worktree in which versions run, work/replay; it shares the repository's DVC cache."""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from dvc.repo import Repo
from ruamel.yaml import YAML

from pairpref import stopping
from pairpref.errors import UserError
from pairpref.files import write_text
from pairpref.params import in_arena
from pairpref.paths import PARAMS
from pairpref.versions.catalog import Changes
from pairpref.versions.git import Commit, Repository, environment

WORKTREE = Path("work/replay")
_BASE = "refs/worktree/base"  # the commit that the worktree was made at


class Worktree:
    """A checkout of HEAD beside the user's. The params that versions change are those of now."""

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / WORKTREE
        self.main, self.git = Repository(root), Repository(self.folder)
        self._text = (root / PARAMS).read_text(encoding="utf-8")
        self.params: dict[str, Any] = yaml.safe_load(self._text)

    def open(self) -> None:
        """Enter the worktree as an interrupted replay left it, or a new one if HEAD has moved."""
        head = self.main.head()
        if self.git.git("rev-parse", "--verify", "--quiet", _BASE, check=False) != head:
            self.close()
            self.main.git("worktree", "add", "--quiet", "--detach", str(self.folder), head)
            self.git.git("update-ref", _BASE, head)
        self._reset()
        cache = Repo(self.root).cache.local_cache_dir
        write_text(self.folder / ".dvc" / "config.local", f'[cache]\n    dir = "{cache}"\n')
        for path in (*self.params["data"].values(), self.params["model"]["backbone"]):
            if isinstance(path, str) and (self.root / path).exists() and not in_arena(path):
                self._link(path)

    def close(self) -> None:
        # Deleted first: git refuses to remove a damaged worktree, but not a missing one.
        shutil.rmtree(self.folder, ignore_errors=True)
        self.main.git("worktree", "remove", "--force", str(self.folder), check=False)

    def set(self, changes: Changes) -> None:
        """Write params.yaml: the user's with changes."""
        write_text(self.folder / PARAMS, rewritten(self._text, changes))

    def dvc(self, *arguments: str, folder: Path | None = None, check: bool = True) -> int:
        """Run DVC in the worktree, or another folder, and return its exit code.

        Raises:
            UserError: DVC failed (unless `check` is off).
            Stopped: Ctrl-C, SIGTERM or SIGHUP ended it.
        """
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        # In a session of its own, DVC and its stage get each signal once, from here.
        process = subprocess.Popen(
            [sys.executable, "-m", "dvc", *arguments, "--quiet"],
            cwd=folder or self.folder,
            env={**environment(), "PATH": path, "DVC_NO_ANALYTICS": "1"},
            start_new_session=True,
        )
        got: list[int] = []

        def pass_on(signum: int, _: object) -> None:
            got.append(signum)
            if process.poll() is None:
                os.killpg(process.pid, signum)

        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {signum: signal.signal(signum, pass_on) for signum in signals}
        code = process.wait()
        for signum, handler in before.items():
            signal.signal(signum, handler)
        if got:
            raise stopping.Stopped(got[0])
        if check and code:
            command = " ".join(arguments)
            raise UserError(
                f"`dvc {command}` failed in {WORKTREE}, as said above. Fix that and run the same "
                f"command again. (No message? Try `cd {WORKTREE} && dvc {command}`.)"
            )
        return code

    def stale(self, commit: Commit | None, changes: Changes) -> str:
        """Why a commit is not what the current code, params and votes would give; "" if it is."""
        if commit is None:
            return "it has never been replayed"
        self.set(changes)
        (self.folder / "dvc.lock").write_bytes(self.main.show(commit.sha, "dvc.lock") or b"")
        with contextlib.chdir(self.folder), Repo() as repo:
            made = [str(out) for out in repo.index.outs]
            status = repo.status(targets=["predict"], with_deps=True)
        self._reset()
        for stage, differences in status.items():
            for found in differences:
                if isinstance(found, str):
                    return f"{stage}: {found}"
                for path, state in found.get("changed deps", {}).items():
                    if isinstance(state, dict):
                        return f"{path} changed since: {', '.join(state)}"
                    if not any(Path(path).is_relative_to(out) for out in made):
                        return f"{path} changed since"
        return ""

    def _reset(self) -> None:
        # An interrupted version starts again; its finished stages are in DVC's cache.
        self.git.git("reset", "--quiet", "--hard")
        self.git.git("clean", "--quiet", "-d", "--force")

    def _link(self, path: str) -> None:
        """Link the user's file into the worktree, unless git has put it there."""
        link = Path(os.path.normpath(self.folder / path))
        if os.path.isabs(path) or link.exists():
            return
        if not link.is_relative_to(self.folder):
            raise UserError(
                f"{path} is outside the repository, where a replay in {WORKTREE} can't find it. "
                "Use its absolute path in params.yaml, or a link in data/raw, and commit."
            )
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(self.root / path)


def rewritten(text: str, changes: Changes) -> str:
    """A params file with other values for params that it has; comments and layout stay."""
    editor = YAML()
    editor.width, editor.preserve_quotes = 4096, True
    null = ("tag:yaml.org,2002:null", "null")
    editor.representer.add_representer(type(None), lambda of, _: of.represent_scalar(*null))
    content = editor.load(text)
    for name, value in changes.items():
        *sections, key = name.split(".")
        section = content
        for part in sections:
            section = section[part]
        # A small float in a form that both YAML 1.1 and 1.2 read as a number.
        small = isinstance(value, float) and 0 < abs(value) < 1e-3
        section[key] = editor.load(np.format_float_scientific(value, trim="0")) if small else value
    out = io.StringIO()
    editor.dump(content, out)
    return out.getvalue()
