"""`make` and the folder that .venv was made in."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Makes a .venv as Python does, as far as make looks at it, and installs nothing.
PYTHON = """#!/bin/sh
[ "$2" = venv ] || exit 0
mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo "VIRTUAL_ENV='$PWD/$3'" > "$3/bin/activate"
"""


def installed(folder: Path) -> str:
    command = ["make", "--no-print-directory", f"PYTHON={folder / 'python'}", ".venv/installed"]
    return subprocess.run(command, cwd=folder, text=True, capture_output=True, check=True).stdout


@pytest.mark.fault(21)
def test_a_renamed_folder_gets_a_new_environment(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    for name in ("Makefile", "requirements.txt", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, old)
    (old / "python").write_text(PYTHON)
    (old / "python").chmod(0o755)
    assert installed(old).startswith("Installing") and "up to date" in installed(old)
    (old / ".venv" / "left").touch()
    old.rename(new)
    assert f".venv was made in {old / '.venv'}, and is made anew here\nInstalling" in installed(new)
    assert not (new / ".venv" / "left").exists() and "up to date" in installed(new)


@pytest.mark.parametrize(
    ("versions", "chosen"), [([12, 13], "python3.12"), ([14], "python3.14"), ([], None)]
)
def test_the_first_python_that_works_is_taken(tmp_path, versions, chosen):
    """One that is only found, such as the shim of a version manager, is passed over."""
    for version in (11, *versions):
        path = tmp_path / f"python3.{version}"
        path.write_text("#!/bin/sh\nexit 127\n" if version == 11 else PYTHON)
        path.chmod(0o755)
    for name in ("sh", "make", "touch", "rm", "mkdir", "cp"):
        (tmp_path / name).symlink_to(shutil.which(name))
    for name in ("Makefile", "requirements.txt", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    command = ["make", "--no-print-directory", ".venv/installed"]
    environment = {"PATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True)
    if chosen:
        assert (tmp_path / ".venv/bin/python").read_text() == PYTHON, done.stderr
    else:
        assert done.returncode and "Python 3.11 or later is needed" in done.stdout
