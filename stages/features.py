"""python -m stages.features: what can be counted in each pair, for the features member.

Reads data/clean/pairs.parquet; writes data/features.parquet, a row a vote in the same order. It has
no rows where neither fusion.members nor model.features asks for them.
"""

import pandas as pd

from pairpref import monitor, paths
from pairpref.monitor import Log
from pairpref.pairs import TEXTS
from pairpref.parallel import each
from pairpref.params import Params
from pairpref.text.features import SHARD, Features


def features(params: Params, log: Log) -> None:
    pairs = pd.read_parquet(paths.PAIRS, columns=TEXTS)
    wanted = "features" in params.fusion.members

    def run(job, arguments):
        shards = each(job, arguments, params.parallel)
        return log.track(shards, -(-len(pairs) // SHARD), f"shards of {SHARD:,} rows")

    found = Features.of(pairs if wanted else pairs.iloc[:0], run)
    found.save(paths.FEATURES)
    log.say(
        f"{found.a.shape[1]} of each answer, {found.pair.shape[1]} of both and "
        f"{found.prompt.shape[1]} of the prompt, for {len(found):,} votes"
        if wanted
        else "no member counts features (fusion.members)"
    )


if __name__ == "__main__":
    monitor.run("features", features)
