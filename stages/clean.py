"""python -m stages.clean: read the votes strictly, repair their text, group prompts, freeze folds.

Reads `data.train`. Writes data/clean/pairs.parquet (a row a vote, in file order), quarantine.csv
(the rows that can't be used, each with line and reason), counts.json (they add up to the file's
rows), and models/votes.json (which columns were plain text, for short files to predict).
"""

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pairpref import monitor, paths
from pairpref.data import folds, groups, quarantine, readers
from pairpref.data.clean import Clean, clean_rows
from pairpref.data.votes import RejectedRow, read_votes
from pairpref.errors import UserError
from pairpref.files import written_aside
from pairpref.monitor import Log
from pairpref.params import Params

_REJECTED = paths.LOGS / "quarantine.csv"
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
    written = (f"{name} in {'plain text' if p else 'lists'}" for name, p in votes.plain.items())
    log.say(f"{params.data.train} has the form {votes.form}: {', '.join(written)}")
    tables, keys, rejected, batch = [_table([])], [], [], []
    found = Counter({"several_turns": 0, "null_answers": 0, "empty_answers": 0})
    rows = clean_rows(votes.rows, params.clean, params.parallel)
    for row in log.track(rows, readers.count_rows(params.data.train), "rows"):
        if isinstance(row, RejectedRow):
            rejected.append(row)
            continue
        keys.append(groups.normalise(row.key))
        found.update(row.found)
        found["several_turns"] += row.turns > 1
        batch.append(row)
        if len(batch) == _ROWS_A_TABLE:
            tables.append(_table(batch))
            batch = []
    pairs = pa.concat_tables([*tables, _table(batch)])
    _refuse_too_many(rejected, len(pairs), params)
    log.say(f"{len(pairs):,} rows kept, {len(rejected):,} in quarantine; grouping their prompts")
    group = groups.group(keys, params.clean.near_duplicate, params.parallel)
    fold = folds.assign(pairs["label"].to_numpy(), group, params.data.folds, seed=0)
    pairs = pairs.append_column("group", pa.array(group)).append_column("fold", pa.array(fold))
    counts = _counts(rejected, keys, group, found)
    outs = (paths.PAIRS, paths.QUARANTINE, paths.CLEAN_COUNTS, paths.VOTES)
    with written_aside(*outs) as (to_pairs, to_quarantine, to_counts, to_votes):
        pq.write_table(pairs, to_pairs, compression="zstd", row_group_size=_ROWS_A_TABLE)
        quarantine.write(to_quarantine, rejected)
        for path, figures in ((to_counts, counts), (to_votes, {"plain": votes.plain})):
            path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    log.say(
        f"{counts['prompts']:,} different prompts in {counts['groups']:,} groups, "
        f"{params.data.folds} folds"
    )


def _table(rows: list[Clean]) -> pa.Table:
    columns = {name: [getattr(row, name) for row in rows] for name in _COLUMNS.names}
    return pa.table(columns, schema=_COLUMNS)


def _counts(
    rejected: list[RejectedRow], keys: list[str], group: np.ndarray, found: Counter[str]
) -> dict[str, int]:
    sizes = np.bincount(group)
    reasons = Counter(f"bad_{row.reason}" for row in rejected)
    return {
        "rows": len(keys) + len(rejected),
        "kept": len(keys),
        "quarantined": len(rejected),
        **dict(sorted(reasons.items())),
        **dict(sorted(found.items())),
        "prompts": len(set(keys)),
        "groups": int(np.count_nonzero(sizes)),
        "rows_in_repeated_prompts": int(sizes[sizes > 1].sum()),
    }


def _refuse_too_many(rejected: list[RejectedRow], kept: int, params: Params) -> None:
    rows = kept + len(rejected)
    if not rows:
        raise UserError(f"{params.data.train}: no rows below the header. Expected a vote a row.")
    if kept and len(rejected) <= params.clean.max_bad_share * rows:
        return
    quarantine.write(_REJECTED, rejected)
    raise UserError(
        f"{params.data.train}: {len(rejected):,} of {rows:,} rows can't be used, more than "
        f"clean.max_bad_share allows ({params.clean.max_bad_share}).\n"
        f"{quarantine.summary(rejected)}\nEach is in {_REJECTED} with its line. Mend the file, "
        "or raise clean.max_bad_share."
    )


if __name__ == "__main__":
    monitor.run("clean", clean)
