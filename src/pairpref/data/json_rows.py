"""The rows of a file of JSON lines: an object a line."""

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from pairpref.data import lines, strict_json
from pairpref.data.lines import Record, Source
from pairpref.data.row_error import RowError
from pairpref.errors import UserError

CONVERT = 'python -c "import json, sys; [print(json.dumps(row)) for row in json.load(sys.stdin)]" < old.json > new.jsonl'

_LOOK_AHEAD = 100


def read(path: Path) -> Source:
    """Open a file of JSON lines: the columns of its first objects, and its rows. Blank lines are no rows.

    Raises:
        UserError: the file is empty, or none of its first lines is an object.
    """
    records = _records(lines.read(path, newline="\n"))
    head = list(islice(records, _LOOK_AHEAD))
    if not head:
        raise UserError(f"{path}: the file is empty. Expected a JSON object a line.")
    columns = [tuple(record.cells) for record in head if record.cells]
    if not columns:
        raise UserError(
            f"{path}: no JSON object in the first lines: got {lines.listed([head[0].excerpt[:60]])}. Expected one a line. "
            f"If the file is one JSON list, convert it: {CONVERT}"
        )
    return Source(columns, lambda columns: chain(head, records))


def _records(source: Iterator[str]) -> Iterator[Record]:
    number, whole = 0, True
    for line in source:
        rest, whole = not whole, line.endswith("\n")
        if rest:
            continue
        number += 1
        if line.isspace():
            continue
        if not whole and len(line) == lines.MAX_LINE:
            yield Record(number, {}, "too_long", line[:200])
            continue
        if lines.undecoded(line):
            yield Record(number, {}, "not_utf8", line)
            continue
        try:
            value = strict_json.loads(line)
        except RowError as refused:
            reason = "broken_row" if refused.reason == "broken_json" else refused.reason
            yield Record(number, {}, reason, refused.excerpt)
            continue
        yield (
            Record(number, value)
            if isinstance(value, dict)
            else Record(number, {}, "broken_row", line)
        )
