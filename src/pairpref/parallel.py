"""Independent jobs through joblib: processes of this machine (loky) or of a Ray cluster.

The backend and the number of processes change nothing but the time.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice, starmap
from typing import Any, TypeVar

from joblib import Parallel, cpu_count, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError
from joblib.parallel import ParallelBackendBase

from pairpref.errors import UserError
from pairpref.params import ParallelParams

ALONE = ParallelParams(jobs=1)

_JOBS_A_ROUND = 8  # a process
_KILLED = (
    "a worker process was killed, perhaps because memory ran out: lower parallel.jobs; the same "
    "command goes on from what is saved"
)

T = TypeVar("T")


def each(
    function: Callable[..., T],
    arguments: Iterable[tuple],
    params: ParallelParams,
    at_most: int | None = None,
    gpu: bool = False,
) -> Iterator[T]:
    """Yield function(*a) for each a of `arguments`, in their order; each is a job of its own.

    Arguments are taken a few jobs a process at a time. A single job or process is this one;
    other processes work in this one's folder and live until the last result is taken.

    Args:
        function: may be defined in `__main__`.
        at_most: an upper bound on the number of processes.
        gpu: each job gets a GPU of the Ray cluster if it has any; loky's processes see all.

    Raises:
        UserError: from a job; or a process was killed; or Ray is missing or can't be reached.
    """
    arguments = iter(arguments)
    processes = min(params.jobs, at_most or params.jobs)
    jobs = list(islice(arguments, processes * _JOBS_A_ROUND))
    processes = min(processes, len(jobs))
    if processes < 2:
        yield from starmap(function, chain(jobs, arguments))
        return
    with _loky(processes) if params.backend == "loky" else _ray(processes, gpu) as pool:
        # By rounds: joblib would read ahead in a thread, where the reader's errors get lost.
        while jobs:
            yield from pool(delayed(function)(*job) for job in jobs)
            jobs = list(islice(arguments, processes * _JOBS_A_ROUND))


@contextmanager
def _loky(processes: int) -> Iterator[Parallel]:
    try:
        with _pool("loky", processes, os.getpid()) as pool:
            yield pool
    except TerminatedWorkerError:
        raise UserError(_KILLED) from None


@contextmanager
def _ray(processes: int, gpu: bool) -> Iterator[Parallel]:
    """A pool in this process's cluster, or that of RAY_ADDRESS, or a temporary one here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError:
        raise UserError(
            "parallel.backend is ray, which is not installed: run `make ray` or "
            "pip install -c constraints.txt -e '.[ray]', or use -S parallel.backend=loky"
        ) from None
    register_ray()
    if own := not ray.is_initialized():
        _connect()
    try:
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0)) if gpu else 0
        # A pool larger than the cluster would wait for ever.
        processes = min(processes, max(1, int(resources.get("CPU", 0))), gpus or processes)
        # As loky does: a share of the cores, and this process's sys.path.
        share = str(max(1, cpu_count() // processes))
        names = ParallelBackendBase.MAX_NUM_THREADS_VARS
        variables = {name: os.environ.get(name, share) for name in names}
        variables["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, sys.path))
        needs = {"num_cpus": 1, "num_gpus": min(gpus, 1), "runtime_env": {"env_vars": variables}}
        with _pool("ray", processes, None, ray_remote_args=needs) as pool:
            yield pool
    except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError):
        raise UserError(_KILLED) from None
    finally:
        if own:
            ray.shutdown()


def _connect() -> None:
    import ray

    address = os.environ.get("RAY_ADDRESS", "local")
    quiet = {"include_dashboard": False, "logging_level": logging.ERROR, "log_to_driver": False}
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, ValueError) as error:
        raise UserError(
            f"RAY_ADDRESS is {address!r}, where no Ray cluster can be joined "
            f"({str(error).splitlines()[0]}). Give host:port of a running one (with "
            "RAY_AUTH_MODE=token if it wants a token), or unset it to start one on this machine."
        ) from None


def _pool(backend: str, processes: int, parent: int | None, **options: Any) -> Parallel:
    # joblib would put several jobs into one when the first few are quick, but later ones are long.
    options |= {"batch_size": 1, "initializer": _begin, "initargs": (os.getcwd(), parent)}
    return Parallel(processes, backend=backend, **options)


def _begin(folder: str, parent: int | None) -> None:
    """Runs first in a worker. Loky's must end with `parent`; Ray's end with their driver anyway."""
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    os.chdir(folder)
    # joblib does not limit the threads of tokenizers.
    os.environ.setdefault("RAYON_NUM_THREADS", os.environ["OMP_NUM_THREADS"])


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)  # files are whole at any moment
