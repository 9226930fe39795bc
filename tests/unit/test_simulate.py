"""The simulate stage: four files that belong together."""

import pandas as pd

from pairpref.monitor import Log
from pairpref.pairs import WINNERS
from pairpref.params import ARENA
from stages.simulate import simulate


def test_four_files_that_belong_together(small_params, here):
    simulate(small_params(), Log("test"))
    train, test, truth, solution = (
        pd.read_csv(ARENA / f"{name}.csv") for name in ("train", "test", "truth", "solution")
    )
    assert len(train) == 240 and list(solution["id"]) == list(test["id"])
    assert list(truth["id"]) == [*train["id"], *test["id"]] and truth["id"].is_unique
    assert (train[WINNERS].sum(axis=1) == 1).all() and (solution[WINNERS].sum(axis=1) == 1).all()
    assert set(solution["Usage"]) == {"Public", "Private"}
    assert not set(test.columns) & {"model_a", "model_b", *WINNERS}


def test_the_share_of_public_rows(small_params, here):
    simulate(small_params(simulate__rows=1, simulate__test_rows=4000), Log("test"))
    usage = pd.read_csv(ARENA / "solution.csv")["Usage"]
    assert abs((usage == "Public").mean() - 0.26) < 0.03
