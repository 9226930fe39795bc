"""The rows of a file of votes, one at a time and each with its line: how the file is written, not what it means.

Nothing here depends on the length of the file, and a damaged row never hides the next one.
"""

from pathlib import Path

from pairpref.data import csv_rows, json_rows, lines, parquet_rows
from pairpref.data.lines import Source
from pairpref.errors import UserError

_READERS = {
    "csv": csv_rows.read,
    "jsonl": json_rows.read,
    "ndjson": json_rows.read,
    "parquet": parquet_rows.read,
}
_ADVICE = {
    **dict.fromkeys(("xlsx", "xls", "ods"), "a spreadsheet. Save the sheet as CSV in UTF-8"),
    **dict.fromkeys(("zip", "7z", "tar", "tgz", "bz2", "xz", "zst"), "packed. Unpack it"),
    **dict.fromkeys(("json",), f"one JSON document. Convert it: {json_rows.CONVERT}"),
    **dict.fromkeys(("arrow", "feather", "orc"), "a table of another kind. Write it as Parquet"),
    **dict.fromkeys(
        ("pkl", "pickle", "pt"),
        "a pickle, which could run anything. Write it as Parquet, where you trust it",
    ),
    **dict.fromkeys(("tsv", "tab"), "separated by tabs. Write it with commas, and call it .csv"),
}


def read(path: Path | str) -> Source:
    """Open a file: its columns, and its rows as they are asked for.

    Raises:
        UserError: no such file, an unknown ending, an empty file, another separator or encoding; while reading, damage to the
            file as a whole.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: this is a folder. Expected a readable file: name one in it.")
    return _READERS[_kind(path)](path)


def count_rows(path: Path | str) -> int:
    """Rows in a Parquet file, or lines below the header in another: about as many as rows, and quickly found.

    Raises:
        UserError: the file can't be read.
    """
    path = Path(path)
    kind = _kind(path)
    return (
        parquet_rows.count(path)
        if kind == "parquet"
        else sum(1 for _ in lines.read(path, "\n")) - (kind == "csv")
    )


def _kind(path: Path) -> str:
    name = path.name.lower()
    kind = name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet" and name.endswith(".gz"):
        raise UserError(f"{path}: a Parquet file that is packed. Unpack it: gunzip -k {path}")
    if kind not in _READERS:
        got = f"this is {_ADVICE[kind]}. " if kind in _ADVICE else ""
        raise UserError(
            f"{path}: {got}A file of votes ends in .csv, .jsonl (either may be packed: .gz) or .parquet."
        )
    return kind
