"""A bundle carried to an environment with what a notebook's image has, no network and no git."""

import json
import os
import shutil
import subprocess
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LACKING = {"ftfy", "joblib", "ruamel-yaml"}  # in the image, so that the bundle brings them
ROOTS = ("pairpref", "ipykernel", "nbclient", "pip")


def closure() -> dict[str, str]:
    """Versions of what predicting and a kernel need here, by name."""
    found: dict[str, str] = {}
    todo = [*ROOTS]
    while todo:
        name = canonicalize_name(todo.pop())
        if name in found:
            continue
        here = distribution(name)
        found[name] = here.version
        needs = map(Requirement, here.requires or ())
        todo += [need.name for need in needs if not need.marker or need.marker.evaluate()]
    return {name: v for name, v in found.items() if name not in {*LACKING, "pairpref"}}


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The Python of a new environment, to which an image's packages are lent from this one."""
    folder = tmp_path_factory.mktemp("kaggle")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    (folder / "image").mkdir()
    for name in closure():
        here = distribution(name)
        for top in {file.parts[0] for file in here.files or ()} - {"..", "__pycache__"}:
            link = folder / "image" / top
            if not link.exists():
                link.symlink_to(here.locate_file(top))
    packages = next((folder / "venv/lib").glob("python*/site-packages"))
    (packages / "image.pth").write_text(f"{folder / 'image'}\n")
    return folder / "venv/bin/python"


@pytest.fixture
def isolated() -> list[str]:
    """A command's beginning that takes the network away, all but the loopback of a kernel."""
    begin = ["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*begin, "true"]).returncode:
        pytest.skip("no network namespace can be made here")
    return begin


@pytest.mark.slow
def test_the_notebook_gives_the_pipelines_submission(repository, python, isolated, tmp_path):
    """Run by a real kernel, from the bundle and the test file alone."""
    pytest.importorskip("nbclient"), pytest.importorskip("ipykernel")
    freeze, given = tmp_path / "image.txt", tmp_path / "input"
    freeze.write_text("".join(f"{name}=={version}\n" for name, version in closure().items()))
    here = "{}.{}".format(*sys.version_info)
    asked = ["make", given / "bundle", "--python", here, "--image", freeze]
    made = repository.run(sys.executable, "-m", "pairpref.kaggle", *map(str, asked))
    assert made.returncode == 0, made.stdout
    brought = {path.name.split("-")[0] for path in (given / "bundle/wheels").iterdir()}
    assert brought == {"ftfy", "joblib", "pairpref", "ruamel_yaml"} and "ftfy-" in made.stdout

    (given / "competition").mkdir()
    shutil.copy(repository.path / "data/raw/simulated/test.csv", given / "competition")
    (tmp_path / "working").mkdir()
    shutil.copy(given / "bundle/predict.ipynb", tmp_path / "working")
    kept = {name: value for name, value in os.environ.items() if name.startswith("OMP")}
    kept |= {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    jupyter_execute = "from nbclient.cli import main; main()"
    options = ["--inplace", "--startup_timeout=600", "predict.ipynb"]
    asked = [*isolated, python, "-c", jupyter_execute, *options]
    subprocess.run(asked, cwd=tmp_path / "working", env=kept, check=True, timeout=2400)
    notebook = json.loads((tmp_path / "working/predict.ipynb").read_text())
    outputs = (o for cell in notebook["cells"] for o in cell.get("outputs", ()))
    said = "".join("".join(o["text"]) for o in outputs)
    assert "so the CPU predicts" in said and "predicted as when it was made" in said
    submission = (tmp_path / "working/submission.csv").read_bytes()
    assert submission == (repository.path / "submission.csv").read_bytes()
