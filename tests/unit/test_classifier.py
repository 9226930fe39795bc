"""Classifiers built, saved and loaded: the same weights bit for bit, and harmless folders."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from pairpref.errors import UserError
from pairpref.model import classifier
from pairpref.model.classifier import InferenceConfig, SpanClassifier, SpanHead
from pairpref.params import SMALL
from pairpref.text import tokenizer as tokenizers
from pairpref.text.tokenizer import Template
from pairpref.training.batches import PairDataset
from pairpref.training.inference import collator_for

CONFIG = InferenceConfig(
    "spans", 64, False, 1, {"utf8": True, "near_duplicate": 0.8}, (0.4, 0.35, 0.25), (1.0, 1.0, 1.0)
)
POOLINGS = ["spans", "cls"]
BACKBONES = ["deberta-v2", "bert", "modernbert"]


@pytest.fixture
def build(small_params, bpe):
    def make(backbone=SMALL, pooling="spans", seed=0, **model: object):
        torch.manual_seed(seed)
        changes = {
            f"model__{name}": value
            for name, value in {"backbone": str(backbone), "pooling": pooling, **model}.items()
        }
        tokenizer = (
            tokenizers.load(str(backbone)) if (Path(backbone) / "tokenizer.json").exists() else bpe
        )
        return classifier.build(small_params(**changes).model, tokenizer)

    return make


@pytest.fixture(scope="module")
def tokens(pairs_of):
    rng = np.random.default_rng(1)
    return pairs_of([[rng.integers(4, 50, rng.integers(0, 9)) for _ in range(3)] for _ in range(6)])


def logits(model: torch.nn.Module, tokens) -> torch.Tensor:
    template = Template(2, 3, 0)
    dataset = PairDataset(tokens, 40, template)
    batch = collator_for(model, template)([dataset[row, False] for row in range(len(tokens))])
    with torch.inference_mode():
        return model.eval()(**batch)["logits"]


def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return list(one) == list(two) and all(torch.equal(one[name], two[name]) for name in one)


def refused(call, *args) -> str:
    with pytest.raises(UserError) as error:
        call(*args)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("backbone", [SMALL, *BACKBONES])
def test_saved_and_loaded_is_the_same_bit_for_bit(
    build, tiny_backbone, tokens, tmp_path, backbone, pooling
):
    model = build(backbone if backbone == SMALL else tiny_backbone(backbone), pooling)
    config = InferenceConfig(
        pooling, 64, False, 1, CONFIG.clean, CONFIG.prior, CONFIG.class_weights
    )
    classifier.save(model, config, tmp_path / "one")
    torch.manual_seed(99)
    loaded, its_config = classifier.load(tmp_path / "one")
    assert json.dumps(asdict(its_config)) == json.dumps(asdict(config))
    assert type(loaded) is type(model) and not loaded.training
    assert equal(model.state_dict(), loaded.state_dict())
    assert torch.equal(logits(model, tokens), logits(loaded, tokens))
    assert logits(loaded, tokens).shape == (6, 3)
    classifier.save(loaded, config, tmp_path / "two")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["classifier.json", "config.json", "model.safetensors"]
    assert all(
        (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
        for name in names
    )


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_seed_decides_random_weights(build, pooling):
    first, again, other = (build(pooling=pooling, seed=seed).state_dict() for seed in (0, 0, 1))
    assert equal(first, again) and not equal(first, other)


@pytest.mark.parametrize("width", [8, 33, 64, 100])
def test_the_small_default_has_the_size_asked_for(build, bpe, tokens, width):
    model = build(hidden_size=width, layers=2, max_length=40)
    assert (model.config.hidden_size, model.config.num_hidden_layers) == (width, 2)
    assert model.config.vocab_size == len(bpe) and logits(model, tokens).isfinite().all()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_small_default_tells_a_from_b(build, tokens, pooling):
    model = build(pooling=pooling)
    template = Template(2, 3, 0)
    dataset, collate = PairDataset(tokens, 40, template), collator_for(model, template)
    with torch.inference_mode():
        plain, swapped = (
            model.eval()(**collate([dataset[0, side]]))["logits"] for side in (False, True)
        )
    assert not torch.allclose(plain, swapped, atol=1e-6)


def body(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights of the backbone alone, under the names they have without a head."""
    backbone = model.backbone if isinstance(model, SpanClassifier) else model.base_model
    return backbone.state_dict()


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("kind", BACKBONES)
class TestBackbones:
    def test_weights_are_those_of_the_folder(self, build, tiny_backbone, kind, pooling):
        folder = tiny_backbone(kind)
        saved, loaded = (
            load_file(folder / "model.safetensors"),
            body(build(folder, pooling, seed=5)),
        )
        assert len(saved) >= 14 and set(loaded) <= set(saved)
        assert all(torch.equal(tensor, saved[name]) for name, tensor in loaded.items())
        # Backbones of the classifier's kind have no pooler; all else must have been used.
        assert all("pooler" in name for name in set(saved) - set(loaded))

    def test_also_where_they_were_saved_with_a_head(self, build, tiny_backbone, kind, pooling):
        folder = tiny_backbone(kind, model=AutoModelForMaskedLM)
        saved, loaded = (
            load_file(folder / "model.safetensors"),
            body(build(folder, pooling, seed=5)),
        )
        found = [
            name
            for name in loaded
            for key in saved
            if key.partition(".")[2] == name and torch.equal(saved[key], loaded[name])
        ]
        assert len(found) >= 14 and all("pooler" in name for name in set(loaded) - set(found))

    def test_half_precision_files_are_loaded_as_float32(self, build, tiny_backbone, kind, pooling):
        folder = tiny_backbone(kind, dtype=torch.float16)
        saved, model = load_file(folder / "model.safetensors"), build(folder, pooling)
        assert {tensor.dtype for tensor in saved.values()} == {torch.float16}
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert all(torch.equal(tensor, saved[name].float()) for name, tensor in body(model).items())


@pytest.mark.parametrize("pooling", POOLINGS)
class TestFolders:
    def test_missing(self, build, tmp_path, pooling):
        assert str(tmp_path / "none") in refused(build, tmp_path / "none", pooling)
        assert "nobody/nothing" in refused(build, "nobody/nothing", pooling)

    @pytest.mark.fault(18)
    @pytest.mark.parametrize(
        ("kind", "loads_or_refuses"),
        [("bert", lambda build, *which: build(*which)), ("evil", refused)],
        ids=["a kind that transformers knows is loaded", "any other is refused"],
    )
    def test_code_in_the_folder_never_runs(
        self, build, tiny_backbone, tmp_path, pooling, kind, loads_or_refuses
    ):
        folder, fired = tiny_backbone("bert"), tmp_path / "fired"
        code = (
            f"open({str(fired)!r}, 'w')\n"
            "from transformers import BertConfig as Config, BertModel as Model\n"
            "from transformers import BertForSequenceClassification as Head\n"
        )
        (folder / "evil.py").write_text(code)
        names = {
            "AutoConfig": "Config",
            "AutoModel": "Model",
            "AutoModelForSequenceClassification": "Head",
        }
        auto_map = {auto: f"evil.{name}" for auto, name in names.items()}
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(
            json.dumps(config | {"auto_map": auto_map, "model_type": kind})
        )
        loads_or_refuses(build, folder, pooling)
        assert not fired.exists()

    @pytest.mark.parametrize(
        "content", [b"", b"junk", b"\xff" * 64], ids=["empty", "short", "long"]
    )
    def test_damaged_weights(self, build, tiny_backbone, pooling, content):
        folder = tiny_backbone("bert")
        (folder / "model.safetensors").write_bytes(content)
        assert str(folder) in refused(build, folder, pooling)

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"model_type": "none"}'])
    def test_damaged_config(self, build, tiny_backbone, pooling, content):
        folder = tiny_backbone("bert")
        (folder / "config.json").write_text(content)
        assert str(folder) in refused(build, folder, pooling)


class TestSavedClassifiers:
    @pytest.fixture
    def folder(self, build, tmp_path):
        classifier.save(build(), CONFIG, tmp_path / "saved")
        return tmp_path / "saved"

    @pytest.mark.parametrize("name", ["classifier.json", "config.json", "model.safetensors"])
    @pytest.mark.parametrize("content", [None, b"", b"{", b"[]"])
    def test_a_missing_or_damaged_file(self, folder, name, content):
        (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
        assert str(folder) in refused(classifier.load, folder)

    def test_a_cut_file(self, folder):
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-20])
        refused(classifier.load, folder)

    def test_weights_of_another_shape(self, build, folder, tmp_path):
        classifier.save(build(hidden_size=64), CONFIG, tmp_path / "other")
        (folder / "model.safetensors").write_bytes(
            (tmp_path / "other/model.safetensors").read_bytes()
        )
        refused(classifier.load, folder)

    @pytest.mark.parametrize("content", [None, b"", b"{}", b"[]"])
    def test_a_config_alone(self, folder, content):
        (folder / "classifier.json").unlink() if content is None else (
            folder / "classifier.json"
        ).write_bytes(content)
        assert str(folder) in refused(classifier.load_config, folder)


def test_the_head_compares_answers_only_through_the_prompt():
    torch.manual_seed(0)
    head = SpanHead(8)
    prompt, first, second = torch.randn(3, 5, 8)
    assert head(prompt, first, second).shape == (5, 3)
    assert not torch.allclose(head(prompt, first, second), head(prompt, second, first))
    assert not torch.allclose(head(prompt, first, second), head(prompt.roll(1, 0), first, second))


def test_spans_are_means_over_their_own_tokens(build):
    """Padding and the other parts leave a span's mean alone; a span without tokens is zero."""
    states = torch.arange(12.0).reshape(1, 6, 2)
    where = torch.tensor([[False, True, True, False, False, False]])
    assert classifier._mean(states, where).tolist() == [[3.0, 4.0]]
    assert classifier._mean(states, torch.zeros_like(where)).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("backbone", [SMALL, *BACKBONES])
def test_padding_changes_nothing(build, tiny_backbone, tokens, backbone, pooling):
    model = build(backbone if backbone == SMALL else tiny_backbone(backbone), pooling)
    together = logits(model, tokens)
    alone = torch.cat([logits(model, tokens.take(np.array([row]))) for row in range(len(tokens))])
    assert torch.allclose(together, alone, atol=1e-5)


def test_the_loss_is_the_mean_cross_entropy(build, tokens):
    template = Template(2, 3, 0)
    dataset = PairDataset(tokens, 40, template)
    for pooling in POOLINGS:
        model = build(pooling=pooling).eval()
        batch = collator_for(model, template)([dataset[row, False] for row in range(6)])
        out = model(**batch)
        assert torch.allclose(
            out["loss"], torch.nn.functional.cross_entropy(out["logits"], batch["labels"])
        )


def test_the_tiny_backbones_are_what_a_hub_would_give(tiny_backbone):
    for kind in BACKBONES:
        folder = tiny_backbone(kind)
        assert AutoTokenizer.from_pretrained(folder).is_fast
        assert AutoModel.from_pretrained(folder).config.model_type == kind
