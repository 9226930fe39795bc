"""python -m stages.simulate: make up an arena of votes whose true probabilities are known.

Reads the params section simulate; writes data/raw/simulated/{train,test,truth,solution}.csv. See `pairpref.data.arena`.
"""

from pairpref import monitor
from pairpref.data import arena
from pairpref.files import written_aside
from pairpref.monitor import Log
from pairpref.params import ARENA, Params


def simulate(params: Params, log: Log) -> None:
    settings = params.simulate
    rows = settings.rows + settings.test_rows
    files = [ARENA / f"{name}.csv" for name in ("train", "test", "truth", "solution")]
    votes = log.track((arena.vote(row, settings) for row in range(rows)), rows, "votes")
    with written_aside(*files) as aside:
        arena.write(votes, settings.rows, *aside)
    log.say(
        f"{settings.rows:,} votes to learn from and {settings.test_rows:,} pairs to predict in {ARENA}"
    )


if __name__ == "__main__":
    monitor.run("simulate", simulate)
