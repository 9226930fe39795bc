"""The console script: the same commands as `python -m pairpref.<command>`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pairpref import cli

ROOT = Path(__file__).parents[2]
# As pip writes it.
SCRIPT = "import sys\nfrom pairpref.cli import main\nsys.exit(main())\n"


@pytest.mark.parametrize("command", ["predict", "export", "compare", "versions", "params"])
def test_each_command_shows_an_example(monkeypatch, capsys, command):
    monkeypatch.setattr(sys, "argv", ["pairpref", command, "--help"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr().out
    assert end.value.code == 0 and said.startswith(f"usage: pairpref {command}")
    assert f"pairpref {command}" in said.partition("\nexample:\n")[2]


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), ([], 2), (["train"], 2)])
def test_the_commands_are_listed(monkeypatch, capsys, arguments, code):
    monkeypatch.setattr(sys, "argv", ["pairpref", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    out, err = capsys.readouterr()
    assert end.value.code == code and ("compare two files" in out if not code else "COMMAND" in err)


@pytest.mark.fault(21)
def test_it_runs_the_code_of_the_repository_it_is_started_in(tmp_path):
    """Also below its root, and whatever repository was installed."""
    package = tmp_path / "clone" / "src" / "pairpref"
    package.mkdir(parents=True)
    for name in ("__init__.py", "cli.py"):
        (package / name).write_bytes((ROOT / "src" / "pairpref" / name).read_bytes())
    (package / "params.py").write_text("def main(argv):\n    print('mine', argv)\n")
    script = tmp_path / "pairpref"
    script.write_text(SCRIPT)
    for folder in (package.parents[1], package.parent):
        done = subprocess.run(
            [sys.executable, script, "params", "x"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
            text=True,
            capture_output=True,
        )
        assert (done.stdout, done.stderr) == ("mine ['x']\n", "")
