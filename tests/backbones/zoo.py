"""One tiny random backbone of every family, laid out as on a hub, and what becomes of it.

`python tests/backbones/zoo.py` writes what it finds into the table of docs/backbones.md, which
test_zoo.py compares.
"""

import io
import json
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # As in conftest.py, before any library reads them.
    os.environ |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}

import numpy as np
import pandas as pd
import sentencepiece
import torch
import transformers as hf
import yaml
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pairpref import stopping
from pairpref.backbone import record
from pairpref.errors import UserError
from pairpref.model import classifier
from pairpref.monitor import Log
from pairpref.params import Member, Params
from pairpref.text import tokenizer as tokenizers
from pairpref.text.tokens import Tokens, tokenize
from pairpref.training.checkpoints import CheckpointManager
from pairpref.training.fingerprint import Fingerprint
from pairpref.training.fit import Fitted, fit
from pairpref.training.inference import by_order

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "backbones.md"
POOLINGS = ("spans", "cls")
TRAINS = "trains"
_TABLE = re.compile(r"(<!-- zoo -->\n)(.*)(<!-- /zoo -->)", re.DOTALL)

TEXTS = """kettle bridge sparrow ledger tide violin granite
clear careful useful exact vague hasty muddled idle
what should one know of a number 12?""".splitlines()
BERT = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
ROBERTA = {"cls_token": "<s>", "pad_token": "<pad>", "sep_token": "</s>", "unk_token": "<unk>"} | {
    "bos_token": "<s>",
    "eos_token": "</s>",
}
T5 = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
GPT2 = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
OPT = {"bos_token": "</s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "</s>"}
LLAMA = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
QWEN = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
GEMMA = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}

WIDTH = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
}
GROUPED = {**WIDTH, "num_key_value_heads": 1, "head_dim": 8}


@dataclass(frozen=True)
class Kind:
    """A family: its config (given vocabulary size and special ids) and its special tokens."""

    config: type
    special: dict[str, str]
    fields: dict[str, Any]


KINDS = {
    "BERT": Kind(hf.BertConfig, BERT, {**WIDTH, "max_position_embeddings": 64}),
    "BigBird": Kind(
        hf.BigBirdConfig,
        BERT,
        {**WIDTH, "max_position_embeddings": 128, "block_size": 4, "num_random_blocks": 1},
    ),
    "ConvBERT": Kind(
        hf.ConvBertConfig,
        BERT,
        {**WIDTH, "embedding_size": 16, "max_position_embeddings": 64, "head_ratio": 1},
    ),
    "RoBERTa": Kind(
        hf.RobertaConfig, ROBERTA, {**WIDTH, "max_position_embeddings": 66, "type_vocab_size": 1}
    ),
    "XLM-R": Kind(
        hf.XLMRobertaConfig, ROBERTA, {**WIDTH, "max_position_embeddings": 66, "type_vocab_size": 1}
    ),
    "ELECTRA": Kind(
        hf.ElectraConfig, BERT, {**WIDTH, "embedding_size": 8, "max_position_embeddings": 64}
    ),
    "MPNet": Kind(hf.MPNetConfig, ROBERTA, {**WIDTH, "max_position_embeddings": 66}),
    "DistilBERT": Kind(
        hf.DistilBertConfig,
        BERT,
        {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 64},
    ),
    "ModernBERT": Kind(
        hf.ModernBertConfig, BERT, {**WIDTH, "local_attention": 8, "max_position_embeddings": 64}
    ),
    "XLNet": Kind(
        hf.XLNetConfig, ROBERTA, {"d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 24}
    ),
    "GPT-2": Kind(
        hf.GPT2Config, GPT2, {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64}
    ),
    "OPT": Kind(
        hf.OPTConfig,
        OPT,
        {
            "hidden_size": 16,
            "word_embed_proj_dim": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "ffn_dim": 24,
        }
        | {"max_position_embeddings": 64},
    ),
    "Llama": Kind(hf.LlamaConfig, LLAMA, {**GROUPED, "pad_token_id": None}),
    "Mistral": Kind(
        hf.MistralConfig, LLAMA, {**GROUPED, "sliding_window": 8, "pad_token_id": None}
    ),
    "Qwen2": Kind(hf.Qwen2Config, QWEN, {**GROUPED, "tie_word_embeddings": True}),
    "Qwen3": Kind(hf.Qwen3Config, QWEN, GROUPED),
    "Gemma-2": Kind(hf.Gemma2Config, GEMMA, {**GROUPED, "sliding_window": 8}),
    "Gemma-3 (text)": Kind(hf.Gemma3TextConfig, GEMMA, {**GROUPED, "sliding_window": 8}),
    "Mamba": Kind(
        hf.MambaConfig, GPT2, {"hidden_size": 16, "num_hidden_layers": 1, "state_size": 4}
    ),
    "Phi": Kind(hf.PhiConfig, GPT2, {**WIDTH, "pad_token_id": None}),
    "T5": Kind(
        hf.T5Config, T5, {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2}
    ),
    "BART": Kind(
        hf.BartConfig,
        ROBERTA,
        {
            "d_model": 16,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
        }
        | {"encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 64},
    ),
}
DEBERTA = {
    "relative_attention": True,
    "position_buckets": 8,
    "pos_att_type": ["p2c", "c2p"],
    "norm_rel_ebd": "layer_norm",
} | {"position_biased_input": False, "type_vocab_size": 0, "share_att_key": True}


def byte_level(special: dict[str, str]) -> hf.PreTrainedTokenizerBase:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=True),
        decoders.ByteLevel(),
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*dict.fromkeys(special.values())]
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=tokens, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(TEXTS, trainer)
    return hf.PreTrainedTokenizerFast(tokenizer_object=bpe, **special)


def make(family: str, folder: Path) -> Path:
    """A backbone of `KINDS`, with its tokenizer, as `save_pretrained` leaves them."""
    kind = KINDS[family]
    tokenizer = byte_level(kind.special)
    names = ("pad", "bos", "eos", "cls", "sep")
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in names}
    fields = {
        "vocab_size": len(tokenizer),
        **{name: i for name, i in ids.items() if i is not None},
        **kind.fields,
    }
    if family in ("T5", "BART"):
        fields["decoder_start_token_id"] = fields["pad_token_id"]
    save(kind.config(**fields), tokenizer, folder)
    return folder


def make_deberta(folder: Path) -> Path:
    """As DeBERTa-v3 is published: spm.model, and a half-precision .bin with a masked-LM head."""
    spm = io.BytesIO()
    special = {"pad": "[PAD]", "bos": "[CLS]", "eos": "[SEP]", "unk": "[UNK]"}
    ids = {f"{name}_id": i for i, name in enumerate(special)} | {
        f"{name}_piece": piece for name, piece in special.items()
    }
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 20),
        model_writer=spm,
        vocab_size=90,
        hard_vocab_limit=False,
        minloglevel=2,
        **ids,
    )
    config = hf.DebertaV2Config(vocab_size=96, pad_token_id=0, **WIDTH, **DEBERTA)
    torch.manual_seed(0)
    hf.AutoModelForMaskedLM.from_config(config).half().save_pretrained(folder)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    (folder / "spm.model").write_bytes(spm.getvalue())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"do_lower_case": False, "vocab_type": "spm"})
    )
    return folder


def make_gemma3(folder: Path) -> Path:
    """Gemma-3 as its larger sizes are published: a text model inside a multimodal one."""
    tokenizer = byte_level(GEMMA)
    text = {
        **GROUPED,
        "vocab_size": len(tokenizer),
        "sliding_window": 8,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
    }
    vision = {**WIDTH, "image_size": 8, "patch_size": 4}
    save(
        hf.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4),
        tokenizer,
        folder,
    )
    return folder


MAKERS: dict[str, Callable[[Path], Path]] = {
    "DeBERTa-v2/v3": make_deberta,
    **{family: lambda folder, family=family: make(family, folder) for family in KINDS},
    "Gemma-3 (multimodal)": make_gemma3,
}


def outcome(backbone: Path, pooling: str, work: Path, member: Member = "classifier") -> str:
    """What becomes of a backbone: `TRAINS`, or the line that refuses it.

    Raises:
        AssertionError: it trains, but something of what is promised of every model doesn't hold.
    """
    params = params_of(backbone, pooling)
    tokenizer_folder = work / "tokenizer"
    try:
        tokenizers.load(str(backbone)).save_pretrained(tokenizer_folder)
        tokens = votes(tokenizer_folder)
        fitted = train(tokens, params, tokenizer_folder, work / "undisturbed", member=member)
    except UserError as error:
        line = str(error).replace(str(backbone), "FOLDER")
        assert len(line.splitlines()) == 1, line
        return line

    again = train(tokens, params, tokenizer_folder, work / "stopped", 1, member)
    assert _bytes(again.model) == _bytes(fitted.model) and np.array_equal(
        again.orders, fitted.orders
    )

    classifier.save(fitted.model, fitted.config, work / "saved")
    loaded, config = classifier.load(work / "saved")
    assert _bytes(loaded) == _bytes(fitted.model)
    assert not list((work / "saved").glob("*.bin"))
    template = tokenizers.Template.of(tokenizers.load(str(tokenizer_folder)))
    together, alone = (
        by_order(loaded, config, tokens, template, batch_size) for batch_size in (len(tokens), 1)
    )
    assert np.array_equal(by_order(fitted.model, config, tokens, template, len(tokens)), together)
    assert np.abs(np.log(together) - np.log(alone)).max() < 1e-4, "padding changes its logits"
    return TRAINS


def votes(tokenizer: Path, count: int = 10) -> Tokens:
    """Made-up votes whose texts differ in length, one longer than any backbone's input here."""
    words = " ".join(TEXTS).split()
    texts = [" ".join(words[i % 7 : i % 7 + 1 + i * 5 % 11]) for i in range(3 * count)]
    texts[0] = " ".join(words * 9)
    columns = dict(
        zip(("prompt", "response_a", "response_b"), (texts[i::3] for i in range(3)), strict=True)
    )
    numbers = np.arange(count)
    frame = pd.DataFrame(
        {"id": numbers.astype(str), **columns, "label": numbers % 3, "group": numbers, "fold": 0}
    )
    return tokenize(frame, tokenizer)


def train(
    tokens: Tokens,
    params: Params,
    tokenizer: Path,
    work: Path,
    stop_after: int | None = None,
    member: Member = "classifier",
) -> Fitted:
    """Train on some votes and predict them; optionally stop after a step and resume."""
    record(params.model)
    job = Fingerprint({"fold": 0}, {}), _Signal(stop_after)
    store = CheckpointManager(*job, work)
    store.folder.mkdir(parents=True, exist_ok=True)
    rest = tokens, tokens, params, tokenizers.load(str(tokenizer)), 0
    if stop_after is not None:
        try:
            fit(*rest, store, job[1], member)
        except stopping.Stopped:
            stopping._asked = stopping._ending = None
        else:
            raise AssertionError("it was to be stopped")
    fitted = fit(*rest, store, Log("zoo"), member)
    assert not [path for path in work.rglob("aside/*")]
    return fitted


class _Signal(Log):
    """A log that a signal reaches after some steps."""

    def __init__(self, after: int | None) -> None:
        super().__init__("zoo")
        self._after = after

    def event(self, name: str, **fields: object) -> None:
        if name == "step" and fields["step"] == self._after:
            stopping._asked = 15


def params_of(backbone: Path, pooling: str) -> Params:
    raw = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    raw["model"] |= {"backbone": str(backbone), "pooling": pooling, "max_length": 48}
    raw["train"] |= {"epochs": 1, "batch_size": 4, "lr": 1e-3}
    raw["text"]["windows"]["most"] = 1  # bits are compared in batches of the same shape
    return Params.model_validate(raw)


def save(config: Any, tokenizer: hf.PreTrainedTokenizerBase, folder: Path) -> None:
    torch.manual_seed(0)
    hf.AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _bytes(model: torch.nn.Module) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def committed() -> dict[str, list[str]]:
    """The table of docs/backbones.md: family → what is said of each pooling."""
    table = _TABLE.search(DOCS.read_text(encoding="utf-8"))[2]
    rows = (line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|"))
    return {family: found for family, *found in list(rows)[2:]}


def main() -> None:
    lines = ["| family | `spans` | `cls` |", "|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for number, (family, maker) in enumerate(MAKERS.items()):
            backbone = maker(Path(folder) / f"backbone{number}")
            found = [
                outcome(backbone, pooling, Path(folder) / f"{pooling}{number}")
                for pooling in POOLINGS
            ]
            lines.append(f"| {family} | {' | '.join(found)} |")
            print(lines[-1], flush=True)
    text = DOCS.read_text(encoding="utf-8")
    table = "\n".join(lines)
    DOCS.write_text(
        _TABLE.sub(lambda found: f"{found[1]}{table}\n{found[3]}", text), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
