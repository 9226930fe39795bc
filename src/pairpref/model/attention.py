"""Fused attention of DeBERTa on a GPU, exact, several times as fast (disentangled-flash)."""

from collections.abc import Callable
from typing import Any

from torch import nn

from pairpref.params import Attention

_HEAD_SIZES = (32, 64, 128)
_BACKEND = "triton"


def fuse(model: nn.Module, attention: Attention, say: Callable[[str], object] = print) -> None:
    """Replace a DeBERTa's attention in place; names and values of its weights stay.

    Every other backbone has PyTorch's own fused attention where its architecture allows.

    Args:
        model: a classifier, on its device.
        say: told why it could not be done; with auto only if installing the package would help.
    """
    reader: Any = getattr(model, "backbone", None) or getattr(model, "deberta", None)
    config = getattr(reader, "config", None)
    if attention == "eager" or getattr(config, "model_type", "") != "deberta-v2":
        return
    if problem := _problem(reader, config):
        if attention == "fused" or "install" in problem:
            say(f"attention is not fused: {problem}")
        return
    from disentangled_flash import optimize_deberta_training

    optimize_deberta_training(reader, backend=_BACKEND)


def _problem(reader: nn.Module, config: Any) -> str | None:
    if next(reader.parameters()).device.type != "cuda":
        return "there is no GPU"
    size = config.hidden_size // config.num_attention_heads
    if not config.relative_attention or size not in _HEAD_SIZES:
        return f"heads of {size} numbers, relative positions: {config.relative_attention}"
    try:
        import disentangled_flash  # noqa: F401
        import triton  # noqa: F401
    except ImportError:
        return "pip install -c constraints.txt -e '.[gpu]' installs the kernel"
    return None
