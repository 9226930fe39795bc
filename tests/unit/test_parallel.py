"""Independent jobs give the same results in the same order here, in loky and in Ray."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pairpref.errors import UserError
from pairpref.parallel import ALONE, each
from pairpref.params import ParallelParams

ROOT = Path(__file__).parents[2]
TWO = ParallelParams(backend="loky", jobs=2)
RAY = ParallelParams(backend="ray", jobs=2)
WITH_RAY = pytest.param("ray", marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of two cores and, so it believes, two GPUs."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: make ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
        ray.init(
            address="local",
            num_cpus=2,
            num_gpus=2,
            include_dashboard=False,
            logging_level="ERROR",
            log_to_driver=False,
        )
    yield
    ray.shutdown()


@pytest.fixture(params=["alone", "loky", WITH_RAY])
def parallel(request) -> ParallelParams:
    if request.param == "ray":
        request.getfixturevalue("cluster")
    return {"alone": ALONE, "loky": TWO, "ray": RAY}[request.param]


def doubled(number: int, word: str) -> tuple[int, str]:
    return 2 * number, word


def process(_: int) -> int:
    return os.getpid()


def surroundings(_: int) -> tuple[str, ...]:
    return (
        os.getcwd(),
        os.environ["OMP_NUM_THREADS"],
        os.environ["RAYON_NUM_THREADS"],
        os.environ.get("CUDA_VISIBLE_DEVICES", ""),
    )


def unless_three(number: int) -> int:
    if number == 3:
        raise UserError("three is one too many")
    return number


def killed(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def counted(n: int) -> list[tuple[int]]:
    return [(i,) for i in range(n)]


def test_results_come_in_the_order_of_the_arguments(parallel):
    taken = []

    def arguments():
        for i in range(50):
            taken.append(i)
            yield i, f"word {i}"

    results = each(doubled, arguments(), parallel)
    assert next(results) == (0, "word 0")
    assert len(taken) < 40, "it should not read to the end before it gives its first result"
    assert list(results) == [(2 * i, f"word {i}") for i in range(1, 50)]
    assert list(each(doubled, [], parallel)) == []


def test_an_error_of_a_job_comes_through(parallel):
    with pytest.raises(UserError, match=r"^three is one too many$"):
        list(each(unless_three, counted(5), parallel))


def test_an_error_of_the_arguments_comes_through(parallel):
    with pytest.raises(UserError, match="three"):
        list(each(process, ((unless_three(i % 30 and 3),) for i in range(60)), parallel))


def test_few_jobs_need_no_other_process():
    for jobs, at_most in ((1, None), (5, 1)):
        assert set(each(process, counted(jobs), TWO, at_most)) == {os.getpid()}
    assert os.getpid() not in each(process, counted(2), TWO)


def test_other_processes_work_in_this_ones_folder_with_its_threads(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert {there[:3] for there in each(surroundings, counted(4), TWO)} == {
            (os.getcwd(), "1", "1")
        }


def test_a_killed_process_is_one_line():
    with pytest.raises(UserError, match=r"^a worker process was killed.*lower parallel\.jobs.*$"):
        list(each(killed, counted(5), TWO))
    assert list(each(doubled, [(1, "a"), (2, "b")], TWO)) == [(2, "a"), (4, "b")]


def test_ray_not_installed_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        UserError, match=r"^.*run `make ray` or .*, or use -S parallel\.backend=loky$"
    ):
        list(each(process, counted(2), RAY))


@pytest.mark.slow
def test_ray_workers_are_like_lokys(cluster, here):
    many = RAY.model_copy(update={"jobs": 9})
    folders, *threads, _ = zip(*each(surroundings, counted(4), many), strict=True)
    assert set(folders) == {str(here)} and set(threads[0] + threads[1]) == {"1"}
    *_, gpus = zip(*each(surroundings, counted(4), many, gpu=True), strict=True)
    assert set(gpus) == {"0", "1"}


@pytest.mark.slow
def test_a_killed_ray_worker_is_one_line(cluster):
    with pytest.raises(UserError, match=r"^a worker process was killed.*lower parallel\.jobs.*$"):
        list(each(killed, counted(5), RAY))


@pytest.mark.slow
def test_an_address_of_no_cluster_is_one_line(here):
    pytest.importorskip("ray", reason="Ray is not installed: make ray")
    code = (
        "from pairpref import parallel as p; "
        "list(p.each(abs, [(1,), (2,)], p.ParallelParams(backend='ray', jobs=2)))"
    )
    done = python(here, "-c", code, RAY_ADDRESS="nowhere:port")
    assert (
        "UserError: RAY_ADDRESS is 'nowhere:port', where no Ray cluster can be joined"
        in done.stderr.splitlines()[-1]
    )


MAIN = """
import sys
from pairpref.parallel import each
from pairpref.params import ParallelParams

OFFSET = 10

def shifted(number):
    return number + OFFSET

if __name__ == "__main__":
    print(*each(shifted, [(i,) for i in range(5)], ParallelParams(backend=sys.argv[1], jobs=2)))
"""


@pytest.mark.parametrize("backend", ["loky", WITH_RAY])
def test_a_function_of_the_main_module(here, backend):
    """As stages are run; and Ray starts and ends a cluster of its own."""
    if backend == "ray":
        pytest.importorskip("ray", reason="Ray is not installed: make ray")
    Path("job.py").write_text(MAIN)
    done = python(here, "-m", "job", backend)
    assert (done.stdout, done.returncode) == ("10 11 12 13 14\n", 0), done.stderr


def python(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    paths = {
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")])
        )
    }
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, **paths, **environment},
        capture_output=True,
        text=True,
    )


LONG = """
import os, sys, time
from pairpref.parallel import each
from pairpref.params import ParallelParams

def long(number):
    # One write: under PYTHONUNBUFFERED a print is two, which another process can come between.
    os.write(1, b"%d\\n" % os.getpid())
    time.sleep(60 * (number + 1))

if __name__ == "__main__":
    list(each(long, [(i,) for i in range(2)], ParallelParams(backend="loky", jobs=2)))
"""


@pytest.mark.fault(11)
def test_processes_end_when_the_one_they_work_for_has_died(here):
    """Busy or idle: nobody trains on for a stage that is gone, and nobody keeps its memory."""
    Path("job.py").write_text(LONG)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    main = subprocess.Popen(
        [sys.executable, "-m", "job"], cwd=here, env=environment, stdout=subprocess.PIPE, text=True
    )
    workers = [psutil.Process(int(main.stdout.readline())) for _ in range(2)]
    main.kill()
    main.wait()
    gone, left = psutil.wait_procs(workers, timeout=120)
    assert not left and len(gone) == 2


@pytest.mark.parametrize("parallel", ["loky", WITH_RAY], indirect=True)
def test_stages_write_the_same_bytes(small_params, here, parallel, monkeypatch):
    # Imported here, as the processes of the other tests import this file.
    from pairpref.monitor import Log
    from stages import clean, features, oof, simulate, tokenize, train

    def outs(settings) -> dict[str, bytes]:
        shutil.rmtree("work", ignore_errors=True)
        for stage in (clean, features, tokenize, train, oof):
            getattr(stage, stage.__name__.split(".")[1])(settings, Log("test"))
        return {
            str(path): path.read_bytes()
            for top in ("data/clean", "data/oof", "data/tokens", "models")
            for path in Path(top).rglob("*.*")
        }

    monkeypatch.setattr("pairpref.text.tokens.SHARD", 50)
    monkeypatch.setattr(tokenize, "_ROWS_A_PROCESS", 50)
    members = ("classifier", "reward", "features")
    folds = {"data__folds": 3, "oof__folds": 3, "fusion__members": members}
    simulate.simulate(small_params(), Log("test"))
    alone = outs(small_params(parallel__jobs=1, **folds))
    assert len(alone) == 38
    many = {"parallel__jobs": parallel.jobs, "parallel__backend": parallel.backend}
    assert outs(small_params(**many, **folds)) == alone
