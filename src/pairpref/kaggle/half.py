"""Weights in float16: half the size, and loaded as float32 again."""

from pathlib import Path

import numpy as np

from pairpref import bundle as bundles
from pairpref.params import PredictParams
from pairpref.paths import FEATURES, TOKENS

_VOTES = 1_000  # of fold 0, at most
BATCH_SIZE = PredictParams().batch_size


def convert(models: Path) -> None:
    """Round the weights of all trained models in place, and record the new hashes.

    Heads stay as they are: they are small, and hold what was measured of the votes. So does a
    tensor with a value beyond float16's range.
    """
    import torch
    from safetensors.torch import load_file, save_file

    for folders in bundles.models(models).values():
        for path in (path for folder in folders for path in folder.glob("*.safetensors")):
            tensors = load_file(path)
            for name, tensor in tensors.items():
                if tensor.dtype == torch.float32 and not name.startswith("head."):
                    half = tensor.half()
                    tensors[name] = half if half.isfinite().all() else tensor
            save_file(tensors, path, metadata={"format": "pt"})
    bundles.record_models(models)
    bundles.record_calibrator(models)


def cost(before: Path, after: Path) -> dict[str, float] | None:
    """Log loss of fold 0's votes by their classifier, as it was and rounded.

    Returns:
        votes, log_loss, log_loss_half; or None where the run's tokens are not here.
    """
    from pairpref.evaluation.metrics import losses
    from pairpref.model import classifier
    from pairpref.text import tokenizer as tokenizers
    from pairpref.text import tokens as tokenised
    from pairpref.training.inference import by_order

    config = classifier.load_config(before / "train")
    if not TOKENS.is_dir() or (config.features and not FEATURES.exists()):
        return None
    tokens = tokenised.load(TOKENS, FEATURES if config.features else None)
    tokens = tokens.take(np.flatnonzero((tokens.folds == 0) & (tokens.labels >= 0))[:_VOTES])
    if not len(tokens):
        return None
    template = tokenizers.Template.of(tokenizers.load(str(before / "tokenizer")))
    figures: dict[str, float] = {"votes": len(tokens)}
    for name, models in (("log_loss", before), ("log_loss_half", after)):
        model, _ = classifier.load(models / "train")
        p = by_order(model, config, tokens, template, BATCH_SIZE, precision="fp32").mean(axis=0)
        figures[name] = float(losses(tokens.labels, p).mean())
    return figures
