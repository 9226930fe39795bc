"""Independent jobs, all one way: through joblib, by processes of this machine (loky) or of a Ray cluster.

Which of the two, and how many processes, changes nothing but the time. Ray is for those who have a cluster (requirements-ray.txt).
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import TypeVar

from joblib import Parallel, cpu_count, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError
from joblib.parallel import ParallelBackendBase

from pairpref.errors import UserError
from pairpref.params import ParallelParams

ALONE = ParallelParams(backend="loky", jobs=1)

_JOBS_A_ROUND = 8
_MISSING = "parallel.backend is ray, which is not installed: pip install -r requirements-ray.txt, or -S parallel.backend=loky"
_KILLED = "a worker process was killed, perhaps for want of memory: lower parallel.jobs; the same command goes on from what is kept"

T = TypeVar("T")


def each(
    function: Callable[..., T],
    arguments: Iterable[tuple],
    params: ParallelParams,
    at_most: int | None = None,
    gpu: bool = False,
) -> Iterator[T]:
    """Give function(*a) for each a of `arguments`, in their order; each is a job of its own.

    Arguments are taken and results given a few jobs a process at a time, so that neither piles up. With one process or one job
    all happens in this process; otherwise in others, which work in this one's folder and live until the last result is taken.

    Args:
        function: may be defined in `__main__`.
        at_most: no more processes than this, whatever `params` says.
        gpu: where the Ray cluster has GPUs, each job gets one to itself. Processes of loky always see all there are.

    Raises:
        UserError: a job's own, as it is; a process was killed; Ray is asked for and not installed, or cannot be reached.
    """
    arguments = iter(arguments)
    processes = params.jobs if at_most is None else min(params.jobs, at_most)
    a_round = processes * _JOBS_A_ROUND
    jobs = list(islice(arguments, a_round))
    processes = min(processes, len(jobs))
    if processes < 2:
        yield from (function(*job) for job in chain(jobs, arguments))
        return
    with _loky(processes) if params.backend == "loky" else _ray(processes, gpu) as pool:
        # A round at a time: joblib would read ahead in a thread of its own, where the reader's errors get lost.
        while jobs:
            yield from pool(delayed(function)(*job) for job in jobs)
            jobs = list(islice(arguments, a_round))


@contextmanager
def _loky(processes: int) -> Iterator[Parallel]:
    try:
        with _pool("loky", processes, os.getpid()) as pool:
            yield pool
    except TerminatedWorkerError:
        raise UserError(_KILLED) from None


@contextmanager
def _ray(processes: int, gpu: bool) -> Iterator[Parallel]:
    """A pool in the cluster that this process or RAY_ADDRESS knows of, otherwise in one of this machine for as long as the pool."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError:
        raise UserError(_MISSING) from None
    register_ray()
    joined = ray.is_initialized()
    if not joined:
        _connect(processes)
    try:
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0)) if gpu else 0
        # A pool larger than the cluster would wait for ever.
        processes = min(processes, max(1, int(resources.get("CPU", 0))), gpus or processes)
        needs = {
            "num_cpus": 1,
            "num_gpus": min(gpus, 1),
            "runtime_env": {"env_vars": _environment(processes)},
        }
        with _pool("ray", processes, None, ray_remote_args=needs) as pool:
            yield pool
    except (
        ray.exceptions.RayActorError,
        ray.exceptions.WorkerCrashedError,
        ray.exceptions.OutOfMemoryError,
    ):
        raise UserError(_KILLED) from None
    finally:
        if not joined:
            ray.shutdown()


def _connect(processes: int) -> None:
    import ray

    address = os.environ.get("RAY_ADDRESS")
    quiet = {"include_dashboard": False, "logging_level": logging.ERROR, "log_to_driver": False}
    if not address:
        ray.init(address="local", num_cpus=processes, **quiet)
        return
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, ValueError) as error:
        raise UserError(
            f"RAY_ADDRESS is {address!r}, where no Ray cluster can be joined ({str(error).splitlines()[0]}). Expected host:port of "
            "one that runs (with RAY_AUTH_MODE=token if it wants a token); unset it, and one is started on this machine."
        ) from None


def _pool(backend: str, processes: int, parent: int | None, **options: object) -> Parallel:
    # Jobs are long: joblib would put several into one as soon as the first few were quick.
    return Parallel(
        processes,
        backend=backend,
        batch_size=1,
        initializer=_begin,
        initargs=(os.getcwd(), parent),
        **options,
    )


def _begin(folder: str, parent: int | None) -> None:
    """Runs first in a process that is to take jobs. Ray's end with their driver; those of loky need to be told to end with `parent`."""
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    os.chdir(folder)
    # The threads of tokenizers are none of those that joblib limits.
    os.environ.setdefault("RAYON_NUM_THREADS", os.environ["OMP_NUM_THREADS"])


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    # Nobody waits for results any more, and what is on the disk is whole at any moment.
    os._exit(1)


def _environment(processes: int) -> dict[str, str]:
    """What loky gives its processes: the cores shared out among them, and this process's way to its modules."""
    share = str(max(1, cpu_count() // processes))
    threads = {
        name: os.environ.get(name, share) for name in ParallelBackendBase.MAX_NUM_THREADS_VARS
    }
    return {**threads, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
