"""The reward model: Davidson's formula, exact under exchange, trained and kept like others."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig

from pairpref import bundle, paths
from pairpref.backbone import record
from pairpref.errors import UserError
from pairpref.evaluation.metrics import answers, scores
from pairpref.model import classifier
from pairpref.model.reward import RewardHead, davidson
from pairpref.monitor import Log
from pairpref.pairs import PROBABILITIES, swap_probabilities
from pairpref.params import BAG, SMALL, FusionParams
from pairpref.text import tokenizer as tokenizers
from pairpref.text.compose import Cut
from pairpref.text.tokenizer import Template
from pairpref.training import folds
from pairpref.training.batches import Collator, PairDataset
from pairpref.training.checkpoints import CheckpointManager
from pairpref.training.fingerprint import Fingerprint
from pairpref.training.fit import fit
from pairpref.training.inference import by_order, collator_for
from stages.calibrate import calibrate
from stages.clean import clean
from stages.features import features
from stages.oof import oof
from stages.predict import predict
from stages.simulate import simulate
from stages.tokenize import tokenize
from stages.train import train

KINDS = [(BAG, "spans"), (SMALL, "spans"), (SMALL, "cls"), ("bert", "spans"), ("bert", "cls")]
TEMPLATE = Template(2, 3, 0)
GOOD, BAD = 20, 30


@pytest.fixture(scope="module")
def tokens(pairs_of):
    """Votes for the answer with the good word; both or neither are a tie."""
    rng, rows, labels = np.random.default_rng(0), [], []
    for _ in range(40):
        a, b = rng.integers(0, 2, 2)
        texts = [
            [GOOD if good else BAD, *rng.integers(4, 15, rng.integers(0, 6))] for good in (a, b)
        ]
        rows.append([rng.integers(4, 15, rng.integers(0, 4)), *texts])
        labels.append(2 if a == b else 0 if a else 1)
    return pairs_of(rows, labels=labels)


@pytest.fixture
def settings(small_params, tiny_backbone):
    def make(backbone: str, pooling: str, **changes: object):
        folder = str(tiny_backbone(backbone)) if backbone == "bert" else backbone
        chosen = {"model__backbone": folder, "model__pooling": pooling, "model__dropout": 0.1}
        return small_params(**chosen, **changes)

    return make


@pytest.fixture
def tokenizer_of(bpe):
    return lambda s: bpe if s.model.backbone in (BAG, SMALL) else tokenizers.load(s.model.backbone)


@pytest.fixture
def trained(here, tokens, tokenizer_of):
    """Train a reward model."""

    def go(params):
        record(params.model)
        log = Log("fit")
        manager = CheckpointManager(Fingerprint({"fold": 0}, {}), log, here / "work" / "one")
        manager.folder.mkdir(parents=True, exist_ok=True)
        return fit(tokens, tokens, params, tokenizer_of(params), 0, manager, log, "reward")

    return go


def bits(model: torch.nn.Module) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def test_ties_are_davidsons():
    u, c = torch.tensor([[0.3, -1.2], [2.0, 2.0]], dtype=torch.float64), torch.tensor([0.4, -1.0])
    p = torch.softmax(davidson(u, c), dim=1).numpy()
    strengths, nu = np.exp(u.numpy()), np.exp(c.numpy())  # as in his paper
    tie = nu * np.sqrt(strengths.prod(axis=1))
    expected = np.column_stack([strengths, tie]) / (strengths.sum(axis=1) + tie)[:, None]
    assert p == pytest.approx(expected, abs=1e-7) and p.sum(axis=1) == pytest.approx(1)


def test_the_head_is_the_same_for_exchanged_answers():
    torch.manual_seed(0)
    head, (prompt, answer) = RewardHead(8).eval(), torch.randn(2, 10, 8)
    exchanged = [2 * (i // 2) + 1 - i % 2 for i in range(10)]
    logits, other = (head(prompt[i], answer[i], answer) for i in (range(10), exchanged))
    assert torch.allclose(other[:, [1, 0, 2]], logits, atol=1e-6)
    utilities, c = logits[:, :2], logits[:, 2] - logits[:, :2].mean(dim=1)
    assert torch.allclose(davidson(utilities, c), logits, atol=1e-6)


def test_each_answer_is_read_with_the_prompt_and_cut_by_itself(pairs_of):
    tokens = pairs_of([([4, 5], [6, 7, 8, 9, 10, 11], [12])], labels=[1])
    dataset = PairDataset(tokens, 8, TEMPLATE, "reward")
    batch = Collator(0, segments=True)([dataset[0, False], dataset[0, True]])
    cut, whole = [2, 4, 5, 3, 6, 7, 8, 3], [2, 4, 5, 3, 12, 3, 0, 0]
    assert batch["input_ids"].tolist() == [cut, whole, whole, cut]
    assert batch["token_type_ids"][0].tolist() == [0, 1, 1, 1, 2, 2, 2, 2]
    assert batch["labels"].tolist() == [1, 0]


def test_each_input_shows_the_same_window_of_both_answers(pairs_of):
    tokens = pairs_of([([4, 5], [6, 7, 8, 9, 10, 11], [12, 13, 14, 15])], labels=[1])
    dataset = PairDataset(tokens, 8, TEMPLATE, "reward", Cut(windows=9, stride=0.5))
    shown = [dataset[0, False, k][0] for k in range(dataset.windows(0))]
    assert [[read.ids[4:-1].tolist() for read in pair] for pair in shown] == [
        [[6, 7, 8], [12, 13, 14]],
        [[7, 8, 9], [12, 13, 14]],
        [[8, 9, 10], [12, 13, 14]],
        [[9, 10, 11], [13, 14, 15]],
    ]
    swapped, other = dataset[0, True, 2][0], dataset[0, False, 2][0]
    assert [read.ids.tolist() for read in swapped] == [read.ids.tolist() for read in other[::-1]]


def test_windows_keep_the_exchange_of_answers_exact(settings, trained, tokens, pairs_of):
    windows = {"text__truncation": "tail", "text__windows": {"most": 3, "train": True}}
    fitted = trained(settings(BAG, "spans", model__max_length=16, **windows))
    other = pairs_of([(prompt, b, a) for prompt, a, b in map(tokens.pair, range(40))])
    config = replace(fitted.config, max_length=8)
    p, q = (by_order(fitted.model, config, of, TEMPLATE, 8)[0] for of in (tokens, other))
    one = by_order(fitted.model, replace(config, windows=1), tokens, TEMPLATE, 8)[0]
    assert np.array_equal(swap_probabilities(q), p) and np.abs(p - one).max() > 1e-6


@pytest.mark.parametrize(("backbone", "pooling"), KINDS)
def test_exchanged_answers_exchange_probabilities_and_what_is_saved_is_the_same(
    settings, trained, tokens, tokenizer_of, pairs_of, tmp_path, backbone, pooling
):
    params = settings(backbone, pooling, train__epochs=2)
    fitted = trained(params)
    assert fitted.orders.shape == (1, 40, 3) and fitted.config.member == "reward"
    p = fitted.orders[0]
    assert np.abs(p.sum(axis=1) - 1).max() < 1e-12

    rows = [tokens.pair(row) for row in range(40)]
    other = pairs_of([(prompt, b, a) for prompt, a, b in rows])
    asked = fitted.model, fitted.config
    template = Template.of(tokenizer_of(params))
    q = by_order(*asked, other, template, 8)[0]
    assert np.array_equal(swap_probabilities(q), by_order(*asked, tokens, template, 8)[0])

    classifier.save(fitted.model, fitted.config, tmp_path / "saved")
    loaded, config = classifier.load(tmp_path / "saved")
    assert config.member == "reward" and config.max_length == fitted.config.max_length
    assert type(loaded) is type(fitted.model) and bits(loaded) == bits(fitted.model)
    assert np.array_equal(by_order(loaded, config, other, template, 8)[0], q)


@pytest.mark.parametrize(("backbone", "pooling"), KINDS)
def test_all_that_is_trained_has_a_gradient(settings, tokens, tokenizer_of, backbone, pooling):
    params = settings(backbone, pooling)
    torch.manual_seed(0)
    tokenizer = tokenizer_of(params)
    model = classifier.build(params.model, tokenizer, member="reward").train()
    dataset = PairDataset(tokens, 40, TEMPLATE, "reward")
    batch = collator_for(model, TEMPLATE)([dataset[row, False] for row in range(40)])
    out = model(**batch)
    assert out["logits"].shape == (40, 3)
    assert out["loss"] == torch.nn.functional.cross_entropy(out["logits"], batch["labels"])
    out["loss"].backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without
    heads = [p for name, p in model.named_parameters() if name.split(".")[0] in ("head", "tie")]
    assert all(parameter.grad.abs().sum() > 0 for parameter in heads)


@pytest.mark.parametrize(("backbone", "pooling"), KINDS[:3])
def test_it_learns_from_random_weights(settings, trained, tokens, backbone, pooling):
    faster = 1_500 if backbone == BAG else 140
    changes = {"train__epochs": 12, "train__patience": None, "model__lr_multiplier": faster}
    fitted = trained(settings(backbone, pooling, **changes))
    assert scores(tokens.labels, fitted.orders[0])["log_loss"] < 0.5


def test_a_published_reward_model_keeps_its_head(settings, tokenizer_of, tmp_path):
    tokenizer = tokenizer_of(settings("bert", "cls"))
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        num_labels=1,
    )
    published = AutoModelForSequenceClassification.from_config(config)
    published.save_pretrained(tmp_path / "reward")
    tokenizer.save_pretrained(tmp_path / "reward")
    params, said = settings(str(tmp_path / "reward"), "cls").model, []
    model = classifier.build(params, tokenizer, said.append, member="reward")
    assert not said and torch.equal(model.scorer.classifier.weight, published.classifier.weight)
    classifier.build(params, tokenizer, said.append)
    assert "gives 1 numbers; one that gives 3" in said[0]


@pytest.mark.parametrize("pooling", ["spans", "cls"])
def test_adapters(settings, trained, tokens, tmp_path, pooling):
    params = settings("bert", pooling, model__lora={"r": 4}, train__lr=1e-2)
    fitted = trained(params)
    classifier.save(fitted.model, fitted.config, tmp_path / "saved", params.model)
    loaded, config = classifier.load(tmp_path / "saved")
    assert np.array_equal(by_order(loaded, config, tokens, TEMPLATE, 64), fitted.orders)
    merged = params.model.model_copy(
        update={"lora": params.model.lora.model_copy(update={"merge": True})}
    )
    classifier.save(fitted.model, fitted.config, tmp_path / "merged", merged)
    loaded, config = classifier.load(tmp_path / "merged")
    whole = by_order(loaded, config, tokens, TEMPLATE, 64)
    assert np.abs(whole - fitted.orders).max() < 1e-5


def test_single_texts_are_refused(here, tokens, bpe, small_params):
    folds.token_files.save(replace(tokens, single=True), paths.TOKENS)
    bpe.save_pretrained(paths.TOKENIZER)
    params = small_params(augment__ab=False)
    with pytest.raises(UserError, match=r"-S fusion.members=\[classifier\]"):
        folds.train_fold(0, 0, params, Log("test"), member="reward")


@pytest.mark.parametrize("members", [["reward"], ["classifier", "classifier"], [], ["features"]])
def test_members_that_cannot_be(members):
    with pytest.raises(ValueError, match="expected classifier"):
        FusionParams(members=members)


@pytest.mark.parametrize("member", [*classifier._HEADS][1:])
def test_a_pipeline_with_a_second_member(here, small_params, member):
    params = small_params(model__backbone=BAG, fusion__members=["classifier", member])
    for body in (simulate, clean, features, tokenize, train, oof, calibrate, predict):
        body(params, Log("test"))
    members = pd.read_parquet(paths.MEMBERS)
    assert list(members) == ["id", "fold", "seed", "member", "label", *PROBABILITIES]
    export = answers(pd.read_parquet(paths.UNCALIBRATED))
    assert [*members["member"].unique()] == ["classifier", member]
    own, further = (members[members["member"] == name] for name in params.fusion.members)
    assert own[PROBABILITIES].to_numpy().tolist() == export[PROBABILITIES].to_numpy().tolist()
    known = ["id", "fold", "label"]
    assert further[known].to_numpy().tolist() == export[known].to_numpy().tolist()

    found = bundle.check(paths.MODELS)
    assert {name: [str(path) for path in of] for name, of in found.items()} == {
        "classifier": ["models/train", "models/oof/fold1"],
        member: [f"models/oof/{member}/fold0", f"models/oof/{member}/fold1"],
    }
    tokens = folds.token_files.load(paths.TOKENS)
    template = Template.of(tokenizers.load(str(paths.TOKENIZER)))
    loaded = (classifier.load(folder) for folder in found[member])
    p = np.stack([by_order(*of, tokens, template, 64)[0] for of in loaded])
    assert p.shape == (2, len(tokens), 3)
    of_fold = tokens.folds[:, None] == np.arange(2)
    kept = pd.DataFrame(p.transpose(1, 0, 2)[of_fold], tokens.ids).loc[further["id"]]
    assert np.abs(kept.to_numpy() - further[PROBABILITIES].to_numpy()).max() < 1e-6

    weights = paths.FURTHER_FOLDS / f"{member}/fold1/model.safetensors"
    weights.write_bytes(weights.read_bytes() + b"x")
    with pytest.raises(UserError, match=f"oof/{member}/fold1 changed"):
        bundle.check(paths.MODELS)
