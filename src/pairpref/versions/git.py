"""Versions in git: a version is the newest commit with the trailer `Version: v17.0`, and its tag.

Tags don't always travel with a clone, trailers do. So tags are made from the commits alone: the tag
object is the same wherever it is made.
"""

import os
import subprocess
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pairpref.errors import UserError
from pairpref.versions.catalog import natural

TRAILER = "Version"
_NOBODY = ("-c", "user.name=pairpref", "-c", "user.email=pairpref@localhost")
# The user's own settings must not change what these commands do or print.
_SETTINGS = """core.hooksPath=/dev/null core.quotePath=false commit.gpgSign=false tag.gpgSign=false
    log.showSignature=false i18n.logOutputEncoding=UTF-8 i18n.commitEncoding=UTF-8"""
_PLAIN = tuple(part for setting in _SETTINGS.split() for part in ("-c", setting))
_TAGGER = ("GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL", "GIT_COMMITTER_DATE")
# Git sets these for its hooks; they would send our commands to another repository.
_OF_HOOKS = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR"}


@dataclass(frozen=True)
class Commit:
    sha: str
    committer: tuple[str, str, str]  # name, e-mail, and time as git writes it: "1795419855 +0000"
    message: str  # without the trailer


class Repository:
    """The git repository, or worktree, that a folder belongs to."""

    def __init__(self, folder: Path = Path()) -> None:
        self.folder = folder

    def git(self, *arguments: str, stdin: str = "", check: bool = True, **variables: str) -> str:
        """Output of a git command, without the final newline.

        Raises:
            UserError: git is not installed, or the command failed (unless `check` is off).
        """
        done = self._run(*arguments, stdin=stdin, **variables)
        if check and done.returncode:
            problem = (done.stderr.strip() or done.stdout.strip()).decode(errors="replace")
            raise UserError(f"git {arguments[0]} in {self.folder.resolve()}: {problem}")
        return done.stdout.decode(errors="replace").rstrip("\n")

    def show(self, commit: str, path: str) -> bytes | None:
        """A file as it was in a commit; None where the commit has no such file."""
        done = self._run("show", f"{commit}:{path}")
        return None if done.returncode else done.stdout

    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    def changed(self) -> list[str]:
        """Files that differ from HEAD, including untracked ones."""
        listed = self.git("status", "--porcelain", "--untracked-files=all")
        return [line[3:] for line in listed.splitlines()]

    def versions(self, trailer: str = TRAILER) -> dict[str, Commit]:
        """The newest commit in the history of HEAD for each value of a trailer."""
        # In the body, and not by %(trailers), which follows the user's trailer settings.
        form = "%x1f".join(["%H", "%cn", "%ce", "%cd", "%B"]) + "%x1e"
        found: dict[str, Commit] = {}
        for record in self.git("log", "--date=raw", f"--format={form}").split("\x1e")[:-1]:
            sha, who, email, time, message = record.lstrip("\n").split("\x1f", 4)
            body, _, last = message.strip().rpartition("\n\n")
            for line in last.splitlines() if body else ():
                key, _, name = line.partition(": ")
                if key == trailer:
                    found.setdefault(name.strip(), Commit(sha, (who, email, time), body))
        return found

    def tags(self) -> dict[str, str]:
        """Every tag and the hash of its commit."""
        form = "--format=%(refname:lstrip=2) %(objectname) %(*objectname)"
        listed = self.git("for-each-ref", "refs/tags", form)
        return {parts[0]: parts[-1] for parts in map(str.split, listed.splitlines())}

    def tag(self, versions: dict[str, Commit], move: Collection[str] = ()) -> list[str]:
        """Tag each version's commit; tags that are on other commits only if named in `move`.

        Returns:
            A line about the tags that were made or moved, and one about those left elsewhere.
        """
        there = self.tags()
        todo = natural(name for name, commit in versions.items() if there.get(name) != commit.sha)
        left = [name for name in todo if name in there and name not in move]
        made = [name for name in todo if name not in left]
        options = ("--annotate", "--force", "--cleanup=verbatim", "--file=-")
        for name in made:
            commit = versions[name]
            tagger = dict(zip(_TAGGER, commit.committer, strict=True))
            message = f"{commit.message}\n"
            self.git("tag", *options, name, commit.sha, stdin=message, check=True, **tagger)
        lines = [f"tagged {', '.join(made)}"] if made else []
        if left:
            lines.append(
                f"{', '.join(left)}: the tag is on another commit and stays there; "
                "`python -m pairpref.versions tag --move` moves it"
            )
        return lines

    def commit(self, message: str, *paths: str) -> None:
        """Commit `paths`, even without changes."""
        # --force: files of a version are committed even if the user ignores, say, *.csv everywhere.
        self.git("add", "--all", "--force", "--", *paths)
        who = () if self.git("var", "GIT_COMMITTER_IDENT", check=False) else _NOBODY
        options = ("--quiet", "--allow-empty", "--cleanup=verbatim", "--file=-")
        self.git(*who, "commit", *options, stdin=message)

    def _run(
        self, *arguments: str, stdin: str = "", **variables: str
    ) -> subprocess.CompletedProcess[bytes]:
        command = ["git", "-C", str(self.folder), *_PLAIN, *arguments]
        env = environment() | variables
        try:
            return subprocess.run(command, env=env, input=stdin.encode(), capture_output=True)
        except FileNotFoundError:
            raise UserError("git is not installed, or not on the PATH.") from None


def described() -> str | None:
    """The commit of the code here, marked where files differ from it; None without git."""
    with suppress(UserError):
        repository = Repository()
        return repository.head() + (" with changes" if repository.changed() else "")
    return None


def environment() -> dict[str, str]:
    """The environment without what git sets for its hooks."""
    return {name: value for name, value in os.environ.items() if name not in _OF_HOOKS}
