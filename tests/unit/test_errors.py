"""How commands end: Ctrl-C at any time, and a standard output that takes no more."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pairpref import errors

ROOT = Path(__file__).parents[2]


def python(*arguments: str, **options: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": "src"},
        **options,
    )


@pytest.mark.parametrize("program", ["-m", "bin/pairpref"])
@pytest.mark.parametrize(
    "module", ["predict", "compare", "versions", "params", "reporting.headline"]
)
def test_ctrl_c_while_a_command_is_imported(module, program):
    """The signal comes as soon as the package is there, long before main begins."""
    code = (
        f"import sys, signal; sys.argv = [{program!r}]; import pairpref; "
        f"signal.raise_signal(signal.SIGINT); import pairpref.{module}"
    )
    done = python("-c", code)
    assert done.returncode == 130 and len(done.stderr.splitlines()) == 1


def test_a_package_that_only_the_pipeline_needs(capsys):
    with pytest.raises(SystemExit), errors.command("compare"):
        raise ModuleNotFoundError("No module named 'sklearn.base'", name="sklearn")
    told = capsys.readouterr().err
    assert told.startswith("compare: needs sklearn, ") and len(told.splitlines()) == 1


def test_ctrl_c_while_a_command_runs():
    code = (
        "from pairpref.errors import command; import time\n"
        "with command('it', 2):\n print('on', flush=True); time.sleep(60)"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT / "src",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout.readline() == "on\n"
    running.send_signal(signal.SIGINT)
    assert (
        running.communicate(timeout=120)[1] == "it: stopped by Ctrl-C; run the same command again\n"
        and running.returncode == 130
    )


WORK = """
import sys
from pathlib import Path
from pairpref.errors import command, say
with command("it", 2):
    {say}("a word")
    Path(sys.argv[1]).write_text("done")
"""


def into_closed_pipe(code: str, path: Path) -> subprocess.CompletedProcess:
    read, write = os.pipe()
    os.close(read)
    done = python("-c", code, str(path), stdout=write)
    os.close(write)
    return done


def test_a_closed_output_ends_no_work(tmp_path):
    done = into_closed_pipe(WORK.format(say="say"), tmp_path / "work")
    assert (done.returncode, done.stderr) == (0, b"") and (tmp_path / "work").read_text() == "done"


def test_a_closed_output_is_no_verdict(tmp_path):
    done = into_closed_pipe(WORK.format(say="print"), tmp_path / "work")
    assert (done.returncode, done.stderr) == (2, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device here")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_output_is_named(tmp_path, monkeypatch, unbuffered):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with open("/dev/full", "w") as full:
        done = python("-c", WORK.format(say="print"), str(tmp_path / "work"), stdout=full)
    assert (
        done.returncode == 2
        and done.stderr.startswith(b"it: standard output or a file: ")
        and len(done.stderr.splitlines()) == 1
    )


def test_a_stage_goes_on_without_an_output(tmp_path):
    code = (
        "import os, sys; os.chdir(sys.argv[1]); "
        "from pairpref.monitor import Log; Log('train').say('a word')"
    )
    assert into_closed_pipe(code, tmp_path).returncode == 0
    assert "a word" in (tmp_path / "logs/train.jsonl").read_text()


@pytest.mark.fault(24)
def test_a_pipe_gets_utf8_and_a_terminal_what_it_can_show():
    options = {"env": os.environ | {"PYTHONPATH": "src", "PYTHONIOENCODING": "ascii"}, "cwd": ROOT}
    command = [sys.executable, "-c", "import pairpref; print('± 1')"]
    assert subprocess.run(command, stdout=subprocess.PIPE, **options).stdout.decode() == "± 1\n"
    ours, theirs = pty.openpty()
    subprocess.run(command, stdout=theirs, check=True, **options)
    assert os.read(ours, 99).split() == [b"?", b"1"]
    os.close(ours), os.close(theirs)
