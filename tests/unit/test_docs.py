"""README and docs name only what exists: links, params, files, and the tests of each fault.

`python tests/unit/test_docs.py` writes the list of tests in docs/faults.md.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel
from transformers import TrainingArguments

from pairpref.params import Params

ROOT = Path(__file__).parents[2]
FAULTS = ROOT / "docs" / "faults.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
IDS = [page.name for page in PAGES]

_LIST = re.compile(r"(<!-- tests -->\n)(.*)(<!-- /tests -->)", re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PATH = re.compile(
    r"[\w.-]+(/[\w.-]+)*(/|\.(py|ipynb|md|ya?ml|csv|jsonl?|parquet|html|png|lock|gz|j2|safetensors))"
)
# Made by a run, though dvc.yaml does not declare them, or brought along by the user.
UNDECLARED = ("data/raw", "dvc_plots", "logs", "report/run.md", "work", ".dvc/tmp", ".dvc/cache")


def prose(page: Path) -> str:
    """A page without its code blocks."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return re.sub(r"^ {4}.*$", "", text, flags=re.M)


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_and_anchors_resolve(page):
    for link in _LINK.findall(prose(page)):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in slugs(target), link


def known(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The dotted names of all params, and of the sections that hold them."""
    for name, field in model.model_fields.items():
        yield prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from known(field.annotation, f"{prefix}{name}.")


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_params_exist(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?:-S|--set-param) '?([a-z][\w.]*)=", text)
    for code in re.findall(r"`([^`\n]+)`", prose(page)):
        section = re.match(rf"({'|'.join(Params.model_fields)})\.", code)
        if section and not _PATH.fullmatch(code):
            named.append(re.match(r"[\w.]+", code)[0].removesuffix("."))
    of_trainer = {f"train.arguments.{field.name}" for field in fields(TrainingArguments)}
    assert set(named) <= set(known(Params)) | of_trainer


def declared() -> set[str]:
    """What dvc.yaml declares as outs, metrics and plots."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    entries = [
        e for s in stages.values() for kind in ("outs", "metrics", "plots") for e in s.get(kind, [])
    ]
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}


def is_made(name: str, made: set[str]) -> bool:
    """Whether a path is an output, in one, or a folder that holds one."""
    return any(f"{name}/".startswith(f"{out}/") or out.startswith(f"{name}/") for out in made)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_files_exist_or_are_made(page):
    made = {*declared(), *UNDECLARED}
    for code in re.findall(r"`([^`\n]+)`", prose(page)):
        if "/" in code and _PATH.fullmatch(code) and not (ROOT / code).exists():
            assert is_made(code.removesuffix("/"), made), code
    for room, module in re.findall(r"-m (benchmarks|stages)\.(\w+)", page.read_text("utf-8")):
        assert (ROOT / room / f"{module}.py").exists(), module


def test_the_tree_of_the_readme_exists():
    tree = (ROOT / "README.md").read_text(encoding="utf-8").split("## What is where")[1]
    for line in re.findall(r"^ {4}.*$", tree.split("\n## ")[0], re.M):
        folder = ROOT / "src/pairpref" if line.startswith(" " * 6) else ROOT
        for entry in re.split(r";  +", line.strip()):
            assert (folder / entry.split()[0]).exists(), entry


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_pages_are_short(page):
    text = page.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    if page.name == "README.md":
        assert len(text.encode()) <= 9 * 1024


def marked() -> dict[int, dict[str, list[str]]]:
    """The tests marked with each fault's number: number → file → names."""
    found: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for mark in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault":
                    for number in mark.args:
                        found[number.value][path.relative_to(ROOT).as_posix()].append(node.name)
    return dict(sorted(found.items()))


def listed() -> str:
    """The list of docs/faults.md: a line per fault."""
    lines = []
    for number, files in marked().items():
        of_file = [
            f"`{file}`: {', '.join(f'`{name}`' for name in names)}" for file, names in files.items()
        ]
        lines.append(f"{number}. {'; '.join(of_file)}\n")
    return "".join(lines)


def test_faults_are_listed_with_their_tests():
    text = FAULTS.read_text(encoding="utf-8")
    rows = [int(number) for number in re.findall(r"^\| (\d+) \|", text, re.M)]
    assert rows == list(range(1, len(rows) + 1)) == list(marked())
    assert _LIST.search(text)[2] == listed(), "python tests/unit/test_docs.py writes the list anew"


if __name__ == "__main__":
    text = FAULTS.read_text(encoding="utf-8")
    FAULTS.write_text(
        _LIST.sub(lambda found: f"{found[1]}{listed()}{found[3]}", text), encoding="utf-8"
    )
