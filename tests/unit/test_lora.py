"""Adapters: the backbone is frozen, little is saved, and what is loaded is what was trained."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pairpref.backbone import record
from pairpref.errors import UserError
from pairpref.model import classifier, lora
from pairpref.monitor import Log
from pairpref.text import tokenizer as tokenizers
from pairpref.text.tokenizer import Template
from pairpref.training.checkpoints import CheckpointManager
from pairpref.training.fingerprint import Fingerprint
from pairpref.training.fit import Fitted, fit
from pairpref.training.inference import by_order

POOLINGS = ["spans", "cls"]


@pytest.fixture(scope="module")
def votes(pairs_of):
    rng = np.random.default_rng(1)
    rows = [[rng.integers(4, 50, rng.integers(1, 9)) for _ in range(3)] for _ in range(16)]
    return pairs_of(rows, labels=rng.integers(0, 3, 16), ids=[str(i) for i in range(16)])


@pytest.fixture
def train(here, small_params, votes, tiny_backbone):
    """Train a few steps; gives params and what was fitted."""

    def go(kind: str = "deberta-v2", store: str = "store", log: Log | None = None, **changes):
        folder = tiny_backbone(kind)
        settings = small_params(
            **{"model__backbone": str(folder), "train__lr": 1e-2, "train__epochs": 2, **changes}
        )
        record(settings.model)
        manager = CheckpointManager(
            Fingerprint({"store": 0}, {}), log or Log("fit"), here / "work" / store
        )
        manager.folder.mkdir(parents=True, exist_ok=True)
        tokenizer = tokenizers.load(str(folder))
        return settings, fit(votes, votes, settings, tokenizer, 0, manager, Log("fit"))

    return go


def answers(fitted: Fitted, model: torch.nn.Module, votes) -> np.ndarray:
    return by_order(model, fitted.config, votes, Template(2, 3, 0), 64)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("kind", ["deberta-v2", "bert", "modernbert"])
def test_adapters_and_head_are_trained_and_nothing_else(train, kind, pooling, tmp_path, votes):
    settings, fitted = train(kind, model__pooling=pooling, model__lora={"r": 4})
    words = len(tokenizers.load(settings.model.backbone))
    fresh = classifier.backbone.load(settings.model, words, 0, print, settings.model.backbone)
    body = fresh if pooling == "spans" else fresh.base_model
    trained = fitted.model.backbone if pooling == "spans" else fitted.model.base_model
    kept = {name.replace(".base_layer", ""): t for name, t in trained.state_dict().items()}
    same = [name for name, t in body.state_dict().items() if torch.equal(kept[name], t)]
    assert same == list(body.state_dict())
    classifier.save(fitted.model, fitted.config, tmp_path / "saved", settings.model)
    saved = load_file(tmp_path / "saved/model.safetensors")
    assert all(".lora_" in name or not name.startswith("backbone.") for name in saved)
    assert any(".lora_B" in name and tensor.abs().sum() > 0 for name, tensor in saved.items())
    loaded, _ = classifier.load(tmp_path / "saved")
    assert np.array_equal(answers(fitted, loaded, votes), fitted.orders)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_merged_it_is_a_classifier_as_any_other(train, pooling, tmp_path, votes):
    settings, fitted = train(
        model__pooling=pooling, model__lora={"r": 4, "merge": True}, model__attention="eager"
    )
    classifier.save(fitted.model, fitted.config, tmp_path / "merged", settings.model)
    assert not (tmp_path / "merged/adapted.json").exists()
    loaded, _ = classifier.load(tmp_path / "merged")
    assert not any("lora" in name for name in loaded.state_dict())
    np.testing.assert_allclose(answers(fitted, loaded, votes), fitted.orders, atol=1e-5)
    # What is being trained is left as it was.
    assert any("lora_A" in name for name in fitted.model.state_dict())


def test_a_named_layer_alone_is_adapted_and_an_unknown_one_refused(train):
    _, fitted = train(model__lora={"r": 2, "targets": ["value_proj"]})
    adapted = {n.split(".lora_")[0] for n in fitted.model.state_dict() if ".lora_" in n}
    assert adapted and all(name.endswith("value_proj") for name in adapted)
    with pytest.raises(UserError, match=r"\['nowhere'\] are not in this backbone; it has .*value_"):
        train(store="other", model__lora={"r": 2, "targets": ["value_proj", "nowhere"]})


def test_a_base_that_is_gone_is_named(train, tmp_path):
    settings, fitted = train(model__lora={"r": 2})
    classifier.save(fitted.model, fitted.config, tmp_path / "saved", settings.model)
    path = tmp_path / "saved/adapted.json"
    made = json.loads(path.read_text())
    path.write_text(json.dumps(made | {"backbone": str(tmp_path / "gone")}))
    with pytest.raises(UserError, match="gone"):
        classifier.load(tmp_path / "saved")


def test_frozen_weights_in_few_bits_need_adapters_and_a_gpu(small_params, tiny_backbone):
    with pytest.raises(ValueError, match="needs model.lora.r"):
        small_params(model__quantize="4bit")
    settings = small_params(
        model__backbone=str(tiny_backbone("bert")), model__quantize="4bit", model__lora={"r": 2}
    )
    with pytest.raises(UserError, match="needs a GPU and bitsandbytes"):
        classifier.backbone.load(settings.model, 60, 0)


def test_gradient_checkpointing_changes_no_loss(train):
    histories = [
        train(store=str(on), train__arguments={"gradient_checkpointing": on})[1].history
        for on in (False, True)
    ]
    for plain, checkpointed in zip(*histories, strict=True):
        assert checkpointed == pytest.approx(plain, abs=1e-5)


def test_noise_on_embeddings_changes_the_weights_and_no_prediction(train, votes):
    _, plain = train(store="plain")
    _, noisy = train(store="noisy", train__arguments={"neftune_noise_alpha": 5})
    assert not np.array_equal(noisy.orders, plain.orders)
    np.testing.assert_array_equal(answers(noisy, noisy.model, votes), noisy.orders)


def test_merging_adds_the_adapters(train):
    _, fitted = train(model__lora={"r": 4})
    before = {n: t.clone() for n, t in fitted.model.state_dict().items()}
    merged = lora.merge(fitted.model).state_dict()
    name = next(n for n in before if n.endswith("query_proj.lora_B.default.weight"))
    layer = name.removesuffix(".lora_B.default.weight")
    low = before[name] @ before[f"{layer}.lora_A.default.weight"] * (16 / 4)
    torch.testing.assert_close(
        merged[f"{layer}.weight"], before[f"{layer}.base_layer.weight"] + low
    )
