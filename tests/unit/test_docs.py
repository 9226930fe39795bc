"""The table of faults names the tests that are marked with its rows, and no others."""

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROWS = set(range(1, 28))


def marked() -> dict[int, set[str]]:
    """The tests that say they show a row of the table."""
    found = defaultdict(set)
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault":
                    for number in mark.args:
                        found[number.value].add(f"{path.relative_to(ROOT / 'tests')}::{node.name}")
    return found


def test_each_row_names_its_tests():
    rows = {}
    for line in (ROOT / "docs" / "faults.md").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\| (\d+) \|", line):
            rows[int(match[1])] = set(re.findall(r"`([\w/]+\.py::\w+)`", line))
    assert rows == marked()
    assert set(rows) == ROWS and all(rows.values())
