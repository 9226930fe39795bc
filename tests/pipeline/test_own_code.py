"""What runs is the code of the repository it runs in.

Python itself would find another package: see `benchmarks.resource_usage.environment`.
"""

import sys
from pathlib import Path

import pytest

from benchmarks.copies import ROOT, Repository, working_tree

LEXICON, VOTES = "src/pairpref/data/arena/lexicon.py", "data/raw/simulated/train.csv"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Repository:
    """A repository in which only the votes are made."""
    folder = tmp_path_factory.mktemp("simulated")
    tree = working_tree(folder, ["simulate.rows=60", "simulate.test_rows=10"])
    tree.dvc("repro", "simulate")
    tree.git("add", "--all")
    tree.git("commit", "--quiet", "--message", "votes")
    return tree


@pytest.fixture
def simulated(made, tmp_path) -> Repository:
    """A copy of it."""
    return made.copy(tmp_path)


def edit(folder: Path) -> None:
    """Change a word of the arena."""
    text = (folder / LEXICON).read_text(encoding="utf-8")
    assert '"oven ' in text
    (folder / LEXICON).write_text(text.replace('"oven ', '"OVEN '), encoding="utf-8")


def edited(folder: Path) -> bool:
    """Whether the votes are of the edited code."""
    return "OVEN" in (folder / VOTES).read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.fault(21)
def test_a_queued_experiment_runs_the_queued_code(simulated):
    """Otherwise the run cache would keep the later code's votes under the earlier code's hash."""
    simulated.dvc("exp", "run", "--queue", "-S", "simulate.seed=21", "-n", "before", "simulate")
    edit(simulated.path)
    simulated.dvc("exp", "run", "--run-all", "-j", "1")
    simulated.git("checkout", "--quiet", "src")
    printed = simulated.dvc("exp", "run", "-S", "simulate.seed=21", "simulate")
    assert "Stage 'simulate' is cached" in printed and not edited(simulated.path)


@pytest.mark.fault(21)
def test_a_copied_clone_runs_its_own_code(simulated, tmp_path):
    copy = simulated.copy(tmp_path / "copy")
    edit(copy.path)
    copy.dvc("repro", "simulate")
    assert edited(copy.path) and not edited(simulated.path)


@pytest.mark.slow
@pytest.mark.fault(21)
def test_a_linked_worktree_runs_its_own_code(simulated):
    simulated.git("worktree", "add", "--quiet", "--detach", "work/linked")
    linked = Repository(simulated.path / "work/linked", simulated.environment)
    edit(linked.path)
    linked.dvc("repro", "simulate")
    assert edited(linked.path) and not edited(simulated.path)


@pytest.mark.fault(21)
def test_commands_and_their_workers_run_it_too(simulated):
    """Also with what is imported by name in another process."""
    (simulated.path / "benchmarks/where.py").write_text(
        "from pairpref import monitor, parallel\n"
        "def here(_):\n"
        "    from pairpref import pairs\n"
        "    return pairs.__file__\n"
        "if __name__ == '__main__':\n"
        "    many = parallel.ParallelParams(backend='loky', jobs=2)\n"
        "    print(monitor.__file__, *parallel.each(here, [(0,), (1,)], many))\n",
        encoding="utf-8",
    )
    printed = simulated.run(sys.executable, "-m", "benchmarks.where").stdout.split()
    package = simulated.path / "src/pairpref"
    assert printed == [str(package / "monitor.py"), *[str(package / "pairs.py")] * 2]
    (simulated.path / "src/pairpref/params.py").write_text("print('mine')", encoding="utf-8")
    assert simulated.run(sys.executable, "-m", "pairpref.params").stdout == "mine\n"
    below = Repository(simulated.path / "docs", simulated.environment)
    assert below.run(sys.executable, "-m", "pairpref.params").stdout == "mine\n"


@pytest.mark.fault(21)
def test_other_code_is_refused(simulated):
    """`python -P` does not look into the folder it is started in."""
    simulated.environment["PYTHONPATH"] = str(ROOT)
    done = simulated.run(sys.executable, "-P", "-m", "stages.simulate")
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 1
    assert (
        done.stdout.startswith("simulate: stages/ here is not the code that runs")
        and str(ROOT / "stages") in done.stdout
    )
