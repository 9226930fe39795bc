"""A model's weights as safetensors keep them: tied ones once, and of adapters no frozen ones.

What is computed from the votes and never trained, in the head (`heads.Counted`), is not frozen.
"""

import torch
from torch import nn


def of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Contiguous tensors by name, detached; of tied ones the first name only."""
    left_out = {*_tied(model), *_frozen(model)}
    state = model.state_dict()
    return {name: tensor.contiguous() for name, tensor in state.items() if name not in left_out}


def put(model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Load what `of` gave.

    Raises:
        RuntimeError: a name is missing or unknown, or a shape differs.
    """
    tied = _tied(model).items()
    tensors = tensors | {name: tensors[first] for name, first in tied if first in tensors}
    frozen = _frozen(model)
    found = model.load_state_dict(tensors, strict=not frozen)
    if frozen and (found.unexpected_keys or not frozen >= set(found.missing_keys)):
        raise RuntimeError(f"adapters of another model: {found}")


def _frozen(model: nn.Module) -> set[str]:
    """Of a model with adapters, the names of what they leave as it was."""
    state = model.state_dict(keep_vars=True)
    if not any(".lora_" in name for name in state):
        return set()
    return {
        name
        for name, tensor in state.items()
        if not tensor.requires_grad and not name.startswith("head.")
    }


def _tied(model: nn.Module) -> dict[str, str]:
    """The further names of tensors that have several, each with the first one."""
    names: dict[int, str] = {}
    state = model.state_dict(keep_vars=True)
    first = {name: names.setdefault(id(tensor), name) for name, tensor in state.items()}
    return {name: kept for name, kept in first.items() if name != kept}
