"""Fixtures of several tests: small params, an arena run through the stages, tiny backbones."""

import os

# Set before any library reads them: nothing is fetched, a small tensor is not worth a second
# thread, and bits are compared on the CPU unless a device is asked for.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import settings

from pairpref import params

settings.register_profile("quick", max_examples=20, deadline=None)
settings.register_profile("thorough", max_examples=100, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

# Long files begin first, so that no process is left alone with one. While smoke makes the
# repository that the pipeline's tests share, the others have enough to do without it.
FIRST = "smoke kill_storm zoo fit reporting versions_again faults replay".split()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    names = [f"test_{name}" for name in FIRST]
    items.sort(key=lambda item: [*names, item.path.stem].index(item.path.stem))


PARAMS = Path(__file__).parents[1] / "params.yaml"
_SMALL = {
    "data": {"folds": 2},
    "simulate": {"rows": 240, "test_rows": 40},
    "tokenize": {"vocab_size": 500},
    "text": {"windows": {"most": 1, "stride": 0.5, "train": False}},
    # A transformer, as what is trained on a GPU.
    "model": {
        "backbone": "small-deberta-v2",
        "max_length": 64,
        "hidden_size": 32,
        "layers": 1,
        "dropout": 0.0,
        "lr_multiplier": 70,
    },
    "train": {"epochs": 1, "batch_size": 8, "warmup": 0.0, "weight_decay": 0.3},
    "oof": {"folds": 2},
    "fusion": {"members": ["classifier"]},
    "parallel": {"jobs": 1},
}


def _nested(raw: dict, path: str) -> tuple[dict, str]:
    *sections, key = path.split("__")
    for section in sections:
        raw = raw[section]
    return raw, key


@pytest.fixture(scope="session")
def params_yaml() -> Path:
    """The params.yaml of this repository."""
    return PARAMS


@pytest.fixture(scope="session")
def raw_params() -> Callable[[], dict]:
    """The real params.yaml as plain dicts, a copy a call."""
    return lambda: yaml.safe_load(PARAMS.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def small_params(raw_params) -> Callable[..., params.Params]:
    """Real params of a pipeline of seconds, with changes such as simulate__judge__tie=1.0."""

    def make(**changes: object) -> params.Params:
        raw = raw_params()
        for section, values in _SMALL.items():
            raw[section] |= values
        for path, value in changes.items():
            section, key = _nested(raw, path)
            section[key] = value
        return params.Params.model_validate(raw)

    return make


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty folder to work in, as the stages work in the repository's root."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def word_pieces(tmp_path_factory) -> Callable[..., Path]:
    """Make a folder with a BERT-like WordPiece tokenizer of single letters and the given words."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    def make(*words: str) -> Path:
        letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
        vocabulary = {
            token: i
            for i, token in enumerate([*special, *letters, *("##" + c for c in letters), *words])
        }
        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        names = {
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
        }
        folder = tmp_path_factory.mktemp("word-pieces")
        PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
        return folder

    return make


BACKBONES = ("deberta-v2", "bert", "modernbert")


@pytest.fixture(scope="session")
def tiny_backbone(word_pieces, tmp_path_factory) -> Callable[..., Path]:
    """Save a tiny backbone of a kind of `BACKBONES`, with random weights and a tokenizer."""
    import torch
    from transformers import AutoModel, AutoTokenizer, BertConfig, DebertaV2Config, ModernBertConfig

    width = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
    }
    deberta = {
        "relative_attention": True,
        "position_buckets": 8,
        "pos_att_type": ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm",
    }

    def make(kind: str, dtype: torch.dtype = torch.float32, model: type = AutoModel) -> Path:
        tokenizer = AutoTokenizer.from_pretrained(word_pieces("|"))
        common = width | {
            "vocab_size": len(tokenizer),
            "pad_token_id": 0,
            "max_position_embeddings": 64,
        }
        ids = {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
        config = {
            "deberta-v2": lambda: DebertaV2Config(
                **common, **deberta, type_vocab_size=0, position_biased_input=False
            ),
            "bert": lambda: BertConfig(**common),
            "modernbert": lambda: ModernBertConfig(
                **common, **ids, local_attention=8, global_attn_every_n_layers=2
            ),
        }[kind]()
        folder = tmp_path_factory.mktemp(kind)
        torch.manual_seed(len(kind))
        model.from_config(config).to(dtype).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def bpe():
    """A small byte-level BPE tokenizer, trained on a handful of texts."""
    from pairpref.text.tokenizer import train_bpe

    return train_bpe(
        [
            "oven broth simmer skillet",
            "orbit comet nebula",
            "purée brûlée 豆腐\nline",
            "a b c d e f g",
        ]
        * 3,
        320,
    )


@pytest.fixture(scope="session")
def pairs_of() -> Callable:
    """Tokens of rows given as (prompt, a, b) lists of ids; other columns as given or counted up."""
    import numpy as np

    from pairpref.text.tokens import Tokens

    def make(rows: list, labels=None, folds=None, ids=None, single: bool = False) -> Tokens:
        count = len(rows)
        parts = []
        for part in range(3):
            lists = [np.asarray(row[part], dtype=np.int32) for row in rows]
            values = np.concatenate([np.zeros(0, dtype=np.int32), *lists])
            parts.append((values, np.cumsum([0, *map(len, lists)])))
        return Tokens(
            np.array([f"id{i}" for i in range(count)] if ids is None else ids, dtype=object),
            tuple(parts),
            single,
            np.arange(count) % 3 if labels is None else np.asarray(labels),
            np.arange(count),
            np.zeros(count, dtype=np.int64) if folds is None else np.asarray(folds),
        )

    return make


@pytest.fixture(scope="session")
def canary() -> Callable[[Path], object]:
    """An object that creates the given file when unpickled, to show that nothing is unpickled."""

    class Canary:
        def __init__(self, path: Path) -> None:
            self.path = path

        def __reduce__(self):
            return open, (str(self.path), "w")

    return Canary


@pytest.fixture(scope="session")
def all_members(small_params, tmp_path_factory) -> Path:
    """A folder in which every stage up to calibrate has run, with all members and windows."""
    from importlib import import_module

    from pairpref.monitor import Log

    members = ["classifier", "reward", "features"]
    windows = {"most": 3, "stride": 0.5, "train": False}
    damage = {"simulate__html_entities": 0.3, "simulate__mojibake": 0.3}
    settings = small_params(fusion__members=members, text__windows=windows, **damage)
    folder = tmp_path_factory.mktemp("all-members")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in "simulate clean features tokenize train oof calibrate".split():
            getattr(import_module(f"stages.{stage}"), stage)(settings, Log("test"))
    return folder
