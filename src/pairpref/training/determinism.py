"""The one place where seeds, thread counts and deterministic algorithms are set."""

import hashlib
import os
import random
from typing import Any

import numpy as np
import torch


def is_exact(exact: bool | str) -> bool:
    """What `train.exact` comes to on this machine."""
    return not torch.cuda.is_available() if exact == "auto" else bool(exact)


def fix(threads: int, seed: int, exact: bool | str = "auto") -> None:
    """Make what follows repeatable: with `exact` to the last bit on the same kind of machine.

    Args:
        exact: "auto" is True on a CPU and False on a GPU, where some exact operations take several
            times as long.
        threads: of this process. Another number adds up in another order.
        seed: of random weights, and of whatever a backbone draws before the first step.
    """
    torch.set_num_threads(threads)
    # Read when CUDA's matrix library starts; deterministic algorithms refuse to run without it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # An operation without a deterministic form warns: otherwise some backbones can't be trained.
    torch.use_deterministic_algorithms(is_exact(exact), warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # only a check, and it costs 5 %
    torch.backends.cudnn.benchmark = False
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def seed_step(*keys: int) -> None:
    """Seed dropout by a hash of seed, step and the like, so that no generator's state is saved."""
    digest = hashlib.blake2b(":".join(map(str, keys)).encode(), digest_size=8).digest()
    seed = int.from_bytes(digest, "little") >> 1
    torch.default_generator.manual_seed(seed)
    # torch.manual_seed would also take a note for a GPU that never comes, at every step.
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)


def machine(processes: int = 1) -> dict[str, Any]:
    """What besides params, data and code decides the last bits."""
    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "processes": processes,
    }
