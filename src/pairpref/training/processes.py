"""One training in several processes, as `accelerate launch` starts them."""

from typing import TypeVar

import numpy as np
from accelerate import Accelerator, DistributedType

from pairpref.errors import UserError
from pairpref.training.inference import best_device, computes_bf16

Item = TypeVar("Item")


def accelerator() -> Accelerator:
    """This process's part of however many were started.

    Raises:
        UserError: they are to share one model's weights.
    """
    device = best_device()
    precision = "bf16" if computes_bf16(device) else "no"
    processes = Accelerator(cpu=device.type == "cpu", mixed_precision=precision)
    kind = processes.distributed_type
    if kind not in (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU):
        raise UserError(
            f"accelerate is set up for {kind.value}, but checkpoints are made for whole models: "
            "choose plain multi-GPU or multi-CPU (accelerate launch --multi_gpu)."
        )
    return processes


def shares(items: list[Item], parts: int) -> list[list[Item]]:
    """Contiguous parts of nearly equal length, some of them empty if there are too few items."""
    ends = np.linspace(0, len(items), parts + 1).round().astype(int)
    return [items[begin:end] for begin, end in zip(ends[:-1], ends[1:], strict=True)]
