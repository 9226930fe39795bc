"""dvc.yaml says what the code does: one word a stage, and all code of a stage among its deps."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pairpref.params import Params

ROOT = Path(__file__).parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
# What these change in an output, a params section or another dep changes too.
PLUMBING = {
    f"src/pairpref/{name}.py"
    for name in (
        "__init__",
        "cli",
        "errors",
        "monitor",
        "parallel",
        "params",
        "paths",
        "stage_guard",
        "stopping",
        "typed_yaml",
    )
}


def imported(path: Path) -> set[Path]:
    """Files of this project that a file imports, directly or through others."""
    found, todo = set(), [path]
    while todo:
        file = todo.pop()
        # Of the package itself only who asks for a Judge imports anything.
        if file in found or file == ROOT / "src/pairpref/__init__.py":
            continue
        found.add(file)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                base = ROOT / "src" / name.replace(".", "/")
                todo += [
                    p
                    for p in (base.with_suffix(".py"), base / "__init__.py")
                    if p.exists() and p.stat().st_size
                ]
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_one_word_a_stage(stage):
    assert STAGES[stage]["cmd"] == f"python -m stages.{stage}"
    assert (ROOT / "stages" / f"{stage}.py").exists()
    if params := STAGES[stage].get("params"):  # what has no switch has no section
        section = {"backbone": "model", "features": "fusion"}.get(stage, stage)
        assert section in Params.model_fields
        assert section in [str(name).split(".")[0] for name in params]


def test_every_stage_script_is_a_stage():
    assert {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"} == set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_deps_cover_what_is_imported(stage):
    deps = [ROOT / dep for dep in STAGES[stage]["deps"] if "$" not in dep]
    for path in imported(ROOT / "stages" / f"{stage}.py"):
        covered = any(path == dep or dep in path.parents for dep in deps)
        assert covered or path.relative_to(ROOT).as_posix() in PLUMBING, (
            f"{stage} imports {path.relative_to(ROOT)}, which is no dep"
        )


@pytest.mark.parametrize("stage", STAGES)
def test_metrics_and_plots_keep_the_run_cache(stage):
    """On an `outs` entry `cache: false` would switch the stage's run cache off."""
    assert stage == "backbone" or all(isinstance(out, str) for out in STAGES[stage].get("outs", []))
    for kind in ("metrics", "plots"):
        assert all(
            options["cache"] is False
            for entry in STAGES[stage].get(kind, [])
            for options in entry.values()
        )


def test_every_plot_is_drawn_by_a_template_of_our_own():
    for stage in STAGES.values():
        for path, options in (item for entry in stage.get("plots", []) for item in entry.items()):
            template = json.loads(
                (ROOT / ".dvc" / "plots" / f"{options['template']}.json").read_text(
                    encoding="utf-8"
                )
            )
            assert template["data"] == {"values": "<DVC_METRIC_DATA>"} and options["title"], path


def test_plots_need_no_network():
    page = (ROOT / ".dvc" / "plots" / "page.html").read_text(encoding="utf-8")
    assert (
        "{plot_divs}" in page
        and "{scripts}" not in page
        and "src=" not in page.replace("<script>", "\n").splitlines()[0]
    )
    assert "plots/page.html" in (ROOT / ".dvc" / "config").read_text(encoding="utf-8")


def test_a_stage_that_runs_no_model_imports_no_torch():
    """Which takes longer than most of them."""
    light = "simulate clean baselines backbone calibrate report".split()
    ask = "import sys; print({'torch', 'transformers', 'datasets'} & sys.modules.keys())"
    code = "; ".join([*(f"import stages.{stage}" for stage in light), ask])
    env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    asked = [sys.executable, "-c", code]
    done = subprocess.run(asked, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
