"""python -m pairpref.compare NEW OLD [--groups data/clean/pairs.parquet]

Is NEW better than OLD, beyond luck? Compares two files of predictions on the same votes, vote by
vote: data/oof/oof.parquet of two runs, for example, or data/oof/seeds.parquet, whose seeds count
too. Uses calibrated probabilities (c_a, c_b, c_tie) where a file has them, otherwise p_a, p_b,
p_tie, or the mean of both orders (ab_a, …, ba_tie). Exits with 1 where NEW is worse beyond chance,
with 2 where they can't be compared.
"""

import sys
from pathlib import Path

import pandas as pd

from pairpref.cli import parser
from pairpref.data import readers, values
from pairpref.errors import UserError, command
from pairpref.evaluation.calibration import CALIBRATED
from pairpref.evaluation.comparison import Comparison, compare
from pairpref.evaluation.metrics import answers, losses, probabilities
from pairpref.pairs import ORDERS, PROBABILITIES
from pairpref.paths import PAIRS
from pairpref.text.published import one_line

REFUSED = 2
_TOLERANCE = 1e-3  # of the sum of a row of probabilities, which may be rounded
_EXAMPLE = """cp data/oof/oof.parquet work/old.parquet     # before an experiment; and after it:
  pairpref compare data/oof/oof.parquet work/old.parquet"""


def compare_files(new: Path, old: Path, groups: Path = PAIRS) -> Comparison:
    """Compare two files of predictions.

    Args:
        new, old: Parquet or CSV with id, label, p_… (or c_…, or ab_… and ba_…), and perhaps seed.
        groups: Parquet or CSV with id and group, the prompt group of each vote.

    Raises:
        UserError: a file can't be read, or they are not of the same votes and seeds.
    """
    a, b = (_losses(path) for path in (new, old))
    if not a.notna().equals(b.notna()) or a.isna().any(axis=None):
        ids = a.index.unique("id").intersection(b.index.unique("id"))
        unlike = len(ids) - len(a.index.intersection(b.index))
        raise UserError(
            f"{new} has {len(a):,} votes and seeds {list(a)}, {old} {len(b):,} and {list(b)}; "
            f"{len(ids):,} votes are in both, {unlike:,} of them with another label. Only "
            "predictions of the same votes, labels and seeds can be compared."
        )
    of_vote = _read(groups, ["group"])[["id", "group"]].map(values.identifier)
    of_vote = of_vote[of_vote["group"].str.strip() != ""].drop_duplicates()
    if (twice := of_vote["id"].duplicated()).any():
        raise UserError(f"{groups}: id {of_vote['id'][twice].iloc[0]} has two groups, not one.")
    of_vote = of_vote.set_index("id")["group"].reindex(a.index.get_level_values("id"))
    if lacking := int(of_vote.isna().sum()):
        raise UserError(f"{groups} lacks the group of {lacking:,} votes; name another: --groups")
    return compare(a.to_numpy().T, b.to_numpy().T, of_vote.to_numpy())


def _losses(path: Path) -> pd.DataFrame:
    """The log loss of each vote (rows: id and label) by each seed (columns)."""
    table = _read(path, ["label"])
    columns = _columns(table)
    _require(table, columns, path)
    table = table.assign(seed=table.get("seed", 0), label=table["label"].map(values.label))
    numbers = ["seed", *columns]  # as text they may be anything, also lists
    table[numbers] = table[numbers].astype(str).apply(pd.to_numeric, errors="coerce")
    p = answers(table[columns]) if columns[0] in ORDERS[0] else table[columns]
    fine = (p >= 0).all(axis=1) & ((p.sum(axis=1) - 1).abs() <= _TOLERANCE)
    fine &= table[["seed", "label"]].notna().all(axis=1)
    if wrong := int((~fine).sum()):
        raise UserError(
            f"{path}: in {wrong:,} of {len(table):,} rows the label is not 0 (A), 1 (B) or 2 "
            f"(tie), the seed is missing, or {', '.join(columns)} are not probabilities from 0 to "
            f"1 that sum to 1; first in that of id {table['id'][~fine].iloc[0]}."
        )
    if table.duplicated(["id", "seed"]).any():
        raise UserError(f"{path}: a vote is there more than once.")
    labels = table["label"].astype(int)
    table = table.assign(label=labels, loss=losses(labels.to_numpy(), probabilities(p, list(p))))
    return table.pivot(index=["id", "label"], columns="seed", values="loss")


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    """A table with `columns`, and ids as text."""
    try:
        if path.suffix.lower() == ".parquet":
            table = pd.read_parquet(path)
        else:  # pandas would rename a column that is there twice
            sheet = pd.read_csv(path, dtype=str, na_filter=False, header=None)
            table = sheet[1:].set_axis(sheet.iloc[0].to_list(), axis=1)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.") from None
    except Exception as error:  # readers of tables raise many kinds
        raise UserError(f"{path}: not readable as a table: {one_line(error)}") from None
    readers.check_names(path, list(table))
    _require(table, ["id", *columns], path)
    if table.empty:
        raise UserError(f"{path}: no rows. With oof.enabled off nothing is exported.")
    table["id"] = table["id"].map(values.identifier)
    if not table["id"].all():
        raise UserError(f"{path}: an id is missing, or is neither text nor a whole number.")
    return table


def _require(table: pd.DataFrame, columns: list[str], path: Path) -> None:
    if not set(columns) <= set(table):
        has = ", ".join(map(str, table))
        raise UserError(f"{path}: has {has}; {', '.join(columns)} should be among them.")


def _columns(table: pd.DataFrame) -> list[str]:
    known = (CALIBRATED, PROBABILITIES, [*ORDERS[0], *ORDERS[1]], ORDERS[0])
    return next((names for names in known if set(names) <= set(table)), PROBABILITIES)


def main(argv: list[str] | None = None) -> None:
    arguments = parser("compare", (__doc__ or "").split("\n\n")[1], _EXAMPLE)
    arguments.add_argument("new", type=Path, metavar="NEW", help="new predictions")
    arguments.add_argument("old", type=Path, metavar="OLD", help="predictions of the same votes")
    help = "prompt groups of the votes (%(default)s)"
    arguments.add_argument("--groups", type=Path, default=PAIRS, help=help)
    asked = arguments.parse_args(argv)
    with command("compare", REFUSED):
        found = compare_files(asked.new, asked.old, asked.groups)
        new, old = (", ".join(_columns(_read(path, []))) for path in (asked.new, asked.old))
        unlike = f"; {new} were compared with {old} of {asked.old}" if new != old else ""
        verdict = ": a difference is" if found.verdict == "not shown" else " is"
        print(f"{asked.new}{verdict} {found}{unlike}")
        sys.exit(found.verdict == "worse")


if __name__ == "__main__":
    main()
