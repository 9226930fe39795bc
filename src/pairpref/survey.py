"""A first look at a file of pairs, before a model is asked: how many rows, and which are bad."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pairpref.data import quarantine
from pairpref.data.quarantine import RejectedRow, Tally
from pairpref.data.votes import read_unjudged
from pairpref.errors import UserError
from pairpref.files import written_aside
from pairpref.params import CleanParams

MAX_BAD_SHARE = CleanParams().max_bad_share
_SHARES = "the shares of A, B and tie among the training votes"


def survey(
    path: Path,
    usual: Mapping[str, bool],
    keep_going: bool,
    say: Callable[[str], object],
    unreadable: Path | None,
) -> tuple[int, int]:
    """Count rows and characters of a file of pairs, and list the rows that can't be read.

    Args:
        usual: as in `votes.read_unjudged`.
        unreadable: CSV of these rows; removed where there are none.

    Raises:
        UserError: they are more than `MAX_BAD_SHARE`, unless `keep_going`; or one has no id.
    """
    total, characters, tally = 0, 0, Tally()

    def bad() -> Iterator[RejectedRow]:
        nonlocal total, characters
        for row in read_unjudged(path, usual).rows:
            total += 1
            if isinstance(row, RejectedRow):
                _refuse_without_id(path, row)
                tally.add(row)
                yield row
            else:
                characters += row.characters

    listed = ""
    if unreadable is None:
        deque(bad(), maxlen=0)
    else:
        with written_aside(unreadable) as (to,):
            quarantine.write(to, bad())
        listed = f" Each is in {unreadable} with its line."
        if not tally.counts:
            unreadable.unlink()
    count = tally.counts.total()
    found = f"{count:,} of {total:,} rows can't be read"
    if count > MAX_BAD_SHARE * total and not keep_going:
        raise UserError(
            f"{path}: {found}, more than {MAX_BAD_SHARE:.0%}.\n{tally.summary()}\n"
            f"Mend the file, or let such rows get {_SHARES} with --keep-going.{listed}"
        )
    if count:
        say(f"{found}; they get {_SHARES}.{listed}\n{tally.summary()}")
    return total, characters


def _refuse_without_id(path: Path, row: RejectedRow) -> None:
    if not row.id or row.id != row.id.encode("utf-8", "replace").decode():
        raise UserError(
            f"{path}: line {row.line} has no readable id, which a prediction needs "
            f"({row.reason}, {quarantine.printable(row.excerpt)}). Mend that line."
        )
