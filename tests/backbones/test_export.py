"""`pairpref export`: transformers gives our logits, and the code of the card composes alike."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
import zoo
from huggingface_hub import ModelCard
from tokenizers.pre_tokenizers import Metaspace
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from pairpref import bundle, export, model_card, paths
from pairpref.data import cells
from pairpref.errors import UserError
from pairpref.evaluation.calibration import Calibrator
from pairpref.evaluation.metrics import answers, probabilities, scores
from pairpref.model import classifier
from pairpref.monitor import Log
from pairpref.params import Params
from pairpref.text import tokenizer as tokenizers
from pairpref.text.compose import inputs
from pairpref.text.tokenizer import Template
from pairpref.text.tokens import tokenize as tokens_of
from pairpref.training.inference import by_order, collator_for
from stages.backbone import backbone
from stages.calibrate import calibrate
from stages.clean import clean
from stages.features import features
from stages.oof import oof
from stages.simulate import simulate
from stages.tokenize import tokenize
from stages.train import train

ROOT = Path(__file__).parents[2]
MEMBERS = ("classifier", "reward")
PAIR = ("Hi [SEP]\nthere <tag>", " kettle bridge", "a useful number: 12\n\n12")
LONG = ("What? " * 9, "ledger tide " * 40, "granite")


def recorded(params: Params) -> None:
    """dvc.lock as DVC writes it after the stages."""
    given, stages = params.model_dump(mode="json"), {}
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"]
    for stage in model_card._STAGES:
        values = {}
        for name in declared[stage].get("params", []):
            value = given
            for key in name.split("."):
                value = value[int(key) if key.isdigit() else key]
            values[name] = value
        stages[stage] = {"params": {"params.yaml": values}}
    stages["clean"]["deps"] = [{"path": params.data.train, "hash": "md5", "md5": "0ffee"}]
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}), "utf-8")


def run(params: Params, *stages) -> None:
    for stage in stages:
        stage(params, Log("test"))
    recorded(params)


@pytest.fixture(scope="module")
def pipeline(small_params, tmp_path_factory) -> Path:
    """A classifier and a reward model on DeBERTa as it is published, trained by the stages."""
    folder, mine = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("mine") / "deberta"
    zoo.make_deberta(mine)
    params = small_params(
        simulate__rows=60,
        model__backbone=str(mine),
        model__pooling="cls",
        model__max_length=100,
        train__lr=1e-3,
        fusion__members=list(MEMBERS),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run(params, simulate, clean, features, backbone, tokenize, train, oof, calibrate)
        for member in MEMBERS:
            export.main([f"out/{member}", "--member", member, "--fold", "1"])
    return folder


@pytest.fixture
def there(pipeline, monkeypatch) -> Path:
    monkeypatch.chdir(pipeline)
    return pipeline


def code(folder: Path) -> dict:
    """What the code of a card defines, run beside the folder as its reader would."""
    text = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text("utf-8"), re.S)[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder.parent)
        exec(text, defined := {})
    return defined


def member_of(name: str) -> tuple[torch.nn.Module, classifier.InferenceConfig, Template]:
    """Our own model of fold 1."""
    model, config = classifier.load(bundle.models(paths.MODELS)[name][1])
    return model, config, Template.of(tokenizers.load(str(paths.TOKENIZER)))


def raw_logits(name: str, texts: tuple[str, str, str]) -> tuple[torch.Tensor, list[list[int]]]:
    """By our model, (1, 3), and the ids of its inputs."""
    model, config, template = member_of(name)
    parts = tokenizers.encoder(paths.TOKENIZER)(texts)
    composed = inputs(config.member, *parts, config.longest, template, cut=config.cut)
    batch = collator_for(model, template)([(composed, -1)])
    with torch.inference_mode():
        return model(**batch)["logits"], [one.ids.tolist() for one in composed]


@pytest.mark.parametrize("texts", [PAIR, LONG])
def test_it_gives_the_classifiers_logits(there, capsys, texts):
    ours, (ids,) = raw_logits("classifier", texts)
    loaded = AutoModelForSequenceClassification.from_pretrained(there / "out/classifier").eval()
    with torch.inference_mode():
        theirs = loaded(torch.tensor([ids])).logits
    torch.testing.assert_close(theirs, ours, atol=1e-6, rtol=0)
    assert loaded.config.id2label == {0: "A", 1: "B", 2: "tie"}


@pytest.mark.parametrize("texts", [PAIR, LONG])
def test_the_one_score_of_a_reward_model_is_the_utility(there, texts):
    ours, ids = raw_logits("reward", texts)
    loaded = AutoModelForSequenceClassification.from_pretrained(
        there / "out/reward", num_labels=1
    ).eval()
    with torch.inference_mode():
        theirs = torch.cat([loaded(torch.tensor([one])).logits[:, 0] for one in ids])
    torch.testing.assert_close(theirs, ours[0, :2], atol=1e-5, rtol=0)
    scale = member_of("reward")[0].scale
    assert scale != 0 and ours[0, 0] != ours[0, 1]  # or it would show nothing


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("texts", [PAIR, LONG])
def test_the_code_of_the_card_composes_and_answers_as_pairpref_does(there, member, texts):
    given = code(there / "out" / member)
    model, config, template = member_of(member)
    _, ids = raw_logits(member, texts)
    shown = [texts] if member == "classifier" else [(texts[0], answer) for answer in texts[1:]]
    assert [given["compose"](*one)["input_ids"][0].tolist() for one in shown] == ids

    rows = pd.DataFrame([("1", *texts)], columns=["id", "prompt", "response_a", "response_b"])
    p = by_order(model, config, tokens_of(rows, paths.TOKENIZER), template, 4).mean(axis=0)
    table = pd.read_parquet(paths.MEMBERS)
    table = table[table["member"] == member]
    calibrator = Calibrator.fit(probabilities(table), table["label"].to_numpy(int))
    assert given["probabilities"](*texts) == pytest.approx(calibrator.apply(p)[0], abs=1e-5)
    swapped = given["probabilities"](texts[0], texts[2], texts[1])
    assert np.array(swapped)[[1, 0, 2]] == pytest.approx(given["probabilities"](*texts), abs=1e-6)


def test_the_chat_template_composes_what_trl_asks_the_reward_model(there):
    """TRL renders messages, then tokenises without special tokens and pads on the right."""
    folder = there / "out/reward"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1).eval()
    turns = ["kettle?\nnow", "and bridge?"], ["useful", "exact"]
    talk = [
        {"role": role, "content": turn}
        for pair in zip(*turns, strict=True)
        for role, turn in zip(("user", "assistant"), pair, strict=True)
    ]
    talks = [[{"role": "system", "content": "Be vague."}, *talk[:2]], talk]
    texts = [tokenizer.apply_chat_template(messages, tokenize=False) for messages in talks]
    batch = tokenizer(
        text=texts,
        return_tensors="pt",
        padding=True,
        padding_side="right",
        add_special_tokens=False,
    )
    with torch.inference_mode():
        theirs = model(**batch).logits[:, 0].tolist()
    utility = code(folder)["utility"]
    one, two = (cells.parse(messages) for messages in talks)
    ours = [utility(cells.join(talk.asks), cells.join(talk.answers)) for talk in (one, two)]
    assert theirs == pytest.approx(ours, abs=1e-5) and ours[0] != ours[1]


@pytest.mark.parametrize("member", MEMBERS)
def test_the_head_of_the_card_is_yaml_that_the_hub_reads(there, member):
    text = (there / "out" / member / "README.md").read_text("utf-8")
    assert text.startswith("---\n")
    head = yaml.safe_load(text.split("---\n")[1])
    assert "license" not in head and "# license: yours" in text
    assert head["library_name"] == "transformers" and "pairpref" in head["tags"]
    assert head["pipeline_tag"] == "text-classification"
    (result,) = head["model-index"][0]["results"]
    table = pd.read_parquet(paths.MEMBERS)
    table = table[(table["member"] == member) & (table["fold"] == 1)]
    raw = scores(table["label"].to_numpy(int), probabilities(table))
    said = {metric["name"]: metric["value"] for metric in result["metrics"]}
    assert said["accuracy"] == pytest.approx(raw["accuracy"])  # which no temperature changes
    assert said["log_loss"] == pytest.approx(raw["log_loss"], abs=0.1)
    assert ModelCard.load(there / "out" / member / "README.md").data.eval_results[0].metric_value
    assert f"{raw['log_loss']:.4f} before" in text


def test_the_card_says_what_was_trained_on_what(there):
    text = (there / "out/classifier/README.md").read_text("utf-8")
    table = answers(pd.read_parquet(paths.UNCALIBRATED))
    own = int((table["fold"] == 1).sum())
    for said in (
        "60 votes of `train.csv` (md5 `0ffee`)",
        f"trained on {60 - own}, judged on the other {own},",
        "These votes are simulated",
        "| all votes |",
        "Temperature",
        "**Order.** If the answers are exchanged",
        "| model.pooling | cls |",
        "| model.backbone | deberta |",
        "at most 100 tokens",
    ):
        assert said in text, said
    assert "by itself" in (there / "out/reward/README.md").read_text("utf-8")


def test_it_names_no_folder_of_this_machine_and_holds_no_pickle(there):
    for member in MEMBERS:
        files = {path.name: path for path in (there / "out" / member).iterdir()}
        assert {"config.json", "model.safetensors", "README.md", "tokenizer.json"} <= {*files}
        assert not [name for name in files if name.endswith((".bin", ".py"))]
        for path in files.values():
            assert str(there.parent).encode() not in path.read_bytes(), path.name


def test_the_repositorys_own_record_is_read(monkeypatch):
    monkeypatch.chdir(ROOT)
    params, md5 = model_card._recorded()
    assert params["model.backbone"] and "train.lr" in params and re.fullmatch(r"\w{32}", md5)


def refused(pattern: str, *arguments, **options) -> None:
    with pytest.raises(UserError, match=pattern) as raised:
        export.export(*arguments, **options)
    assert len(str(raised.value).splitlines()) == 1


def test_what_is_not_there_or_taken_is_refused(there, tmp_path, capsys):
    refused("no fold 2 of the classifier: it has folds 0 to 1", tmp_path / "x", fold=2)
    refused("no fold 0 of the features: it has none", tmp_path / "x", member="features")
    (tmp_path / "file").write_text("")
    (tmp_path / "mine").mkdir()
    for name in ("file", "mine"):
        refused(f"{name} exists: name a new folder", tmp_path / name)
    refused("no fold -1", tmp_path / "x", fold=-1)
    with pytest.raises(SystemExit, match="1"):
        export.main([str(there / "out/classifier")])
    assert re.fullmatch(r"export: .*classifier exists.*\n", capsys.readouterr().err)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine"]


@pytest.mark.fault(4)
@pytest.mark.parametrize("at", ["save", "_reloaded"])
def test_it_is_written_whole_or_not_at_all(there, tmp_path, monkeypatch, at):

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, at, fail)
    with pytest.raises(OSError):
        export.export(tmp_path / "judge")
    assert not [*tmp_path.iterdir()]


@pytest.mark.fault(23)
def test_tables_of_other_models_are_refused(there, tmp_path, monkeypatch):
    table = pd.read_parquet(paths.UNCALIBRATED)
    table[["ab_a", "ba_a"]] += 0.2
    monkeypatch.setattr(paths, "UNCALIBRATED", tmp_path / "other.parquet")
    table.to_parquet(paths.UNCALIBRATED)
    refused("predictions of other models than models/train", tmp_path / "judge")
    monkeypatch.setattr(paths, "UNCALIBRATED", tmp_path / "gone.parquet")
    refused("gone.parquet: missing", tmp_path / "judge")
    monkeypatch.setattr(model_card, "_LOCK", tmp_path / "dvc.lock")
    (tmp_path / "dvc.lock").write_text("stages: {clean: {}}")
    refused("no whole record of the stages clean", tmp_path / "judge")
    assert not (tmp_path / "judge").exists()


def test_a_head_of_our_own_is_refused(there, tmp_path):
    config = classifier.load_config(paths.FOLD_0)
    with pytest.raises(UserError, match=r"-S model.pooling=cls") as raised:
        export._refuse(paths.FOLD_0, replace(config, pooling="spans"))
    assert len(str(raised.value).splitlines()) == 1
    (tmp_path / "adapted.json").write_text('{"quantize": "4bit"}')
    with pytest.raises(UserError, match="quantize=none"):
        export._refuse(tmp_path, config)


def test_single_texts_the_small_transformer_and_weighed_classes(here, small_params):
    """It has token types, no further folds, and its loss weighs rare labels up."""
    words = "kettle bridge sparrow ledger tide violin granite".split()
    rows = pd.DataFrame(
        {
            "text": [
                f"{words[i % 7]} [A] {words[i % 5]} [B] {words[i % 3]} {i}" for i in range(60)
            ],
            "label": ["A", "B", "tie", "A", "A"] * 12,
        }
    )
    rows.to_csv(here / "votes.csv", index=False)
    params = small_params(
        data__train=str(here / "votes.csv"),
        model__pooling="cls",
        augment__ab=False,
        train__class_weights=True,
        oof__enabled=False,
    )
    run(params, clean, features, backbone, tokenize, train, oof, calibrate)
    export.export(Path("out/judge"))
    given = code(here / "out/judge")
    config = classifier.load_config(paths.FOLD_0)
    assert config.single and len(set(config.class_weights)) > 1
    text = rows["text"][7]
    segments = given["compose"](text)["token_type_ids"][0].tolist()
    assert segments == [0, *[2] * (len(segments) - 1)]
    table = answers(pd.read_parquet(paths.FOLD_0_ANSWERS)).set_index("id")
    p = probabilities(table)
    calibrator = Calibrator.fit(p, table["label"].to_numpy(int))
    row = table.index[3]
    told = given["probabilities"](rows["text"][int(row) - 2])
    assert told == pytest.approx(calibrator.apply(p)[3], abs=1e-5)
    assert "small-deberta-v2" in (here / "out/judge/README.md").read_text("utf-8")


FAMILIES = ("DeBERTa-v2/v3", "RoBERTa", "GPT-2", "Qwen2", "T5", "BART", "Gemma-3 (multimodal)")


@pytest.mark.parametrize("family", FAMILIES)
def test_families(here, family):
    """As published, both members; the reward model with adapters."""
    params = zoo.params_of(zoo.MAKERS[family](here / "backbone"), "cls")
    tokenizer = tokenizers.load(str(here / "backbone"))
    tokenizer.save_pretrained(here / "tokenizer")
    template, encoder = Template.of(tokenizer), tokenizers.encoder(here / "tokenizer")
    path = str(here / "backbone")
    lora = params.model.lora.model_copy(update={"r": 2})
    for member in MEMBERS:
        chosen = params.model.model_copy(update={"lora": lora} if member == "reward" else {})
        torch.manual_seed(0)
        model = classifier.build(chosen, tokenizer, path=path, member=member).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if ".lora_B" in name or name in ("scale", "tie"):
                    parameter.normal_(std=0.02)
        parts = encoder(PAIR)
        composed = inputs(member, *parts, 48, template)
        batch = collator_for(model, template)([(composed, -1)])
        config = classifier.InferenceConfig("cls", 48, False, 1, {}, (1, 0, 0), (1, 1, 1))
        config = replace(config, member=member)
        with torch.inference_mode():
            ours = model(**batch)["logits"]
        tie = export.constant(model)
        export.save(export.standard(model, config), tokenizer, template.pad, 48, here / member)
        with torch.inference_mode():
            theirs = export._reloaded(here / member, tie).eval()(**batch)["logits"]
        torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=0)
    assert export.add_chat(here / "reward", template, encoder.line_break)
    again = AutoTokenizer.from_pretrained(here / "classifier")
    for text, expected in zip(PAIR, encoder(PAIR), strict=True):
        text = text.replace("\n", encoder.line_break)
        ids = again.encode(text, add_special_tokens=False, split_special_tokens=True)
        assert ids == expected.tolist()
    assert again.pad_token_id == template.pad


def test_no_chat_template_where_a_separator_changes_how_the_next_text_is_cut(here):
    """As Llama-2's: a space is put before a text, but not after a special token."""
    tokenizer = zoo.byte_level(zoo.LLAMA)
    tokenizer.backend_tokenizer.pre_tokenizer = Metaspace(prepend_scheme="first")
    tokenizer.save_pretrained(here / "llama")
    before = {path.name for path in (here / "llama").iterdir()}
    assert not export.add_chat(here / "llama", Template.of(tokenizer), "\n")
    assert {path.name for path in (here / "llama").iterdir()} == before
