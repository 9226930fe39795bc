"""Each recipe sets params that exist, and trains a tiny model of its backbone's family."""

import shutil
from pathlib import Path

import pytest
import zoo

from pairpref import recipes
from pairpref.params import LoraParams, Params
from pairpref.text import tokenizer as tokenizers

ROOT = Path(__file__).parents[2]
FAMILIES = {
    "microsoft/deberta-v3-base": "DeBERTa-v2/v3",
    "microsoft/deberta-v3-large": "DeBERTa-v2/v3",
    "answerdotai/ModernBERT-base": "ModernBERT",
    "google/gemma-2-9b-it": "Gemma-2",
    "Qwen/Qwen2.5-7B-Instruct": "Qwen2",
}
NAMES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))


def params_of(name: str, monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.chdir(ROOT)
    return recipes.applied(recipes.load(name), name)[1]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_trains_a_tiny_model_of_its_family(name, here, monkeypatch):
    """But for what needs a GPU: 4 bits and the optimizer in 8."""
    wanted = params_of(name, monkeypatch)
    monkeypatch.chdir(here)
    backbone = zoo.MAKERS[FAMILIES[wanted.model.backbone]](here / "backbone")
    model = {"backbone": str(backbone), "max_length": 48, "quantize": "none"}
    arguments = {k: v for k, v in wanted.train.arguments.items() if k != "optim"}
    params = wanted.model_copy(
        update={
            "model": wanted.model.model_copy(update=model),
            "train": wanted.train.model_copy(update={"arguments": arguments, "batch_size": 4}),
        }
    )
    tokenizers.load(str(backbone)).save_pretrained(here / "tokenizer")
    tokens = zoo.votes(here / "tokenizer")
    fitted = zoo.train(tokens, params, here / "tokenizer", here / "work")
    again = zoo.train(tokens, params, here / "tokenizer", here / "stopped", stop_after=1)
    assert zoo._bytes(again.model) == zoo._bytes(fitted.model)
    assert len(fitted.history) == params.train.epochs
    adapted = any("lora_" in name for name in fitted.model.state_dict())
    assert adapted == bool(params.model.lora.r)


@pytest.mark.parametrize("name", NAMES)
def test_expected_memory_and_hours_are_of_the_right_size(name, monkeypatch):
    """More weights, tokens or epochs cost more; adapters and checkpointing less."""
    params, recipe = params_of(name, monkeypatch), recipes.load(name)
    needs, hours = recipes.memory(recipe, params), recipes.hours(recipe, params, recipes.CARDS[1])
    assert 1 < needs < 80 and 0.1 < hours < 100
    longer = params.model_copy(
        update={"train": params.train.model_copy(update={"epochs": 2 * params.train.epochs})}
    )
    assert recipes.hours(recipe, longer, recipes.CARDS[1]) == pytest.approx(2 * hours)
    plain = params.model_copy(update={"train": params.train.model_copy(update={"arguments": {}})})
    whole = params.model_copy(
        update={"model": params.model.model_copy(update={"lora": LoraParams(), "quantize": "none"})}
    )
    assert recipes.memory(recipe, whole) >= needs
    for name in ("activation_checkpointing", "gradient_checkpointing"):
        train = params.train.model_copy(update={"arguments": {name: True}})
        less = params.model_copy(update={"train": train})
        assert recipes.memory(recipe, less) < recipes.memory(recipe, plain)


def test_it_writes_params_and_lists_recipes(here, monkeypatch, capsys):
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (here / "params.yaml").write_text(text, encoding="utf-8")
    (here / "recipes").symlink_to(ROOT / "recipes")
    recipes.main(["deberta-v3-large-lora"])
    changed = (here / "params.yaml").read_text(encoding="utf-8")
    assert "backbone: microsoft/deberta-v3-large" in changed and "r: 16" in changed
    recipes.main([])
    shown = capsys.readouterr().out
    assert all(name in shown for name in NAMES) and "not measured" in shown
    with pytest.raises(SystemExit):
        recipes.main(["deberta"])
    assert "there are deberta-v3-base" in capsys.readouterr().err


def test_a_recipe_leaves_nothing_of_another(here):
    shutil.copytree(ROOT / "recipes", "recipes")
    for name in ("gemma-2-9b-qlora", "deberta-v3-large"):
        shutil.copy(ROOT / "params.yaml", ".")
        alone = recipes.applied(recipes.load("deberta-v3-base"), "deberta-v3-base")[1]
        recipes.main([name])
        assert recipes.applied(recipes.load("deberta-v3-base"), "deberta-v3-base")[1] == alone
