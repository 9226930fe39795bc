"""In which numbers a device computes: `train.precision` and `predict.precision`."""

import torch

from pairpref.errors import UserError
from pairpref.params import Precision

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def best_device() -> torch.device:
    """The first GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype_of(precision: Precision, device: torch.device) -> torch.dtype:
    """The type of a device's products; weights and sums stay float32.

    auto is bfloat16 where a GPU computes it itself (emulated, it is slower than float32), float16
    on other GPUs, float32 elsewhere.

    Raises:
        UserError: the device can't.
    """
    cuda = device.type == "cuda"
    if precision == "auto":
        if not cuda:
            return torch.float32
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    if precision == "fp16" and not cuda:
        raise UserError("precision fp16 needs a GPU. Use auto, fp32 or bf16.")
    return _DTYPES[precision]


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Where products are computed in `dtype_of`."""
    dtype = dtype_of(precision, device)
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
