"""A model's weights as safetensors keep them: tied ones once."""

import torch
from torch import nn


def of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Contiguous tensors by name, detached; of tied ones the first name only."""
    tied = _tied(model)
    state = model.state_dict()
    return {name: tensor.contiguous() for name, tensor in state.items() if name not in tied}


def put(model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Load what `of` gave.

    Raises:
        RuntimeError: a name is missing or unknown, or a shape differs.
    """
    again = {name: tensors[first] for name, first in _tied(model).items() if first in tensors}
    model.load_state_dict({**tensors, **again})


def _tied(model: nn.Module) -> dict[str, str]:
    """The further names of tensors that have several, each with the first one."""
    names: dict[int, str] = {}
    state = model.state_dict(keep_vars=True)
    first = {name: names.setdefault(id(tensor), name) for name, tensor in state.items()}
    return {name: kept for name, kept in first.items() if name != kept}
