"""Signals end work at once or at the next point where it is saved, and reach workers too."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def python(here, program: str) -> subprocess.Popen:
    """A program that listens, and says when it has got somewhere by a line."""
    path = here / "program.py"
    path.write_text(
        "import os, signal, sys, time\nfrom pairpref import stopping\n" + textwrap.dedent(program)
    )
    return subprocess.Popen(
        [sys.executable, "-u", path],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen) -> str:
    out, _ = process.communicate(timeout=120)
    return out


AT_ONCE = """
    stopping.listen()
    try:
        print("ready")
        for _ in range(600):
            time.sleep(0.05)  # a signal just before one long sleep would wait
    except stopping.Stopped as stop:
        print("stopped by", stop.signum)
"""

LATER = """
    stopping.listen()
    try:
        with stopping.deferred():
            print("ready")
            while stopping.requested() is None:
                time.sleep(0.01)
            time.sleep(0.3)
            print("saved")
    except stopping.Stopped as stop:
        print("stopped by", stop.signum)
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("program, expected", [(AT_ONCE, ""), (LATER, "saved\n")])
def test_a_signal_ends_work_at_once_or_at_its_safe_point(here, program, expected, signum):
    process = python(here, program)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signum)
    assert ended(process) == f"{expected}stopped by {int(signum)}\n"


def test_a_second_ctrl_c_does_not_wait(here):
    process = python(here, LATER.replace("0.3", "30"))
    process.stdout.readline()
    began = time.monotonic()
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    assert ended(process) == "stopped by 2\n" and time.monotonic() - began < 10


def test_signals_on_the_way_out_do_not_cut_the_last_words_short(here):
    process = python(here, AT_ONCE.replace('print("stopped', 'time.sleep(1); print("stopped'))
    process.stdout.readline()
    for _ in range(5):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    assert ended(process) == "stopped by 2\n"


def test_what_breaks_because_of_the_signal_is_not_reported(here):
    process = python(here, LATER.replace('print("saved")', "raise ValueError"))
    process.stdout.readline()
    process.terminate()
    assert ended(process) == "stopped by 15\n"


def test_what_breaks_without_a_signal_is(here):
    process = python(
        here,
        LATER.replace("while stopping.requested() is None:", "for _ in range(3):").replace(
            'print("saved")', "raise ValueError"
        ),
    )
    assert "ValueError" in ended(process)


WITH_WORKER = """
    if len(sys.argv) > 1:
        stopping.listen(worker=True)
        print("ready")
        while stopping.requested() is None:
            time.sleep(0.01)
        print("worker told", stopping.requested())
        sys.exit()
    import subprocess
    stopping.listen()
    with stopping.deferred():
        subprocess.run([sys.executable, "-u", __file__, "worker"])
        while stopping.requested() is None:
            time.sleep(0.01)
"""


def test_workers_are_told(here):
    process = python(here, WITH_WORKER)
    process.stdout.readline()
    process.terminate()
    assert "worker told 15\n" in ended(process)


def test_a_worker_is_told_twice_by_one_ctrl_c(here):
    process = python(here, WITH_WORKER)
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    out = ended(process)
    assert out.startswith(("worker told 2\n", "worker told 15\n"))
    assert "Traceback" not in out.split("worker told")[0]


@pytest.mark.parametrize(
    ("signum", "said"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")]
)
def test_a_stage_that_still_imports_ends_in_a_line(here, signum, said):
    """Imports take seconds, and there is nothing yet to save."""
    (here / "torch.py").write_text("import sys, time\nprint('ready', flush=True)\ntime.sleep(60)\n")
    paths = os.pathsep.join([str(here), str(ROOT / "src"), str(ROOT)])
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.train"],
        cwd=here,
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signum)
    assert ended(process) == f"stopped by {said} during start-up; run the command again\n"
    assert process.returncode == 128 + signum
