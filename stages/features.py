"""python -m stages.features: what is counted in each pair, and the member that only counts.

Reads data/clean/pairs.parquet. Writes data/features.parquet (what is counted, a row a vote in their
order), models/features.safetensors (experts fitted to all votes) and data/oof/features.parquet:
each vote by experts fitted to the other folds ("home"; of fold 0 with every seed) and by experts
fitted to other clusters of prompts ("away"). All are empty unless fusion.members has features; the
first is not if model.features is on.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pandas as pd

from pairpref import monitor, paths
from pairpref.errors import UserError
from pairpref.files import write_parquet, written_aside
from pairpref.model import experts
from pairpref.model.experts import Experts
from pairpref.monitor import Log
from pairpref.pairs import PROBABILITIES, TEXTS
from pairpref.parallel import each
from pairpref.params import Params
from pairpref.text.features import SHARD, Features

_COLUMNS = ["id", "split", "part", "seed", "member", *PROBABILITIES]


def features(params: Params, log: Log) -> None:
    pairs = pd.read_parquet(paths.PAIRS, columns=["id", *TEXTS, "label", "group", "fold"])
    is_member = "features" in params.fusion.members
    if not is_member and not params.model.features:
        _write(Features.of(pairs.iloc[:0]), Experts({}, {}), pd.DataFrame(columns=_COLUMNS))
        log.say("fusion.members has no features and model.features is off: nothing is counted")
        return
    if pairs["response_b"].isna().all():
        raise UserError(
            "the votes are single texts, but features compare two answers. Leave them out: "
            "-S fusion.members=[classifier] -S model.features=false"
        )

    def count(job: Callable, shards: Iterable[tuple]) -> Iterator:
        total, unit = -(-len(pairs) // SHARD), f"shards of {SHARD:,} rows"
        return log.track(each(job, shards, params.parallel), total, unit)

    found = Features.of(pairs, count)
    numbers = (
        f"{found.a.shape[1]} numbers of each answer, {found.pair.shape[1]} of both and "
        f"{found.prompt.shape[1]} of the prompt"
    )
    if not is_member:
        _write(found, Experts({}, {}), pd.DataFrame(columns=_COLUMNS))
        log.say(f"{numbers}, for the classifier")
        return
    cluster = experts.clusters(found, pairs["group"].to_numpy())
    first, *others = params.train.seeds
    jobs = [
        *(("home", fold, first) for fold in range(params.data.folds)),
        *(("home", 0, seed) for seed in others),
        *(("away", number, first) for number in np.unique(cluster)),
        ("whole", -1, first),
    ]
    parts = {"home": pairs["fold"], "away": cluster, "whole": np.zeros(len(pairs))}
    labels = pairs["label"].to_numpy(int)
    held_out = [np.asarray(parts[split] == number) for split, number, _ in jobs]
    asked = ((found, labels, out, job[2]) for out, job in zip(held_out, jobs, strict=True))
    tables, fitted = [], Experts({}, {})
    results = log.track(each(experts.judge, asked, params.parallel), len(jobs), "fits")
    for (split, part, seed), out, result in zip(jobs, held_out, results, strict=True):
        fitted, p = result
        for member, of_member in p.items():
            table = pd.DataFrame(of_member, columns=PROBABILITIES)
            named = {"id": pairs["id"][out].to_numpy(), "split": split, "part": part, "seed": seed}
            tables.append(table.assign(**named, member=member)[_COLUMNS])
    _write(found, fitted, pd.concat([table for table in tables if len(table)], ignore_index=True))
    log.say(f"{numbers}; {len(experts.EXPERTS)} experts")


def _write(found: Features, fitted: Experts, oof: pd.DataFrame) -> None:
    found.save(paths.FEATURES)
    write_parquet(paths.FEATURES_OOF, oof)
    with written_aside(paths.EXPERTS) as (to,):
        fitted.save(to)


if __name__ == "__main__":
    monitor.run("features", features)
