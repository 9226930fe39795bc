"""Trainer's arguments: from our own words in `train`, and `train.arguments` by Trainer's names."""

import json
from dataclasses import fields
from difflib import get_close_matches
from inspect import formatannotation
from pathlib import Path
from typing import get_type_hints

import torch
from pydantic import TypeAdapter, ValidationError
from transformers import TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from pairpref.errors import UserError
from pairpref.model.precision import best_device, dtype_of
from pairpref.params import Params

_SCHEDULERS = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
# What the pipeline sets itself: what to use instead, or why there is no choice.
_SAVED = "checkpoints are in work/, whole, by time and after each epoch"
_JUDGED = "each epoch is judged on the held-out fold, in both orders"
_BATCHES = "batches hold pairs of like length, in a keyed order"
_LOSS = "the loss is the mean over the step's votes, and one that is no number stops the run"
_OWNED = {
    "learning_rate": "train.lr",
    "num_train_epochs max_steps": "train.epochs",
    "lr_scheduler_type": "train.scheduler",
    "warmup_steps": "train.warmup",
    "weight_decay": "train.weight_decay",
    "max_grad_norm": "train.max_grad_norm",
    "per_device_train_batch_size auto_find_batch_size": "train.batch_size",
    "gradient_accumulation_steps": "train.gradient_accumulation_steps",
    "seed data_seed": "train.seeds",
    "full_determinism": "train.exact",
    "bf16 fp16 bf16_full_eval fp16_full_eval": "train.precision",
    "resume_from_checkpoint": "train.resume",
    "load_best_model_at_end metric_for_best_model greater_is_better": "train.patience",
    "output_dir save_strategy save_steps save_on_each_node save_total_limit save_only_model "
    "enable_jit_checkpoint ignore_data_skip restore_callback_states_from_checkpoint": _SAVED,
    "eval_strategy eval_steps eval_delay eval_on_start per_device_eval_batch_size "
    "prediction_loss_only eval_do_concat_batches eval_use_gather_object eval_accumulation_steps "
    "include_for_metrics batch_eval_metrics do_train do_eval do_predict": _JUDGED,
    "remove_unused_columns label_names train_sampling_strategy length_column_name "
    "dataloader_drop_last": _BATCHES,
    "label_smoothing_factor average_tokens_across_devices logging_nan_inf_filter": _LOSS,
    "use_cpu local_rank": "CUDA_VISIBLE_DEVICES",
}
_RENAMED = ("gradient_checkpointing", "gradient_checkpointing_kwargs")  # to activation_…
_LOGGED_ON_GPU = 10  # steps: each logged one waits for the GPU


def training_arguments(
    params: Params, seed: int, lr: float, steps: int, folder: Path
) -> TrainingArguments:
    """The arguments of one training.

    Args:
        lr: peak learning rate.
        steps: of the optimizer, of the whole training.
        folder: where checkpoints are.

    Raises:
        UserError: train.arguments names what there is not, what the pipeline sets, or a value
            that Trainer refuses.
    """
    options, device = params.train, best_device()
    cuda, dtype = device.type == "cuda", dtype_of(options.precision, device)
    more = _checked(options.arguments)
    own = {
        "output_dir": str(folder),
        "num_train_epochs": options.epochs,
        "learning_rate": lr,
        "lr_scheduler_type": _SCHEDULERS[options.scheduler],
        "warmup_steps": round(options.warmup * steps),
        "weight_decay": options.weight_decay,
        "max_grad_norm": options.max_grad_norm,
        "gradient_accumulation_steps": options.gradient_accumulation_steps,
        "bf16": dtype == torch.bfloat16,
        "fp16": dtype == torch.float16,
        "seed": seed,
        "use_cpu": not cuda,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "restore_callback_states_from_checkpoint": True,
        "logging_nan_inf_filter": False,
        "remove_unused_columns": False,
    }
    if options.patience is not None:
        own |= {"load_best_model_at_end": True, "metric_for_best_model": "log_loss"}
        own["greater_is_better"] = False
    usual = {
        "optim": "adamw_torch_fused",
        "logging_steps": _LOGGED_ON_GPU if cuda else 1,
        "disable_tqdm": True,
        "report_to": "none",
        "ddp_find_unused_parameters": False,
    }
    try:
        arguments = TrainingArguments(**usual | more | own)
        for logger in get_reporting_integration_callbacks(arguments.report_to):
            logger()
        return arguments
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        raise UserError(f"train.arguments: {' '.join(str(error).split())}") from None


def _checked(arguments: dict[str, object]) -> dict[str, object]:
    known = {field.name for field in fields(TrainingArguments)}
    hints = get_type_hints(TrainingArguments)
    owned = {name: instead for names, instead in _OWNED.items() for name in names.split()}
    for name, value in arguments.items():
        if name in owned:
            instead = owned[name]
            told = f": {instead}" if " " in instead else f"; use {instead}"
            raise UserError(f"train.arguments.{name}: the pipeline sets it itself{told}.")
        if name not in known:
            near = get_close_matches(name, known - owned.keys(), n=1)
            raise UserError(
                f"train.arguments.{name}: Trainer has no such argument"
                + (f"; did you mean {near[0]}?" if near else ".")
            )
        try:  # as JSON, in which true is no number and the name of an enum's value will do
            TypeAdapter(hints[name]).validate_json(json.dumps(value, default=str), strict=True)
        except ValidationError:
            wanted = formatannotation(hints[name])
            raise UserError(
                f"train.arguments.{name} is {value!r}: Trainer expects {wanted}."
            ) from None
    old = {name.replace("gradient", "activation"): arguments.get(name) for name in _RENAMED}
    return old | {name: value for name, value in arguments.items() if name not in _RENAMED}
