"""Low-rank adapters on a frozen backbone (Hu et al. 2021, LoRA), by peft.

Every linear layer inside the backbone's blocks gets one, whatever the architecture calls it, as in
QLoRA (Dettmers et al. 2023). The head is trained whole. What is saved is adapters and head.
"""

import re
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from pairpref.errors import UserError
from pairpref.params import LoraParams

_IN_A_BLOCK = re.compile(r"\.\d+\.")
_LINEAR = (nn.Linear, Conv1D)


def adapt(model: nn.Module, params: LoraParams) -> nn.Module:
    """Freeze a classifier's backbone and put adapters into it, in place; seed torch first.

    Raises:
        UserError: peft is not installed, or params.targets are not in the model.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise UserError(
            "model.lora needs peft: pip install -c constraints.txt -e '.[lora]'"
        ) from None
    body = _body(model)
    linear = [name for name, module in body.named_modules() if isinstance(module, _LINEAR)]
    found = [name for name in linear if _IN_A_BLOCK.search(f".{name}")]
    if params.targets != "auto":
        last = {name.split(".")[-1] for name in found}
        if missing := [target for target in params.targets if target not in last]:
            raise UserError(
                f"model.lora.targets {missing} are not in this backbone; it has "
                f"{', '.join(sorted(last))}."
            )
        found = [name for name in found if name.split(".")[-1] in params.targets]
    of_body = {id(parameter) for parameter in body.parameters()}
    config = LoraConfig(
        r=params.r, lora_alpha=params.alpha, lora_dropout=params.dropout, target_modules=found
    )
    inject_adapter_in_model(config, body)
    for parameter in model.parameters():
        if id(parameter) in of_body:
            parameter.requires_grad_(False)
    return model


def merge(model: nn.Module) -> nn.Module:
    """Add the adapters to the weights that they adapt, in place: a classifier as any other."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, module.get_base_layer())
    return model


def _body(model: Any) -> nn.Module:
    """The part that is frozen: all but the head."""
    return model.backbone if hasattr(model, "backbone") else model.base_model
