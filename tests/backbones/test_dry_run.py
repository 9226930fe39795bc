"""The dry run: what can't work ends in one line with a value that works."""

import json
import re
from pathlib import Path

import pytest
import torch
import zoo
from safetensors.torch import load_file, save_file
from transformers import BartForSequenceClassification, ReformerConfig, RobertaConfig, RobertaModel

from pairpref.backbone import record
from pairpref.errors import UserError
from pairpref.model import classifier, weights
from pairpref.params import SMALL
from pairpref.text import tokenizer as tokenizers
from pairpref.training import dry_run

pytestmark = pytest.mark.usefixtures("here")
POSITIONS = {
    "BERT": 64,
    "RoBERTa": 64,
    "MPNet": 64,
    "ELECTRA": 64,
    "DistilBERT": 64,
    "GPT-2": 64,
    "OPT": 64,
    "BART": 64,
}
CONFIG = {
    "single": False,
    "threads": 1,
    "clean": {"utf8": True, "flatten": True},
    "prior": (0.4, 0.35, 0.25),
    "class_weights": (1.0, 1.0, 1.0),
}


@pytest.fixture
def check(small_params, tmp_path):
    """Build a classifier on a backbone and try it; the classifier."""

    def go(
        backbone: Path,
        pooling: str = "spans",
        max_length: int = 48,
        change=None,
        single: bool = False,
    ):
        names = {"backbone": str(backbone), "pooling": pooling, "max_length": max_length}
        params = small_params(**{f"model__{name}": value for name, value in names.items()}).model
        record(params)
        tokenizer = tokenizers.load(str(backbone))
        model = classifier.build(params, tokenizer)
        if change:
            change(model)
        config = classifier.InferenceConfig(
            **{**CONFIG, "single": single}, pooling=pooling, max_length=max_length
        )
        dry_run.check(model, config, params, tokenizer, tmp_path / "aside")
        return model

    return go


def refused(call, *args, **kwargs) -> str:
    with pytest.raises(UserError) as error:
        call(*args, **kwargs)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


@pytest.mark.fault(26)
@pytest.mark.parametrize("pooling", zoo.POOLINGS)
@pytest.mark.parametrize("family", POSITIONS)
def test_learned_positions_end_somewhere_and_the_advice_is_the_last_one(
    check, tmp_path, family, pooling
):
    backbone = zoo.make(family, tmp_path / "backbone")
    known = POSITIONS[family]
    line = refused(check, backbone, pooling, known + 1 if pooling == "cls" else 3 * known)
    assert str(backbone) in line and line.endswith(f"-S model.max_length={known}")
    check(backbone, pooling, known)


def test_roberta_of_514_positions_reads_512(check, tmp_path):
    backbone = zoo.make("RoBERTa", tmp_path)
    config = RobertaConfig.from_pretrained(backbone, max_position_embeddings=514)
    RobertaModel(config).save_pretrained(backbone)
    assert refused(check, backbone, max_length=514).endswith("-S model.max_length=512")
    check(backbone, max_length=512)


@pytest.mark.parametrize("family", ["T5", "ModernBERT", "DeBERTa-v2/v3", "Llama"])
def test_other_positions_have_no_end(check, tmp_path, family):
    check(zoo.MAKERS[family](tmp_path / "backbone"), max_length=200)


@pytest.mark.parametrize("pooling", zoo.POOLINGS)
def test_single_texts(check, tmp_path, pooling):
    check(zoo.make("BERT", tmp_path / "backbone"), pooling, single=True)


@pytest.mark.parametrize("pooling", zoo.POOLINGS)
def test_lengths_between_are_tried(check, tmp_path, pooling):
    size = {
        "hidden_size": 16,
        "num_attention_heads": 2,
        "attention_head_size": 8,
        "feed_forward_size": 24,
    }
    layers = {
        "attn_layers": ["local"],
        "local_attn_chunk_length": 8,
        "axial_pos_embds": False,
        "max_position_embeddings": 64,
    }
    config = ReformerConfig(vocab_size=320, pad_token_id=1, eos_token_id=2, **size, **layers)
    zoo.save(config, zoo.byte_level(zoo.OPT), tmp_path / "backbone")
    assert "length 25 has to be a multiple" in refused(check, tmp_path / "backbone", pooling)


@pytest.mark.fault(26)
def test_where_one_pooling_fails_the_other_is_advised(check, tmp_path):
    # BART's classifier looks for an end of sequence, which this config puts where no input has it.
    backbone = zoo.make("BART", tmp_path / "backbone")
    config = json.loads((backbone / "config.json").read_text())
    (backbone / "config.json").write_text(json.dumps(config | {"eos_token_id": 9}))
    assert refused(check, backbone, "cls").endswith("-S model.pooling=spans")
    check(backbone, "spans")


@pytest.mark.fault(26)
@pytest.mark.parametrize(
    "broken", ["are not finite", "padding changes", "other weights", "other logits"]
)
def test_what_nothing_mends_is_said_so(check, tmp_path, monkeypatch, broken):
    backbone = zoo.make("BERT", tmp_path / "backbone")
    if broken == "are not finite":
        body = load_file(backbone / "model.safetensors")
        body["embeddings.LayerNorm.weight"][:] = torch.nan
        save_file(body, backbone / "model.safetensors", metadata={"format": "pt"})
    elif broken == "padding changes":
        run = dry_run._Trial._run
        run = dry_run._Trial._run

        def together_otherwise(*args: object, **options: object) -> dict[str, torch.Tensor]:
            out = run(*args, **options)
            return {**out, "logits": out["logits"] + len(out["logits"])}

        monkeypatch.setattr(dry_run._Trial, "_run", together_otherwise)
    else:
        load = classifier.load
        change = _moved if broken == "other weights" else _otherwise
        monkeypatch.setattr(classifier, "load", lambda folder: (change(load(folder)[0]), None))
    line = refused(check, backbone)
    assert "choose another model.backbone" in line and "-S" not in line
    assert broken in line


def _moved(model: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        next(model.parameters()).add_(0.1)
    return model


def _otherwise(model: torch.nn.Module) -> torch.nn.Module:
    model.register_forward_hook(lambda _module, _input, out: {**out, "logits": out["logits"] * 2})
    return model


@pytest.mark.parametrize("family", ["RoBERTa", "BART"])
def test_it_leaves_no_trace(check, tmp_path, family):
    backbone = zoo.make(family, tmp_path / "backbone")
    before, states = {}, []

    def remember(model: torch.nn.Module) -> None:
        model.train()
        before.update({name: tensor.clone() for name, tensor in model.state_dict().items()})
        states.append(torch.random.get_rng_state())

    for max_length in (48, 300):
        for pooling in zoo.POOLINGS:
            if max_length == 48:
                model = check(backbone, pooling, max_length, remember)
                assert model.training and all(p.grad is None for p in model.parameters())
                assert all(
                    torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items()
                )
            else:
                refused(check, backbone, pooling, max_length, remember)
            assert torch.equal(torch.random.get_rng_state(), states[-1])
            assert not (tmp_path / "aside").exists()


def test_out_of_memory_is_told_with_what_to_lower(check, tmp_path, monkeypatch):
    def full(*args: object, **kwargs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has …")

    backbone = zoo.make("BERT", tmp_path / "backbone")
    monkeypatch.setattr(torch.autograd, "grad", full)
    line = refused(check, backbone)
    assert "CUDA out of memory" in line and "model.max_length (now 48)" in line
    assert not (tmp_path / "aside").exists()


@pytest.mark.parametrize("field", [None, 7])
def test_a_decoder_is_pooled_at_its_last_token_whatever_its_config_calls_padding(
    check, tmp_path, field
):
    backbone = zoo.make("Llama", tmp_path / "backbone")
    config = json.loads((backbone / "config.json").read_text())
    (backbone / "config.json").write_text(json.dumps(config | {"pad_token_id": field}))
    model = check(backbone, "cls")
    assert model.config.pad_token_id == tokenizers.load(str(backbone)).eos_token_id


def test_tied_weights_are_saved_once_and_tied_again(check, tmp_path):
    backbone = zoo.make("BART", tmp_path / "backbone")
    model = check(backbone, "cls")
    classifier.save(
        model,
        classifier.InferenceConfig(**CONFIG, pooling="cls", max_length=48),
        tmp_path / "saved",
    )
    names = set(load_file(tmp_path / "saved" / "model.safetensors"))
    assert "model.shared.weight" in names and "model.encoder.embed_tokens.weight" not in names
    loaded, _ = classifier.load(tmp_path / "saved")
    assert isinstance(loaded, BartForSequenceClassification)
    assert loaded.model.encoder.embed_tokens.weight is loaded.model.shared.weight


def test_training_makes_it_once_and_never_for_the_small_default(
    here, monkeypatch, bpe, small_params
):
    calls, check = [], dry_run.check
    monkeypatch.setattr(dry_run, "check", lambda *args: calls.append(1) or check(*args))
    tokenizers.load(str(zoo.make("BERT", here / "backbone"))).save_pretrained(here / "tokenizer")
    tokens = zoo.votes(here / "tokenizer")
    zoo.train(
        tokens,
        zoo.params_of(here / "backbone", "spans"),
        here / "tokenizer",
        here / "work",
        stop_after=1,
    )
    assert len(calls) == 1
    bpe.save_pretrained(here / "bpe")
    small = small_params(model__backbone=SMALL)
    zoo.train(zoo.votes(here / "bpe"), small, here / "bpe", here / "small")
    assert len(calls) == 1


def test_what_a_model_raises_in_training_is_one_line(here, monkeypatch):
    backbone = zoo.make("BERT", here / "backbone")
    tokenizers.load(str(backbone)).save_pretrained(here / "tokenizer")

    def fail(*args: object) -> None:
        raise RuntimeError("no such size\nof a buffer")

    monkeypatch.setattr(weights, "put", fail)
    monkeypatch.setattr(dry_run, "check", lambda *args: None)
    params = zoo.params_of(backbone, "spans")
    params = params.model_copy(update={"train": params.train.model_copy(update={"patience": 1})})
    line = refused(
        zoo.train, zoo.votes(here / "tokenizer"), params, here / "tokenizer", here / "work"
    )
    assert str(backbone) in line and "RuntimeError: no such size)" in line


@pytest.mark.fault(26)
def test_a_training_that_can_not_work_takes_no_step(here):
    backbone = zoo.make("RoBERTa", here / "backbone")
    tokenizers.load(str(backbone)).save_pretrained(here / "tokenizer")
    params = zoo.params_of(backbone, "spans")
    params = params.model_copy(update={"model": params.model.model_copy(update={"max_length": 65})})
    line = refused(
        zoo.train, zoo.votes(here / "tokenizer"), params, here / "tokenizer", here / "work"
    )
    assert re.search(r"can't be trained .* -S model.max_length=64$", line)
    assert not list((here / "work").rglob("*.safetensors"))
