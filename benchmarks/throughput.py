"""python -m benchmarks.throughput [--rows 57477] [--simulate 1000000]

How fast clean and tokenize go through as many votes as Kaggle's file holds, and in how much memory; with --simulate, how fast the
arena is made up and whether its memory stays bounded.

The votes are simulated with every answer long and every conversation of two or three turns (`LIKE_KAGGLE`). That is as long as the
knobs make them: how long is printed (Kaggle's answers have about 1,300 characters). On the other hand nearly every text holds letters
beyond ASCII and one in six is mojibake, so that far more of it goes the slow way through the repair than would of Kaggle's.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import pandas as pd
import yaml

from benchmarks import watched
from benchmarks.watched import ROOT, Watched
from pairpref.pairs import TEXTS
from pairpref.params import ARENA, PARAMS
from stages.clean import PAIRS

LIKE_KAGGLE = {"long_answers": 1.0, "several_turns": 1.0}
ROWS = 57_477


def stage(name: str, folder: Path) -> Watched:
    """One stage in a folder of its own."""
    return watched.run([sys.executable, "-m", f"stages.{name}"], folder, watched.environment(ROOT, folder))


def prepare(folder: Path, rows: int, knobs: dict[str, float]) -> None:
    """Write the default params with another arena: `rows` votes, and one pair to predict."""
    params = yaml.safe_load((ROOT / PARAMS).read_text(encoding="utf-8"))
    params["simulate"] |= {"rows": rows, "test_rows": 1, **knobs}
    (folder / PARAMS).write_text(yaml.safe_dump(params), encoding="utf-8")


def row(name: str, rows: int, size: float, run: Watched) -> str:
    return (
        f"{name:9} {rows:>9,} rows {size / 2**20:7.0f} MiB {run.seconds:7.1f} s {rows / run.seconds:7,.0f} rows/s "
        f"{run.peak_mib:6,.0f} MiB in any process {run.peak_mib_together:6,.0f} MiB in all"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[2])
    parser.add_argument("--rows", type=int, default=ROWS, help="votes to clean and tokenise")
    parser.add_argument("--simulate", type=int, metavar="N", help="also simulate N votes of the default arena")
    asked = parser.parse_args()

    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, asked.rows, LIKE_KAGGLE)
        stage("simulate", folder)
        size = (folder / ARENA / "train.csv").stat().st_size
        lines += [row(word, asked.rows, size, stage(word, folder)) for word in ("clean", "tokenize")]
        pairs = pd.read_parquet(folder / PAIRS, columns=TEXTS)
        prompt, *answers = (pairs[text].str.len().mean() for text in TEXTS)
        lines.append(f"characters: {prompt:,.0f} a prompt, {sum(answers) / 2:,.0f} an answer")
    if asked.simulate:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            prepare(folder, asked.simulate, {})
            run = stage("simulate", folder)
            lines.append(row("simulate", asked.simulate, (folder / ARENA / "train.csv").stat().st_size, run))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
