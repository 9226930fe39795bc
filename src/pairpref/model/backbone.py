"""A published backbone as a float32 model that reads text, or one line that says why not.

Nothing in it is executed: no remote code, and pickled weights go through torch's weights-only
unpickler.
"""

import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils import cached_file, is_bitsandbytes_available, logging

from pairpref.errors import UserError
from pairpref.pairs import LABELS
from pairpref.params import ModelParams
from pairpref.text import published

# transformers would ask a server on the hub to convert .bin weights, in a thread of its own.
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")


class HeadlessError(UserError):
    """A family without a sequence classifier of its own, which `cls` asks for."""


def load(
    params: ModelParams,
    words: int,
    pad: int,
    say: Callable[[str], None] = print,
    path: str | None = None,
    revision: str | None = None,
    labels: int = len(LABELS),
) -> PreTrainedModel:
    """The model of a backbone in float32: for `cls` the library's own classifier, else no head.

    Args:
        words: ids of the tokenizer; if they are more than the embeddings, these grow.
        pad: the padding id, which decoders are given.
        say: told what was changed.
        path: what to load it by, if that is not params.backbone; messages say the latter.
        revision: commit, branch or tag of a hub name.
        labels: of the library's own classifier.

    Raises:
        HeadlessError: its family has no classifier of its own.
        UserError: it can't be loaded, or parts of it are missing.
    """
    name, path = params.backbone, path or params.backbone
    published.check(name, path)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, info = _load(params, path, revision, labels)
            _refuse_incomplete(model, info, params.pooling == "cls")
            if params.pooling == "cls" and info["mismatched_keys"]:
                _, there, here = min(info["mismatched_keys"])
                say(
                    f"the head of {name} gives {there[0]} numbers; one that gives {here[0]} starts "
                    "from random weights"
                )
            table = model.get_input_embeddings()
            if isinstance(table, nn.Embedding) and words > table.num_embeddings:
                say(
                    f"{name} has {table.num_embeddings:,} embeddings, its tokenizer {words:,} ids: "
                    "the others start from the mean"
                )
                with torch.random.fork_rng([]):
                    torch.manual_seed(0)  # the same each time: adapters don't save them
                    model.resize_token_embeddings(words)
    except UserError as error:
        raise type(error)(f"model.backbone {name!r}: {error}") from None
    except Exception as error:  # damaged and foreign files may raise anything in a library
        reason = published.one_line(error).replace(path, name)
        if "weights_only" in str(error) or "Weights only load failed" in str(error):
            reason = "its .bin holds more than weights; nothing in it was run"
        raise UserError(
            f"model.backbone {name!r}: could not be loaded ({reason}). Give a hub name or a local "
            "folder with config.json and model.safetensors, or a pytorch_model.bin of tensors only."
        ) from None
    config = model.config.get_text_config()
    kind = type(config)
    is_decoder = kind in MODEL_FOR_CAUSAL_LM_MAPPING and kind not in MODEL_FOR_MASKED_LM_MAPPING
    if params.pooling == "cls" and (config.pad_token_id is None or is_decoder):
        # A decoder is classified by its last token that is no padding.
        config.pad_token_id = pad
    return model


def from_config(config: PretrainedConfig, pooling: str, labels: int) -> PreTrainedModel:
    """A model with random weights."""
    if pooling == "cls":
        _ask_for(labels, config)
        return AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    return AutoModel.from_config(config, dtype=torch.float32)


def reader(model: PreTrainedModel) -> tuple[nn.Module, PretrainedConfig]:
    """The encoder of an encoder-decoder, the language model of a multimodal one, otherwise all; and
    the config that makes a model with such a part."""
    if model.config.is_encoder_decoder:
        return model.get_encoder(), model.config
    if model.config.get_text_config() is not model.config and hasattr(model, "language_model"):
        return model.language_model, model.language_model.config
    return model, model.config


def _load(
    params: ModelParams, path: str, revision: str | None, labels: int
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model, and what the library says of its tensors."""
    common: dict[str, Any] = {"trust_remote_code": False, "revision": revision}
    config = AutoConfig.from_pretrained(path, **common)
    if params.quantize != "none":
        common["quantization_config"] = _quantized(params.quantize)
        common["device_map"] = {"": 0}
    if quantised := getattr(config, "quantization_config", None):
        method = quantised.get("quant_method")
        raise UserError(f"it is quantised by {method}. Give its weights as they were before.")
    for part in (config, config.get_text_config()):
        # What a published config may ask for but training can't use.
        part.return_dict, part.output_attentions, part.output_hidden_states = True, False, False
        # BigBird leaves sparse attention for good at its first short batch: no run could resume.
        if getattr(part, "attention_type", None) == "block_sparse":
            part.attention_type = "original_full"
    auto = AutoModel
    if params.pooling == "cls":
        if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
            raise HeadlessError(
                f"{config.model_type} has no classifier of its own for model.pooling=cls."
            )
        auto = AutoModelForSequenceClassification
        _ask_for(labels, config)
    model, info = auto.from_pretrained(
        path,
        config=config,
        dtype=torch.float32,  # with "auto", half-precision weights would be trained as such
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        **common,
    )
    folder = Path(cached_file(path, "config.json", revision=revision, local_files_only=True)).parent
    if key := _integer_weight(folder):
        raise UserError(f"{key} holds 8-bit integers. Give its weights as they were before.")
    return model, info


def _quantized(how: str) -> BitsAndBytesConfig:
    """Frozen weights in 8 or 4 bits; NF4 and double quantisation as in QLoRA."""
    if not torch.cuda.is_available() or not is_bitsandbytes_available():
        raise UserError(
            f"model.quantize={how} needs a GPU and bitsandbytes: "
            "pip install -c constraints.txt -e '.[quantize]'"
        )
    if how == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if native else torch.float16,
    )


def _refuse_incomplete(model: PreTrainedModel, info: dict[str, Any], cls: bool) -> None:
    """Compare the file's tensors with the model's, but for those of the head."""
    parts = (model.base_model if cls else reader(model)[0]).named_parameters()
    of_body = {id(parameter) for part, parameter in parts if not part.startswith("pooler.")}
    everything = model.named_parameters(remove_duplicate=False)
    body = {key for key, parameter in everything if id(parameter) in of_body}
    if missing := sorted(body & set(info["missing_keys"])):
        raise UserError(
            f"its weights lack {len(missing)} of the model's tensors, such as {missing[0]}."
        )
    for key, there, here in sorted(info["mismatched_keys"]):
        if key in body:
            raise UserError(
                f"its config.json and weights don't belong together: {key} is {tuple(there)} in "
                f"the file, {tuple(here)} by the config."
            )
    known = {_place(key, model) for key in body}
    if unknown := sorted(key for key in info["unexpected_keys"] if _place(key, model) in known):
        raise UserError(
            f"weights that don't fit config.json: {len(unknown)} tensors have no place in the "
            f"model, such as {unknown[0]}. Fetch the folder again."
        )


def _ask_for(labels: int, config: PretrainedConfig) -> None:
    config.num_labels = labels
    config.problem_type = "regression" if labels == 1 else "single_label_classification"


def _place(key: str, model: PreTrainedModel) -> str:
    """A tensor's name without the model's prefix and with # for each number: one for all layers."""
    return re.sub(r"\d+", "#", key.removeprefix(f"{model.base_model_prefix}."))


def _integer_weight(folder: Path) -> str | None:
    """Name of a weight of 8-bit integers in the files that a model was loaded from."""
    files = sorted(folder.glob("model*.safetensors"))
    for file in files:
        with safe_open(file, "pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 it is no dict
                if key.endswith(".weight") and tensors.get_slice(key).get_dtype() in ("I8", "U8"):
                    return key
    for file in [] if files else sorted(folder.glob("pytorch_model*.bin")):
        for key, tensor in torch.load(file, map_location="meta", weights_only=True).items():
            if key.endswith(".weight") and tensor.dtype in (torch.int8, torch.uint8):
                return key
    return None
