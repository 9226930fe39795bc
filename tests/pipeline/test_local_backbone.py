"""A local backbone whose weights are changed in place; `dvc repro` notices."""

import hashlib
import re
import shutil
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.slow


def state(folder: Path) -> dict[str, tuple[str, int]]:
    """Hash and mode of each file."""
    return {
        f.name: (hashlib.sha256(f.read_bytes()).hexdigest(), f.stat().st_mode)
        for f in folder.iterdir()
    }


@pytest.mark.fault(22)
def test_a_backbone_changed_in_place_is_trained_again(clean_tree, tiny_backbone, tmp_path):
    mine = Path(shutil.copytree(tiny_backbone("bert"), tmp_path / "mine"))
    apply_overrides(clean_tree.path / "params.yaml", [f"model.backbone={mine}"])
    clean_tree.dvc("repro", "train")
    figures = (clean_tree.path / "metrics/train.json").read_bytes()
    assert "up to date" in clean_tree.dvc("repro", "train")

    weights = {name: tensor * 3 for name, tensor in load_file(mine / "model.safetensors").items()}
    save_file(weights, mine / "model.safetensors", metadata={"format": "pt"})
    (mine / "model.safetensors").chmod(0o640)
    before = state(mine)
    printed = clean_tree.dvc("repro", "train")
    assert re.findall("Running stage '(.*)'", printed) == ["backbone", "tokenize", "train"]
    assert (
        "already trained" not in printed
        and (clean_tree.path / "metrics/train.json").read_bytes() != figures
    )
    assert state(mine) == before
