"""python -m benchmarks.gpu [--out gpu.md] [--shape base|large|tiny] [--rows 800]

This project's training and prediction against a plain Trainer's, on one GPU, side by side: votes as
long as the competition's (about 680 tokens a pair, cut at 1,024), 32 sequences a step, random
weights of DeBERTa-v3's shape. Each row is written to --out as soon as it is measured, so that a run
cut short leaves what it has. Under four minutes on a large card. `--shape tiny` runs on a CPU.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models
from torch.utils.data import Dataset
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    DebertaV2Config,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

from pairpref import monitor
from pairpref.backbone import record
from pairpref.model import attention, classifier
from pairpref.model.precision import best_device, dtype_of
from pairpref.monitor import Log
from pairpref.params import AugmentParams, ModelParams, Params, TrainParams
from pairpref.text.tokenizer import Template
from pairpref.text.tokens import Tokens
from pairpref.training.batches import Collator, PairDataset
from pairpref.training.checkpoints import CheckpointManager
from pairpref.training.fingerprint import Fingerprint
from pairpref.training.fit import Fitted, fit
from pairpref.training.inference import by_order

_V3 = {
    "relative_attention": True,
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "type_vocab_size": 0,
    "pad_token_id": 0,
}
# Vocabulary, hidden size, layers, heads, cap on tokens, pairs a step.
SHAPES = {
    "base": (128_100, 768, 12, 12, 1024, 16),
    "large": (128_100, 1024, 24, 16, 1024, 16),
    "tiny": (500, 64, 1, 2, 64, 4),
}
_TEMPLATE = Template(start=1, separator=2, pad=0)


class Table:
    """Rows that are on the disk as soon as they are known."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.write_text("| what | value |\n|---|---|\n", encoding="utf-8")

    def row(self, what: str, value: object) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"| {what} | {value} |\n")
        print(f"{what}: {value}", flush=True)


def backbone(folder: Path, shape: str) -> None:
    """A backbone with random weights, and a tokenizer with as many ids."""
    words, hidden, layers, heads, *_ = SHAPES[shape]
    sizes = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads}
    torch.manual_seed(0)
    config = DebertaV2Config(vocab_size=words, intermediate_size=4 * hidden, **sizes, **_V3)
    AutoModel.from_config(config).save_pretrained(folder)
    special = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    ids = {name: number for number, name in enumerate(special.values())}
    ids |= {f"w{number}": number for number in range(len(ids), words)}
    core = Tokenizer(models.WordLevel(ids, unk_token="w3"))
    PreTrainedTokenizerFast(tokenizer_object=core, **special).save_pretrained(folder)


def votes(rows: int, shape: str) -> Tokens:
    """Votes of random ids, as long as the competition's, scaled to the shape's cap."""
    words, *_, cap, _ = SHAPES[shape]
    rng = np.random.default_rng(0)
    lengths = rng.lognormal(
        np.log(np.array([[30], [240], [240]])), [[1.2], [0.8], [0.8]], (3, rows)
    )
    lengths = np.clip(lengths * cap / 1024, 1, cap * 2).astype(np.int64)
    parts = tuple(
        (rng.integers(5, words, n.sum(), dtype=np.int32), np.concatenate([[0], np.cumsum(n)]))
        for n in lengths
    )
    numbers = np.arange(rows)
    ids = numbers.astype(str).astype(object)
    return Tokens(ids, parts, False, numbers % 3, numbers, np.zeros(rows, np.int64))


class Inputs(Dataset):
    """Both orders of each pair, as a plain Trainer takes them."""

    def __init__(self, tokens: Tokens, cap: int) -> None:
        self._pairs = PairDataset(tokens, cap, _TEMPLATE)

    def __len__(self) -> int:
        return 2 * len(self._pairs)

    def __getitem__(self, i: int) -> Any:
        return self._pairs[i // 2, bool(i % 2)]


class Counted(Collator):
    """Pads to the longest of a batch, and counts."""

    tokens = padded = 0

    def __call__(self, items: list) -> dict[str, torch.Tensor]:
        batch = super().__call__(items)
        self.tokens += int(batch["attention_mask"].sum())
        self.padded += batch["attention_mask"].numel()
        return batch


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What work gives, its seconds, and the GPU's peak memory in GiB."""
    if cuda := torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    result = work()
    if cuda:
        torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() / 2**30 if cuda else 0.0
    return result, time.perf_counter() - began, peak


def plain(folder: Path, tokens: Tokens, shape: str, table: Table) -> None:
    """A plain Trainer: random batches, eager attention, bf16 where there is a GPU."""
    *_, cap, pairs = SHAPES[shape]
    count = Counted(0, segments=False)
    arguments = TrainingArguments(
        str(folder / "plain"),
        per_device_train_batch_size=2 * pairs,
        per_device_eval_batch_size=2 * pairs,
        num_train_epochs=1,
        bf16=dtype_of("auto", best_device()) == torch.bfloat16,
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=10_000,
        learning_rate=2e-5,
        remove_unused_columns=False,
    )
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    trainer = Trainer(model, arguments, data_collator=count, train_dataset=Inputs(tokens, cap))
    trainer.train()  # once to warm up
    count.tokens = count.padded = 0
    _, seconds, peak = timed(trainer.train)
    table.row("plain Trainer, training, real tokens/s", f"{count.tokens / seconds:,.0f}")
    table.row("plain Trainer, padding", f"{1 - count.tokens / count.padded:.0%}")
    table.row("plain Trainer, peak GiB", f"{peak:.1f}")
    _, seconds, _ = timed(lambda: trainer.predict(Inputs(tokens, cap)))
    table.row("plain Trainer, both orders, pairs/s", f"{len(tokens) / seconds:,.1f}")


def trained(folder: Path, tokens: Tokens, shape: str, name: str, **train: Any) -> Fitted:
    *_, cap, pairs = SHAPES[shape]
    params = Params(
        model=ModelParams(backbone=str(folder), max_length=cap),
        train=TrainParams(epochs=1, batch_size=pairs, patience=None, **train),
        augment=AugmentParams(),
    )
    record(params.model)
    manager = CheckpointManager(Fingerprint({"name": 0}, {"name": name}), Log("gpu", quiet=True))
    manager.folder.mkdir(parents=True, exist_ok=True)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    few = tokens.take(np.arange(4))
    return fit(tokens, few, params, tokenizer, 0, manager, Log("gpu", quiet=True))


def ours(folder: Path, tokens: Tokens, shape: str, table: Table) -> None:
    """This project's: batches of like length, fused attention where it is installed."""
    trained(folder, tokens, shape, "warm-up")
    fitted, _, peak = timed(lambda: trained(folder, tokens, shape, "measured"))
    (told,) = (event for event in monitor.last("gpu") if event["event"] == "trained")
    table.row("pairpref, training, real tokens/s", f"{told['tokens_per_second']:,}")
    table.row("pairpref, padding", f"{told['padding_share']:.0%}")
    table.row("pairpref, peak GiB", f"{peak:.1f}")
    run = lambda: by_order(fitted.model, fitted.config, tokens, _TEMPLATE, 64)  # noqa: E731
    run()
    _, seconds, _ = timed(run)
    table.row("pairpref, both orders, pairs/s", f"{len(tokens) / seconds:,.1f}")


def alike(folder: Path, tokens: Tokens, shape: str, table: Table) -> None:
    """Fused attention against eager: largest difference of logits and of relative gradients."""
    *_, cap, pairs = SHAPES[shape]
    items = [PairDataset(tokens, cap, _TEMPLATE)[row, False] for row in range(pairs)]
    device = best_device()
    batch = {name: t.to(device) for name, t in Collator(0, segments=True)(items).items()}
    params = ModelParams(backbone=str(folder), max_length=cap)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    for precision in ("fp32", "bf16"):
        found = []
        for kind in ("eager", "auto"):
            torch.manual_seed(0)
            model = classifier.build(params, tokenizer, lambda _: None).to(device).eval()
            attention.fuse(model, kind, lambda _: None)
            with torch.autocast(device.type, dtype_of(precision, device), precision == "bf16"):
                out = model(**batch)
            out["loss"].backward()
            grads = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
            found.append((out["logits"].float(), grads))
        (eager, its), (fused, others) = found
        table.row(
            f"fused against eager, {precision}: logits, gradients",
            f"{(fused - eager).abs().max():.1e}, {(others - its).norm() / its.norm():.1e}",
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("gpu.md"), help="default: %(default)s")
    parser.add_argument("--shape", choices=SHAPES, default="base")
    parser.add_argument("--rows", type=int, default=800, help="votes (default: %(default)s)")
    asked = parser.parse_args()
    table = Table(asked.out.resolve())
    device = best_device()
    table.row("device", torch.cuda.get_device_name() if device.type == "cuda" else "CPU")
    table.row("torch; precision auto", f"{torch.__version__}; {dtype_of('auto', device)}")
    tokens = votes(asked.rows, asked.shape)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        path = Path(folder) / "backbone"
        backbone(path, asked.shape)
        for measure in (ours, plain, alike):
            try:
                measure(path, tokens, asked.shape, table)
            except Exception as error:  # the other rows are still worth having
                table.row(f"{measure.__name__} failed", f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
