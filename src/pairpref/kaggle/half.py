"""Weights in float16: half the size, and loaded as float32 again."""

from pathlib import Path

import numpy as np

from pairpref import bundle as bundles
from pairpref.paths import FEATURES, TOKENS

_VOTES = 1_000  # of fold 0, at most
_BATCH_SIZE = 64


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


def cost(before: Path, after: Path) -> dict[str, float]:
    """Log loss of fold 0's votes by their classifier, as it was and rounded.

    Returns:
        votes, log_loss, log_loss_half.
    """
    from pairpref.evaluation.metrics import losses
    from pairpref.model import classifier
    from pairpref.text import tokenizer as tokenizers
    from pairpref.text import tokens as tokenised
    from pairpref.training.inference import by_order

    template = tokenizers.Template.of(tokenizers.load(str(before / "tokenizer")))
    figures: dict[str, float] = {}
    for name, models in (("log_loss", before), ("log_loss_half", after)):
        model, config = classifier.load(models / "train")
        tokens = tokenised.load(TOKENS, FEATURES if config.features else None)
        tokens = tokens.take(np.flatnonzero((tokens.folds == 0) & (tokens.labels >= 0))[:_VOTES])
        p = by_order(model, config, tokens, template, _BATCH_SIZE, precision="fp32").mean(axis=0)
        figures |= {"votes": len(tokens), name: float(losses(tokens.labels, p).mean())}
    return figures
