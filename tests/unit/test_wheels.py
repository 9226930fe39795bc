"""Which wheels a bundle gets: what is needed in turn, less what the image has."""

import re
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from pairpref.errors import UserError
from pairpref.kaggle import wheels

# Name: version, what it needs, and Python.
INDEX = {
    "torch": ("2.13.0", [], ""),
    "trans": ("5.1", ["hub[fast]>=1", "numpy"], ""),
    "hub": ("1.4", ["click>=8.4", "xet; extra == 'fast'", "slow; extra == 'slow'"], ""),
    "xet": ("1.0", ["numpy>=2.4"], ""),
    "numpy": ("2.4.1", [], ">=3.11"),
    "click": ("8.5", ["colorama; sys_platform == 'win32'", "old; python_version < '3.12'"], ""),
    "old": ("1", [], ""),
    "slow": ("1", [], ""),
    "colorama": ("1", [], ""),
}


def wheel(folder: Path, name: str, version: str, needs: list[str], python: str = "") -> Path:
    path = folder / f"{name}-{version}-py3-none-any.whl"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Python: {python}"] if python else []
    lines += [f"Requires-Dist: {need}" for need in needs]
    with ZipFile(path, "w") as opened:
        opened.writestr(f"{name}-{version}.dist-info/METADATA", "\n".join(lines) + "\n\n")
    return path


def chosen(folder: Path, has: dict[str, str], needs: list[str], python: str = "3.12") -> list[str]:
    """Names of the wheels that a package with these needs gets, beside an image."""
    own = wheel(folder, "mine", "0.1", needs)

    def download(wanted: list[str]) -> None:
        for need in map(Requirement, wanted):
            version, of_it, of_python = INDEX[need.name]
            assert need.specifier.contains(version), wanted
            wheel(folder, need.name, version, of_it, of_python)

    versions = {name: Version(version) for name, version in has.items()}
    found = wheels.closure(own, folder, wheels.Target(python), versions, download)
    assert {*found, own} == {*folder.glob("*.whl")}
    return sorted(path.name.split("-")[0] for path in found)


@pytest.mark.parametrize(
    ("has", "expected"),
    [
        ({"torch": "2.10.0+cu128"}, "click hub numpy trans xet"),
        ({"torch": "2.10.0", "hub": "1.9"}, "numpy trans"),
        ({"torch": "2.10.0", "click": "8.4.2"}, "hub numpy trans xet"),
        ({"torch": "2.10.0", "click": "8.3.3", "xet": "0.1"}, "click hub numpy trans"),
        ({"torch": "2.0", "trans": "5.1"}, "numpy torch"),
        ({"torch": "2.10.0", "trans": "5.1", "numpy": "2.4.9"}, ""),
    ],
)
def test_what_the_image_lacks(tmp_path, has, expected):
    needs = ["torch~=2.5", "trans>=5", "numpy>=2.2", "dvc; extra == 'pipeline'"]
    assert chosen(tmp_path, has, needs) == expected.split()


def test_a_need_found_later_is_met(tmp_path):
    """numpy of the image fits this package, but not what xet needs."""
    assert "numpy" in chosen(tmp_path, {"torch": "2.10.0", "numpy": "2.0.2"}, ["trans>=5", "numpy"])


def test_markers_ask_the_target(tmp_path):
    assert chosen(tmp_path, {}, ["click"], python="3.11") == ["click", "old"]


def test_needs_that_no_version_meets(tmp_path):
    INDEX["narrow"] = ("1", ["numpy<2.4"], "")
    with pytest.raises(UserError, match=re.escape("numpy-2.4.1-py3-none-any.whl does not fit")):
        chosen(tmp_path, {}, ["numpy>=2.2", "xet", "narrow"])


def test_a_python_that_is_too_old(tmp_path):
    with pytest.raises(UserError, match=r"--python 3.10: numpy-2.4.1.* needs Python >=3.11"):
        chosen(tmp_path, {}, ["numpy"], python="3.10")


def test_what_pip_could_not_get_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(UserError, match=r"pip download failed: ERROR: No matching .*no-such-thing"):
        wheels._pip("download", "--dest", str(tmp_path), "no-such-thing==1")


def test_the_list_of_the_image():
    has = wheels.image(None)
    assert has["torch"] in Requirement("torch~=2.10").specifier and "pydantic-core" in has


def test_pip_freeze_is_read(tmp_path):
    freeze = tmp_path / "freeze.txt"
    freeze.write_text("numpy==2.4.6\nTyping_Extensions==4.16.0\nmine @ file:///x\n-e git+x\n")
    assert wheels.image(freeze) == {
        "numpy": Version("2.4.6"),
        "typing-extensions": Version("4.16.0"),
    }
    freeze.write_text("nothing\n")
    for path in (freeze, tmp_path / "none.txt"):
        with pytest.raises(UserError, match="--image"):
            wheels.image(path)


def test_a_build_needs_a_clone(tmp_path):
    with pytest.raises(UserError, match="Run the package of a clone"):
        wheels.build(tmp_path, tmp_path)
