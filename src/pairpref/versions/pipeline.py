"""DVC in a replay's worktree: run, and asked what differs; and the machine it runs on."""

import os
import platform
import re
import signal
import subprocess
import sys
from contextlib import chdir
from importlib import metadata
from pathlib import Path

from dvc.repo import Repo

from pairpref.errors import UserError
from pairpref.stopping import Stopped
from pairpref.training import determinism
from pairpref.versions.git import environment


def dvc(folder: Path, *arguments: str) -> None:
    """Run a DVC command in a folder.

    Raises:
        UserError: it failed.
        Stopped: Ctrl-C, SIGTERM or SIGHUP, which DVC and its stage got as well.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    # In a session of its own, it gets each signal once, from here.
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", *arguments, "--quiet"],
        cwd=folder,
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
        raise Stopped(got[0])
    if code:
        command = " ".join(arguments)
        raise UserError(
            f"`dvc {command}` failed in {folder}, as said above. Fix that and run the same command "
            f"again. (No message? Try `cd {folder} && dvc {command}`.)"
        )


def changed_since(folder: Path) -> str:
    """What of code, params and votes differs from a folder's dvc.lock; "" if nothing."""
    with chdir(folder), Repo() as repo:
        made = [str(out) for out in repo.index.outs]
        status = repo.status(targets=["predict"], with_deps=True)
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
