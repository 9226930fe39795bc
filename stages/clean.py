"""python -m stages.clean: read the votes strictly, repair their text, group prompts and freeze the folds.

Reads `data.train`. Writes data/clean/pairs.parquet (a row a vote, in file order), data/clean/quarantine.csv (the rows that can't
be used, each with its line and reason), data/clean/counts.json (counts that add up to the file's rows) and models/votes.json (which
columns were plain text, for files to predict that are too short to tell).
"""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pairpref import monitor
from pairpref.data import folds, groups, quarantine, records
from pairpref.data.clean import Clean, clean_rows
from pairpref.data.votes import RejectedRow, read_votes
from pairpref.errors import UserError
from pairpref.files import written_aside
from pairpref.monitor import Log
from pairpref.params import Params

PAIRS = Path("data/clean/pairs.parquet")
QUARANTINE = Path("data/clean/quarantine.csv")
COUNTS = Path("data/clean/counts.json")
VOTES = Path("models/votes.json")
REFUSED = monitor.LOGS / "quarantine.csv"

_ROWS_A_TABLE = 5_000
_COLUMNS = pa.schema(
    {
        "line": pa.int64(),
        "id": pa.string(),
        "prompt": pa.string(),
        "response_a": pa.string(),
        "response_b": pa.string(),
        "label": pa.int8(),
        "turns": pa.int16(),
    }
)


def clean(params: Params, log: Log) -> None:
    votes = read_votes(params.data.train)
    log.say(f"{params.data.train} has the form {votes.form}: {votes.written}")
    tables, keys, bad, batch, found = [_table([])], [], [], [], Counter()
    rows = clean_rows(votes.rows, params.clean, params.parallel)
    for row in log.track(rows, records.count_rows(params.data.train), "rows"):
        if isinstance(row, RejectedRow):
            bad.append(row)
            continue
        keys.append(groups.normalise(row.key))
        found.update(row.found)
        found["several_turns"] += row.turns > 1
        batch.append(row)
        if len(batch) == _ROWS_A_TABLE:
            tables.append(_table(batch))
            batch = []
    pairs = pa.concat_tables([*tables, _table(batch)])
    _refuse_too_many(bad, len(pairs), params)
    log.say(f"{len(pairs):,} rows kept, {len(bad):,} in quarantine; grouping their prompts")
    group = groups.group(keys, params.clean.near_duplicate)
    fold = folds.assign(pairs["label"].to_numpy(), group, params.data.folds, seed=0)
    pairs = pairs.append_column("group", pa.array(group)).append_column("fold", pa.array(fold))
    counts = _counts(bad, keys, group, found)
    with written_aside(PAIRS, QUARANTINE, COUNTS, VOTES) as (
        to_pairs,
        to_quarantine,
        to_counts,
        to_votes,
    ):
        pq.write_table(pairs, to_pairs, compression="zstd", row_group_size=_ROWS_A_TABLE)
        quarantine.write(to_quarantine, bad)
        to_counts.write_text(json.dumps(counts, indent=2) + "\n", encoding="utf-8")
        to_votes.write_text(json.dumps({"plain": votes.plain}, indent=2) + "\n", encoding="utf-8")
    log.say(
        f"{counts['prompts']:,} different prompts in {counts['groups']:,} groups, {params.data.folds} folds"
    )


def _table(rows: list[Clean]) -> pa.Table:
    return pa.table(
        {name: [getattr(row, name) for row in rows] for name in _COLUMNS.names}, schema=_COLUMNS
    )


def _counts(
    bad: list[RejectedRow], keys: list[str], group: np.ndarray, found: Counter
) -> dict[str, int]:
    sizes = np.bincount(group)
    return {
        "rows": len(keys) + len(bad),
        "kept": len(keys),
        "quarantined": len(bad),
        **{
            f"bad_{reason}": count
            for reason, count in sorted(Counter(row.reason for row in bad).items())
        },
        **{
            name: found[name]
            for name in sorted({"several_turns", "null_answers", "empty_answers", *found})
        },
        "prompts": len(set(keys)),
        "groups": int(np.count_nonzero(sizes)),
        "rows_in_repeated_prompts": int(sizes[sizes > 1].sum()),
    }


def _refuse_too_many(bad: list[RejectedRow], kept: int, params: Params) -> None:
    rows = kept + len(bad)
    if not rows:
        raise UserError(f"{params.data.train}: no rows below the header. Expected a vote a row.")
    if kept and len(bad) <= params.clean.max_bad_share * rows:
        return
    quarantine.write(REFUSED, bad)
    raise UserError(
        f"{params.data.train}: {len(bad):,} of {rows:,} rows can't be used, more than clean.max_bad_share allows "
        f"({params.clean.max_bad_share}).\n{quarantine.summary(bad)}\n"
        f"Each is in {REFUSED} with its line. Mend the file, or raise clean.max_bad_share. Earlier results are untouched."
    )


if __name__ == "__main__":
    monitor.run("clean", clean)
