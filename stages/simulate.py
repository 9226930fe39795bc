"""python -m stages.simulate: make up an arena of votes whose true probabilities are known.

Writes data/raw/simulated/{train,test,truth,solution}.csv; see `pairpref.data.arena`.
"""

from pairpref import monitor, paths
from pairpref.data import arena
from pairpref.files import written_aside
from pairpref.monitor import Log
from pairpref.params import Params


def simulate(params: Params, log: Log) -> None:
    options = params.simulate
    rows = options.rows + options.test_rows
    files = [paths.ARENA / f"{name}.csv" for name in ("train", "test", "truth", "solution")]
    votes = log.track((arena.vote(row, options) for row in range(rows)), rows, "votes")
    with written_aside(*files) as aside:
        arena.write(votes, options.rows, *aside)
    counts = f"{options.rows:,} votes to learn from and {options.test_rows:,} pairs to predict"
    log.say(f"{counts} in {paths.ARENA}")


if __name__ == "__main__":
    monitor.run("simulate", simulate)
