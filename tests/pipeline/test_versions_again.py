"""A version's commit, run again in a clone without tags and cache, gives its committed figures."""

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks.copies import Repository as Copy
from pairpref.versions.git import Repository
from pairpref.versions.pipeline import machine

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def test_a_version_makes_its_figures_again(tmp_path):
    found, name = Repository(ROOT), "v22.0"
    if found.git("rev-parse", "--is-shallow-repository") == "true" or name not in found.versions():
        pytest.skip("a shallow clone, or not yet replayed: the version's commit is not here")
    subprocess.run(["git", "clone", "--quiet", "--no-tags", ROOT, tmp_path / "tree"], check=True)
    clone = Copy.at(tmp_path)
    clone.run("python", "-m", "pairpref.versions", "tag")
    clone.git("checkout", "--quiet", name)
    before = json.loads((clone.path / "metrics/train.json").read_text(encoding="utf-8"))
    recorded = json.loads(
        (clone.path / "versions" / name / "machine.json").read_text(encoding="utf-8")
    )
    clone.dvc("repro", "train")
    after = json.loads((clone.path / "metrics/train.json").read_text(encoding="utf-8"))
    if recorded == machine():
        assert after == before and clone.git("status", "--porcelain", "metrics", "plots") == ""
    else:
        # Different last bits grow at the small model's high learning rate: v22.0 was 0.04 apart on
        # another CPU. The class shares are 0.17 and more away, so this still tells good from bad.
        assert after["log_loss"] == pytest.approx(before["log_loss"], abs=0.06)
