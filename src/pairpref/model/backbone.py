"""A published backbone as a float32 model that reads text, or one line that says why not.

Nothing in it is executed: no remote code, and pickled weights go through torch's weights-only
unpickler.
"""

import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path

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
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file, logging

from pairpref.errors import UserError
from pairpref.pairs import LABELS
from pairpref.params import ModelParams
from pairpref.text import published
from pairpref.text.tokenizer import Template

# transformers would ask a server on the hub to convert .bin weights, in a thread of its own.
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")


class HeadlessError(UserError):
    """A family without a sequence classifier of its own, which `cls` asks for."""


def load(
    params: ModelParams,
    tokenizer: PreTrainedTokenizerBase,
    say: Callable[[str], None] = print,
    path: str | None = None,
    revision: str | None = None,
) -> PreTrainedModel:
    """The model of a backbone in float32: for `cls` the library's own classifier, for `spans` none.

    Args:
        tokenizer: where it has more ids, the embeddings grow; a decoder without a padding token gets
            the one of its template.
        say: told what was changed.
        path: what to load it by, where that is not params.backbone; messages say the latter.
        revision: commit, branch or tag of a hub name.

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
            model = _load(params, say, path, revision)
            _fit_embeddings(model, tokenizer, name, say)
    except UserError:
        raise
    # What damaged and foreign files raise in a library is no closed list.
    except Exception as error:
        raise published.refusal_of_weights(name, path, error) from None
    config = model.config.get_text_config()
    if params.pooling == "cls" and (config.pad_token_id is None or _is_decoder(config)):
        # A decoder is classified by its last token that is no padding.
        config.pad_token_id = Template.of(tokenizer).pad
    return model


def from_config(config: PretrainedConfig, pooling: str) -> PreTrainedModel:
    """A model with random weights."""
    if pooling == "cls":
        config.num_labels = len(LABELS)
        config.problem_type = "single_label_classification"
        return AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    return AutoModel.from_config(config, dtype=torch.float32)


def reader(model: PreTrainedModel) -> tuple[nn.Module, PretrainedConfig]:
    """The part of a model that reads text, and the config that makes a model with such a part.

    The encoder of an encoder-decoder, the language model of a multimodal one, otherwise all of it.
    """
    if model.config.is_encoder_decoder:
        return model.get_encoder(), model.config
    if model.config.get_text_config() is not model.config and hasattr(model, "language_model"):
        return model.language_model, model.language_model.config
    return model, model.config


def _load(
    params: ModelParams, say: Callable[[str], None], path: str, revision: str | None
) -> PreTrainedModel:
    name, cls = params.backbone, params.pooling == "cls"
    # With "auto", weights published in half precision would be trained in half precision.
    common = {"trust_remote_code": False, "revision": revision}
    loading = {
        "dtype": torch.float32,
        "ignore_mismatched_sizes": True,
        "output_loading_info": True,
        **common,
    }
    config = _trainable(AutoConfig.from_pretrained(path, **common))
    if cls:
        if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
            raise HeadlessError(
                f"model.backbone {name!r}: {config.model_type} has no classifier of its own for model.pooling=cls."
            )
        config.num_labels, config.problem_type = len(LABELS), "single_label_classification"
        model, info = AutoModelForSequenceClassification.from_pretrained(
            path, config=config, **loading
        )
    else:
        model, info = AutoModel.from_pretrained(path, config=config, **loading)
    if method := getattr(config, "quantization_config", None):
        method = method.get("quant_method") if isinstance(method, dict) else method.quant_method
        raise UserError(f"model.backbone {name!r} is {published.not_trainable(method)}.")
    folder = Path(cached_file(path, "config.json", revision=revision, local_files_only=True)).parent
    if key := _integer_weight(folder):
        raise UserError(
            f"model.backbone {name!r} can't be trained: {key} holds 8-bit integers. Give its weights as they were before."
        )

    parts = (
        dict(reader(model)[0].named_parameters())
        if not cls
        else dict(model.base_model.named_parameters())
    )
    of_body = {id(parameter) for part, parameter in parts.items() if not part.startswith("pooler.")}
    body = {
        key
        for key, parameter in model.named_parameters(remove_duplicate=False)
        if id(parameter) in of_body
    }
    if missing := sorted(body & set(info["missing_keys"])):
        raise UserError(
            f"model.backbone {name!r}: its weights lack {len(missing)} of the model's tensors, such as {missing[0]}."
        )
    for key, there, here in sorted(info["mismatched_keys"]):
        if key in body:
            raise UserError(
                f"model.backbone {name!r}: its config.json and weights don't belong together: {key} is {tuple(there)} in the file, "
                f"{tuple(here)} by the config."
            )
    known = {_place(key, model) for key in body}
    if unknown := sorted(key for key in info["unexpected_keys"] if _place(key, model) in known):
        raise UserError(
            f"model.backbone {name!r}: weights that don't fit config.json: {len(unknown)} tensors have no "
            f"place in the model, such as {unknown[0]}. Fetch the folder again."
        )
    if info["mismatched_keys"] and cls:
        _, there, here = sorted(info["mismatched_keys"])[0]
        say(
            f"the head of {name} is for {there[0]} labels; one for the {here[0]} of votes starts from random weights"
        )
    return model


def _trainable(config: PretrainedConfig) -> PretrainedConfig:
    """Set what a published config may ask for but training can't use."""
    for part in (config, config.get_text_config()):
        part.return_dict, part.output_attentions, part.output_hidden_states = True, False, False
        # BigBird leaves sparse attention for good at its first short batch, so a run could not resume.
        if getattr(part, "attention_type", None) == "block_sparse":
            part.attention_type = "original_full"
    return config


def _place(key: str, model: PreTrainedModel) -> str:
    """A tensor's name without the model's prefix and with # for each number, the same in every layer."""
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


def _fit_embeddings(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    say: Callable[[str], None],
) -> None:
    """Give every id of the tokenizer an embedding."""
    table, words = model.get_input_embeddings(), max(tokenizer.get_vocab().values()) + 1
    if isinstance(table, nn.Embedding) and words > table.num_embeddings:
        say(
            f"{name} has {table.num_embeddings:,} embeddings, its tokenizer {words:,} ids: the others start from the mean"
        )
        model.resize_token_embeddings(words)


def _is_decoder(config: PretrainedConfig) -> bool:
    return (
        type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
        and type(config) not in MODEL_FOR_MASKED_LM_MAPPING
    )
