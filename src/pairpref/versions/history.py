"""Versions in git: a version is the newest commit whose message ends with the trailer `Version: v17.0`, and a tag on it.

Tags do not always travel with a clone; the trailers do. So tags are made from the commits, by one function and from nothing but the
commit: the tag object is the same wherever it is made.
"""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pairpref.errors import UserError

TRAILER = "Version"
_FIELD, _RECORD = "\x1f", "\x1e"
_NOBODY = ("pairpref", "pairpref@localhost")
# Whatever the user has git do for themselves, these commands are to do and print one thing: no hooks, no signatures, no colours.
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.quotePath=false",
    "commit.gpgSign=false",
    "log.showSignature=false",
    "color.ui=false",
    "grep.patternType=default",
    "trailer.separators=:",
    "i18n.logOutputEncoding=UTF-8",
    "i18n.commitEncoding=UTF-8",
)
_PLAIN = tuple(part for setting in _SETTINGS for part in ("-c", setting))


@dataclass(frozen=True)
class Commit:
    """A commit with a trailer: its hash, who committed it and when (as git writes both), and its message without the trailer."""

    sha: str
    committer: str
    message: str


class Repository:
    """The git repository, or worktree, that a folder belongs to."""

    def __init__(self, folder: Path = Path()) -> None:
        self.folder = folder

    def git(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Output of a git command, without the last line's end.

        Raises:
            UserError: git is not there, or (unless `check` is off) ended with a fault.
        """
        try:
            done = subprocess.run(
                ["git", *_PLAIN, *arguments],
                cwd=self.folder,
                env=environment(),
                input=stdin,
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
            )
        except FileNotFoundError:
            raise UserError("git is not installed, or not on the path.") from None
        if check and "not a git repository" in done.stderr:
            raise UserError(
                f"{self.folder.resolve()} lies in no git repository, and versions are commits. Run it in a clone of the project."
            )
        if check and done.returncode:
            raise UserError(
                f"git {' '.join(arguments[:2])}: {done.stderr.strip() or done.stdout.strip()}"
            )
        return done.stdout.rstrip("\n")

    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    def branch(self) -> str:
        """The branch that is checked out; empty where it is a commit."""
        return self.git("branch", "--show-current")

    def show(self, commit: str, path: str) -> bytes | None:
        """A file as it was in a commit; None where it was not."""
        done = subprocess.run(
            ["git", "show", f"{commit}:{path}"],
            cwd=self.folder,
            env=environment(),
            capture_output=True,
        )
        return None if done.returncode else done.stdout

    def changed(self, *paths: str) -> list[str]:
        """Files below `paths` that differ from HEAD, untracked ones too; of all where no path is named."""
        listed = self.git("status", "--porcelain", "--untracked-files=all", "--", *paths)
        return [line[3:] for line in listed.splitlines()]

    def is_shallow(self) -> bool:
        return self.git("rev-parse", "--is-shallow-repository") == "true"

    def has_identity(self) -> bool:
        return (
            subprocess.run(
                ["git", "var", "GIT_COMMITTER_IDENT"],
                cwd=self.folder,
                env=environment(),
                capture_output=True,
            ).returncode
            == 0
        )

    def versions(self) -> dict[str, Commit]:
        """The newest commit of each version in the history."""
        return self.marked(TRAILER)

    def marked(self, trailer: str) -> dict[str, Commit]:
        """The newest commit in the history for each value of a trailer."""
        form = (
            _FIELD.join(
                ["%H", "%cn <%ce> %cd", f"%(trailers:key={trailer},valueonly,separator=%x2C)", "%B"]
            )
            + _RECORD
        )
        listed = self.git("log", f"--grep=^{trailer}: ", "--date=raw", f"--format={form}")
        found: dict[str, Commit] = {}
        for record in filter(str.strip, listed.split(_RECORD)):
            sha, committer, names, message = record.lstrip("\n").split(_FIELD)
            body = "\n".join(
                line for line in message.splitlines() if not line.startswith(f"{trailer}: ")
            ).strip()
            for name in filter(None, map(str.strip, names.split(","))):
                found.setdefault(name, Commit(sha, committer, body))
        return found

    def tags(self) -> dict[str, str]:
        """Every tag and the commit it stands on."""
        listed = self.git(
            "for-each-ref", "refs/tags", "--format=%(refname:lstrip=2) %(objectname) %(*objectname)"
        )
        return {parts[0]: parts[-1] for parts in map(str.split, listed.splitlines())}

    def tag(self, versions: dict[str, Commit], move: bool = False) -> tuple[list[str], list[str]]:
        """Put an annotated tag on each version's commit where it is missing.

        Args:
            move: also take tags from other commits to these.

        Returns:
            The tags that were made, and those that stand on another commit and (unless `move`) were left there.
        """
        there, made, elsewhere = self.tags(), [], []
        for name, commit in versions.items():
            if there.get(name) == commit.sha:
                continue
            if name in there:
                elsewhere.append(name)
                if not move:
                    continue
            made.append(name)
        lines = []
        for name in made:
            commit = versions[name]
            content = f"object {commit.sha}\ntype commit\ntag {name}\ntagger {commit.committer}\n\n{commit.message}\n"
            lines.append(f"update refs/tags/{name} {self.git('mktag', stdin=content)}\n")
        if lines:
            self.git("update-ref", "--stdin", stdin="".join(lines))
        return made, elsewhere

    def commit(self, message: str, *paths: str, even_empty: bool = False) -> None:
        """Commit what is at `paths`, under a stand-in's name where git knows nobody's.

        Args:
            even_empty: where nothing has changed, too, because the message is to be found; otherwise nothing is done then.
        """
        # By force: what a user has git ignore elsewhere, such as *.csv, belongs to a version.
        self.git("add", "--all", "--force", "--", *paths)
        if not even_empty and not self.git("diff", "--cached", "--name-only"):
            return
        who = []
        if not self.has_identity():
            who = ["-c", f"user.name={_NOBODY[0]}", "-c", f"user.email={_NOBODY[1]}"]
        self.git(
            *who,
            "commit",
            "--quiet",
            "--allow-empty",
            "--cleanup=verbatim",
            "--file=-",
            stdin=message,
        )


def environment() -> dict[str, str]:
    """The environment without what git sets for its hooks, which would send a git in another folder to this repository."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name in _KEPT
    }


_KEPT = {
    f"GIT_{who}_{what}" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL", "DATE")
} | {"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM"}
