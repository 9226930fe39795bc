"""A terminal that is not UTF-8 shows a question mark for what it can't show; nothing fails."""

import sys

import pytest

from benchmarks.copies import Repository

# Python also reads the output of git, and files whose encoding nobody names, as ASCII.
PLAIN = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
ASCII = {**PLAIN, "PYTHONIOENCODING": "ascii"}
COMMANDS = [
    "stages.clean",
    "pairpref.versions list",
    "pairpref.versions table",
    "pairpref.reporting.headline",
    "pairpref.predict --help",
]
# Runs a command in a terminal of its own, whose output is passed on.
IN_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
# Runs all commands in one process, which imports once; the first that fails ends it.
ALL = """
import runpy, sys
for command in sys.argv[1:]:
    print("command:", command)
    sys.argv = command.split()
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise
"""


@pytest.mark.fault(24)
def test_a_terminal_that_is_not_utf8_ends_nothing(repository):
    there = Repository(repository.path, repository.environment | ASCII)
    program = sys.executable, "-c", ALL, *COMMANDS
    done = there.run(sys.executable, "-c", IN_TERMINAL, *program)
    assert done.returncode == 0, done.stdout
    assert done.stdout.isascii()
    said = [part.split("\n", 1)[1].strip() for part in done.stdout.split("command: ")[1:]]
    assert len(said) == len(COMMANDS) and all(said), done.stdout
