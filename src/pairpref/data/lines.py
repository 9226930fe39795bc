"""The lines of a text file, and what every reader makes of a file: named cells, row by row."""

import codecs
import gzip
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pairpref.data.quarantine import printable
from pairpref.errors import UserError

MAX_CELL = 1_000_000  # characters; an unclosed quote swallows no more than this
MAX_LINE = 16 * MAX_CELL  # characters after which a line is cut: the rest comes as another line
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_NO_TEXT = {
    b"PK\x03\x04": "a .zip or .xlsx file. Unpack it, or save the sheet as CSV in UTF-8",
    b"PAR1": "a Parquet file. Give it a name that ends in .parquet",
    b"\x1f\x8b": "packed with gzip. Give it a name that ends in .gz",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself. Get it: git lfs pull",
}


@dataclass(frozen=True, slots=True)
class Record:
    """One row: its named cells and, where it can't be used, the reason (see `quarantine`)."""

    line: int  # the physical line it begins on, from 1
    cells: Mapping[str, object]
    reason: str = ""
    excerpt: str = ""


@dataclass(frozen=True)
class Source:
    """An opened file, whose rows are read as they are asked for."""

    columns: Sequence[Sequence[str]]  # names; of JSON lines, those of each of the first objects
    records: Callable[[Collection[str]], Iterator[Record]]  # given the names that are needed


def read(path: Path, newline: str) -> Iterator[str]:
    """The lines of a text file, unpacked where it ends in .gz. Bytes that are not UTF-8 come as
    lone surrogates, so that they cost their row and not the file.

    Raises:
        UserError: no such file, no text, another encoding, a damaged .gz.
    """
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opened(path, "rb") as file:
            begins = file.read(30)
        if begins[:2] in _UTF16:
            raise UserError(f"{path}: this is UTF-16; expected UTF-8. Save it again as UTF-8.")
        refuse_by_first_bytes(path, begins)
        with opened(
            path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline=newline
        ) as file:
            while line := file.readline(MAX_LINE):
                yield line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path}: not a whole .gz file ({error}). Get or pack it again.") from None
    except OSError as error:
        raise unreadable(path, error) from None


def refuse_by_first_bytes(path: Path, begins: bytes) -> None:
    for magic, kind in _NO_TEXT.items():
        if begins.startswith(magic):
            raise UserError(f"{path}: by its first bytes this is {kind}.")


def refuse_repeated(path: Path, names: Sequence[str]) -> None:
    if twice := [name for name in dict.fromkeys(names) if name and names.count(name) > 1]:
        raise UserError(f"{path}: the column {listed(twice)} is there twice. Remove or rename one.")


def unreadable(path: Path, error: OSError) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(
            f"{path}: no such file. Check the path; it is relative to the folder you run in."
        )
    return UserError(f"{path}: {error.strerror or error}. Expected a readable file.")


def undecoded(text: str) -> bool:
    """Whether a text holds bytes that were not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def listed(names: Iterable[str]) -> str:
    """Names in one printable line of at most 200 characters."""
    return printable(", ".join(names), 200)
