"""python -m pairpref.compare NEW OLD [--groups data/clean/pairs.parquet]

Is NEW better than OLD, or was it luck? Two files of predictions on the same votes, vote by vote: data/oof/oof.parquet of two runs, for
example, or data/oof/seeds.parquet, whose seeds are then taken into account. Calibrated probabilities (c_a, c_b, c_tie) count where a
file has them. Exits with 1 where NEW is worse beyond chance, with 2 where they can't be compared.
"""

import argparse
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd

from pairpref.data import values
from pairpref.errors import UserError, command
from pairpref.evaluation.calibration import CALIBRATED
from pairpref.evaluation.comparison import Comparison, compare
from pairpref.evaluation.metrics import losses, probabilities
from pairpref.pairs import PROBABILITIES
from pairpref.text.published import one_line

GROUPS = Path("data/clean/pairs.parquet")
REFUSED = 2
_OFF = 1e-3  # how far from 1 a row of probabilities may sum, as rounded ones do
_EXAMPLE = """example:
  cp data/oof/oof.parquet work/old.parquet     # before an experiment; and after it:
  python -m pairpref.compare data/oof/oof.parquet work/old.parquet"""


def compare_files(new: Path, old: Path, groups: Path = GROUPS) -> Comparison:
    """Compare two files of predictions.

    Args:
        new, old: Parquet or CSV with id, label, p_a, p_b, p_tie (or c_…), and seed where there are several.
        groups: Parquet or CSV with id and group, the prompt group of each vote.

    Raises:
        UserError: a file can't be read, or they are not of the same votes and seeds.
    """
    tables = [_read(path) for path in (new, old)]
    a, b = (
        table.assign(loss=losses(table["label"].to_numpy(int), _final(table, path))).pivot(
            index="seed", columns="id", values="loss"
        )
        for table, path in zip(tables, (new, old), strict=True)
    )
    if (
        not (a.index.equals(b.index) and a.columns.equals(b.columns))
        or a.isna().any(axis=None)
        or b.isna().any(axis=None)
    ):
        raise UserError(
            f"{new} has {a.shape[1]:,} votes and seeds {list(a.index)}, {old} {b.shape[1]:,} and {list(b.index)}; "
            f"{len(a.columns.intersection(b.columns)):,} votes are in both. Only predictions of the same votes from the same seeds compare."
        )
    labels = [t.drop_duplicates("id").set_index("id")["label"].reindex(a.columns) for t in tables]
    if not (labels[0] == labels[1]).all():
        raise UserError(
            f"{new} and {old} disagree on what was voted: they come from different data."
        )
    of_vote = _read(groups, "group").set_index("id")["group"].reindex(a.columns)
    if of_vote.isna().any():
        raise UserError(
            f"{groups} lacks {int(of_vote.isna().sum()):,} of the votes: it belongs to other data. Name theirs with --groups."
        )
    return compare(a.to_numpy(), b.to_numpy(), of_vote.to_numpy())


def _read(path: Path, column: str = "label") -> pd.DataFrame:
    try:
        table = (
            pd.read_parquet(path)
            if path.suffix == ".parquet"
            else pd.read_csv(path, dtype={"id": str}, na_filter=False)
        )
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.") from None
    except Exception as error:  # what readers of tables raise is no closed list
        raise UserError(f"{path}: not readable as a table: {one_line(error)}") from None
    if missing := {"id", column} - set(table):
        raise UserError(
            f"{path}: has {', '.join(map(str, table))}; {' and '.join(sorted(missing))} should be among them."
        )
    if table.empty:
        raise UserError(f"{path}: no rows; with oof.enabled off nothing is exported.")
    table = table.assign(seed=table.get("seed", 0))
    for name in (column, "seed"):
        if not table[name].map(np.isscalar).all() or table[name].isna().any():
            raise UserError(f"{path}: {name} should be a number or a text in every row.")
    table["id"] = table["id"].map(values.identifier)
    if not table["id"].all():
        raise UserError(f"{path}: an id is missing, or is neither text nor a whole number.")
    if column == "label" and not table[column].isin([0, 1, 2]).all():
        raise UserError(f"{path}: label should be 0 (A), 1 (B) or 2 (tie) in every row.")
    if table.duplicated(["id", "seed"]).any():
        raise UserError(f"{path}: a vote is there more than once.")
    return table


def _columns(table: pd.DataFrame) -> list[str]:
    return CALIBRATED if set(CALIBRATED) <= set(table) else PROBABILITIES


def _final(table: pd.DataFrame, path: Path) -> np.ndarray:
    columns = _columns(table)
    if not set(columns) <= set(table):
        raise UserError(
            f"{path}: has {', '.join(map(str, table))}; {', '.join(PROBABILITIES)} should be among them."
        )
    scalars = table[columns].where(table[columns].map(np.isscalar))
    numbers = scalars.apply(pd.to_numeric, errors="coerce")
    if not np.isfinite(numbers).all(axis=None):
        raise UserError(f"{path}: {', '.join(columns)} should be numbers in every row.")
    wrong = (numbers < 0).any(axis=1) | ((numbers.sum(axis=1) - 1).abs() > _OFF)
    if wrong.any():
        raise UserError(
            f"{path}: {', '.join(columns)} should be probabilities from 0 to 1 that sum to 1; in {int(wrong.sum()):,} of "
            f"{len(table):,} rows they are not, first in that of id {table['id'][wrong].iloc[0]}."
        )
    return probabilities(numbers, columns)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pairpref.compare",
        description=textwrap.fill(" ".join(__doc__.split("\n\n")[1].split()), 100),
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("new", type=Path, metavar="NEW", help="predictions in question")
    parser.add_argument(
        "old", type=Path, metavar="OLD", help="predictions of the same votes to compare them with"
    )
    parser.add_argument(
        "--groups",
        type=Path,
        default=GROUPS,
        help="prompt groups of the votes (default: %(default)s)",
    )
    asked = parser.parse_args(argv)
    with command("compare", REFUSED):
        found = compare_files(asked.new, asked.old, asked.groups)
        of_new, of_old = (", ".join(_columns(_read(path))) for path in (asked.new, asked.old))
        unlike = (
            f"; {of_new} were compared with {of_old} of {asked.old}" if of_new != of_old else ""
        )
        print(
            f"{asked.new} is {found}{unlike}"
            if found.verdict != "not shown"
            else f"{asked.new}: a difference is {found}{unlike}"
        )
        sys.exit(found.verdict == "worse")


if __name__ == "__main__":
    main()
