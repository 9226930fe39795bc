"""Commands of README and docs run as written: those in blocks that begin with ```sh run."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```sh run\n(.*?)^```$", re.M | re.S)
BLOCKS = {page: _BLOCK.findall(page.read_text(encoding="utf-8")) for page in PAGES}
RUNNABLE = [page for page in PAGES if BLOCKS[page]]


@pytest.fixture(scope="module")
def copy(repository, tmp_path_factory):
    """A repository with a finished run, whose last commit plays the anchor version."""
    copy = repository.copy(tmp_path_factory.mktemp("docs"))
    copy.git("tag", "v17.0")
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNABLE, ids=[page.name for page in RUNNABLE])
def test_runnable_commands_run(copy, page):
    for block in BLOCKS[page]:
        done = copy.run("bash", "-euo", "pipefail", "-c", block)
        assert done.returncode == 0, f"{block}\n{done.stdout}"
    copy.git("reset", "--hard", "--quiet")
    copy.dvc("checkout", "--force")


def test_commands_of_the_package_exist(copy):
    """Every `pairpref …` and `pairpref versions …` that a page names is one of the command's."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for command, named in {
        "pairpref": re.findall(r"(?:`|&& |^ {4})pairpref ([a-z]+)", text, re.M),
        "pairpref versions": re.findall(r"pairpref versions ([a-z]+)", text),
    }.items():
        asked = copy.run(*command.split(), "--help")
        assert asked.returncode == 0, asked.stdout
        missing = {name for name in named if not re.search(rf"\b{name}\b", asked.stdout)}
        assert named and not missing, missing
