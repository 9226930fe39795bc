"""A terminal that is not UTF-8 shows a question mark for what it can't show; nothing fails."""

import sys

import pytest

from benchmarks.copies import Repository

ASCII = {"PYTHONIOENCODING": "ascii"}
# Runs a command in a terminal of its own, whose output is passed on.
IN_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
# Here Python also reads the output of git, and files whose encoding nobody names, as ASCII.
PLAIN = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.mark.fault(24)
@pytest.mark.parametrize("terminal", [ASCII, PLAIN], ids=["ascii", "plain"])
@pytest.mark.parametrize(
    "command",
    [
        "stages.clean",
        "pairpref.versions list",
        "pairpref.versions table",
        "pairpref.reporting.headline",
        "pairpref.predict --help",
    ],
)
def test_a_terminal_that_is_not_utf8_ends_nothing(repository, command, terminal):
    there = Repository(repository.path, repository.environment | terminal)
    done = there.run(sys.executable, "-c", IN_TERMINAL, sys.executable, "-m", *command.split())
    assert done.returncode == 0, done.stdout
    assert done.stdout.strip() and done.stdout.isascii()
