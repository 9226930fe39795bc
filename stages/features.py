"""python -m stages.features: what is counted in each pair, and the member that only counts.

Reads data/clean/pairs.parquet. Writes data/features.parquet (what is counted, a row a vote in their
order), models/features.safetensors (experts fitted to all votes) and data/oof/features.parquet:
each vote by experts fitted to the other folds ("home"; of fold 0 with every seed) and by experts
fitted to other clusters of prompts ("away"). And data/oof/features.json: what more votes bring, and
which features may be shortcuts. The first is empty unless model.features is on, the others unless
fusion.members has features.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from pairpref import monitor, paths
from pairpref.errors import UserError
from pairpref.evaluation.comparison import compare
from pairpref.evaluation.metrics import losses
from pairpref.evaluation.shortcuts import Question, find
from pairpref.files import write_json, write_parquet, written_aside
from pairpref.model import experts
from pairpref.model.experts import Experts
from pairpref.monitor import Log
from pairpref.pairs import PROBABILITIES, TEXTS, TIE, A
from pairpref.parallel import each
from pairpref.params import Params
from pairpref.text import counts
from pairpref.text.features import SHARD, Features

_SHARES = {"quarter": 0.25, "half": 0.5}  # of the votes outside fold 0
_COLUMNS = ["id", "split", "part", "seed", "member", *PROBABILITIES]


def features(params: Params, log: Log) -> None:
    pairs = pd.read_parquet(paths.PAIRS, columns=["id", *TEXTS, "label", "group", "fold"])
    is_member = "features" in params.fusion.members
    nothing = Features.of(pairs.iloc[:0])
    if not is_member and not params.model.features:
        _write(nothing, Experts({}, {}), pd.DataFrame(columns=_COLUMNS), {})
        log.say("fusion.members has no features and model.features is off: nothing is counted")
        return
    if pairs["response_b"].isna().all():
        raise UserError(
            "the votes are single texts: there are no two answers to compare or swap. Switch this "
            "off: -S fusion.members=[classifier] -S model.features=false -S augment.ab=false"
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
        _write(found, Experts({}, {}), pd.DataFrame(columns=_COLUMNS), {})
        log.say(f"{numbers}, for the classifier")
        return
    labels, folds, groups = (pairs[name].to_numpy() for name in ("label", "fold", "group"))
    cluster = experts.clusters(found, groups)
    apart = np.unique(cluster)
    first, *others = params.train.seeds
    jobs = [
        *(("home", fold, first) for fold in range(params.data.folds)),
        *(("home", 0, seed) for seed in others),
        *(("away", number, first) for number in apart if len(apart) > 1),
        *((share, 0, first) for share in _SHARES),
        ("whole", -1, first),
    ]
    parts = {"away": cluster, "whole": np.zeros(len(pairs))}
    held_out = [np.asarray(parts.get(split, folds) == number) for split, number, _ in jobs]
    _, number = np.unique(groups, return_inverse=True)
    place = np.random.default_rng(first).permutation(number.max() + 1)[number]
    rest = [
        ~out & (place <= np.quantile(place[~out], _SHARES.get(job[0], 1)))
        for job, out in zip(jobs, held_out, strict=True)
    ]
    runs = list(zip(jobs, rest, held_out, strict=True))
    asked = ((found, labels, some, out, job[2]) for job, some, out in runs)
    tables, curve, fitted = [], {}, Experts({}, {})
    results = log.track(each(experts.judge, asked, params.parallel), len(jobs), "fits")
    for ((split, part, seed), some, out), result in zip(runs, results, strict=True):
        fitted, p = result
        if split in _SHARES or (split, part, seed) == jobs[0]:
            curve[split] = int(some.sum()), losses(labels[out], experts.pooled(p))
        for member, of_member in p.items() if split not in _SHARES else ():
            table = pd.DataFrame(of_member, columns=PROBABILITIES)
            named = {"id": pairs["id"][out].to_numpy(), "split": split, "part": part, "seed": seed}
            tables.append(table.assign(**named, member=member)[_COLUMNS])
    oof = pd.concat([table for table in tables if len(table)], ignore_index=True)
    figures = {"shortcuts": find(_questions(found, labels, folds, cluster, groups))}
    if len(np.unique(groups[folds == 0])) > 1:  # one prompt has no confidence interval
        steps = [curve[of] for of in (*_SHARES, "home")]
        figures["learning"] = _learning(steps, groups[folds == 0])
    # Training reads what is counted: it must not run again where a member is switched.
    _write(found if params.model.features else nothing, fitted, oof, figures)
    log.say(f"{numbers}; {len(experts.EXPERTS)} experts")


def _learning(curve: list[tuple[int, np.ndarray]], groups: np.ndarray) -> dict[str, Any]:
    """What the last doubling brought; of each step the votes fitted to and fold 0's losses."""
    votes, loss = zip(*curve, strict=True)
    last = compare(loss[-1][None], loss[-2][None], groups)
    mean = [float(of.mean()) for of in loss]
    return {"votes": votes, "log_loss": mean, "last": asdict(last) | {"verdict": last.verdict}}


def _questions(found: Features, labels: np.ndarray, *parts: np.ndarray) -> list[Question]:
    answer, pair, prompt = counts.names()
    decisive, difference = labels != TIE, found.a - found.b
    won = labels[decisive] == A, *(part[decisive] for part in parts)
    kinds = {"sum": answer, "difference": answer, "both": pair, "prompt": prompt}
    names = [f"{kind}: {name}" for kind, of_kind in kinds.items() for name in of_kind]
    x = [found.a + found.b, np.abs(difference), found.pair, found.prompt]
    return [
        Question("winner", [f"A - B: {name}" for name in answer], difference[decisive], *won),
        Question("tie", names, np.concatenate(x, axis=1), labels == TIE, *parts),
    ]


def _write(found: Features, fitted: Experts, oof: pd.DataFrame, figures: dict[str, Any]) -> None:
    found.save(paths.FEATURES)
    write_parquet(paths.FEATURES_OOF, oof)
    write_json(paths.FEATURES_FIGURES, figures)
    with written_aside(paths.EXPERTS) as (to,):
        fitted.save(to)


if __name__ == "__main__":
    monitor.run("features", features)
