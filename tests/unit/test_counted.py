"""A classifier that reads and counts: features in its head, in either order, kept with it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from pairpref import bundle, paths
from pairpref.backbone import record
from pairpref.errors import UserError
from pairpref.evaluation.metrics import scores
from pairpref.model import classifier
from pairpref.model.heads import Counted, SpanHead
from pairpref.monitor import Log, last
from pairpref.pairs import WINNERS, swap_probabilities
from pairpref.params import BAG, SMALL
from pairpref.predict import predict as predict_file
from pairpref.text import counts
from pairpref.text import tokenizer as tokenizers
from pairpref.text import tokens as token_files
from pairpref.text.features import WIDTH, Features
from pairpref.text.tokenizer import Template
from pairpref.training.batches import PairDataset
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

TEMPLATE = Template(2, 3, 0)
MEMBERS = ["classifier", "reward"]


@pytest.fixture(scope="module")
def tokens(pairs_of):
    """Votes for the longer list, in pairs of which all read the same."""
    rng, rows, labels = np.random.default_rng(0), [], []
    for a, b in rng.integers(0, 5, (160, 2)):
        lists = ["\n".join(["- item"] * n + ["a word"] * (9 - n)) for n in (a, b)]
        rows.append(["Name some.", *lists])
        labels.append(2 if a == b else 0 if a > b else 1)
    found = Features.of(pd.DataFrame(rows, columns=["prompt", "response_a", "response_b"]))
    same = [([4, 5], [6, 7, 8], [6, 7, 8])] * len(rows)
    return replace(pairs_of(same, labels=labels), features=found)


def exchanged(tokens):
    """The same pairs with A and B exchanged."""
    prompt, a, b = tokens.parts
    return replace(tokens, parts=(prompt, b, a), features=tokens.features.swapped())


@pytest.fixture
def fitted(here, small_params, bpe, tiny_backbone, tokens):
    """Train on the lists; gives the params' model section, the template and what was fitted."""

    def go(backbone: str = BAG, member: str = "classifier", **changes: object):
        folder = str(tiny_backbone(backbone)) if backbone == "bert" else backbone
        params = small_params(model__backbone=folder, model__features=True, **changes)
        tokenizer = tokenizers.load(folder) if backbone == "bert" else bpe
        record(params.model)
        log = Log("fit")
        manager = CheckpointManager(Fingerprint({"fold": 0}, {}), log, here / "work" / "one")
        manager.folder.mkdir(parents=True, exist_ok=True)
        found = fit(tokens, tokens, params, tokenizer, 0, manager, log, member)
        return params.model, Template.of(tokenizer), found

    return go


def test_an_answer_is_shown_with_what_it_shares():
    frame = pd.DataFrame([["What?", "This.", "- That\n- one"]] * 2)
    found = Features.of(frame.set_axis(["prompt", "response_a", "response_b"], axis=1))
    shown = found.shown(1, swapped=False)
    assert shown.shape == (2, WIDTH) == (2, sum(map(len, counts.names())))
    shared = [*found.pair[1], *found.prompt[1]]
    assert shown.tolist() == [[*found.a[1], *shared], [*found.b[1], *shared]]
    assert np.array_equal(found.shown(1, swapped=True), shown[::-1])


def test_moments_are_those_of_all_that_is_shown(tokens):
    shown = [tokens.features.shown(row, swapped=False) for row in range(len(tokens))]
    rows = np.concatenate(shown).astype(np.float64)
    mean, deviation = tokens.features.moments()
    assert mean == pytest.approx(rows.mean(axis=0)) and deviation == pytest.approx(rows.std(axis=0))


def test_odd_texts_are_bounded_and_what_never_varies_counts_for_nothing(tokens):
    layer = Counted()
    layer.fit(tokens.features)
    mean, deviation = tokens.features.moments()
    varies = torch.from_numpy(deviation > 1e-6)
    assert varies.any() and not varies.all()
    usual, odd = torch.from_numpy(mean).float(), torch.full([WIDTH], 1e6)
    assert torch.allclose(layer(usual), layer(torch.where(varies, usual, odd)), atol=1e-5)
    top = torch.from_numpy(mean + 4 * deviation).float()
    assert torch.allclose(layer(odd), layer(torch.where(varies, top, usual)), atol=1e-4)


@pytest.mark.parametrize("member", MEMBERS)
def test_batches_show_features_as_they_show_answers(tokens, member):
    tokens = tokens.take(np.array([7, 3]))
    dataset = PairDataset(tokens, 16, TEMPLATE, member)
    model = classifier.BagClassifier(classifier.BagConfig(20, 8, 4))
    batch = collator_for(model, TEMPLATE)([dataset[0, False], dataset[1, True], dataset[~1, False]])
    shown = tokens.features.shown
    expected = np.stack([shown(0, False), shown(1, True), shown(1, False)])
    assert np.array_equal(batch["features"].numpy(), expected)
    plain = PairDataset(replace(tokens, features=None), 16, TEMPLATE, member)
    assert "features" not in collator_for(model, TEMPLATE)([plain[0, False]])


def test_off_draws_the_same_weights_as_without_the_switch(small_params, bpe):
    torch.manual_seed(0)
    layers = [torch.nn.Linear(32, 8), torch.nn.Linear(24, 3)]
    torch.manual_seed(0)
    head = SpanHead(8).state_dict()
    expected = [tensor for layer in layers for tensor in layer.state_dict().values()]
    assert list(head) == ["compare.weight", "compare.bias", "out.weight", "out.bias"]
    assert all(map(torch.equal, head.values(), expected))
    model = classifier.build(small_params(model__backbone=BAG).model, bpe)
    assert not [name for name in model.state_dict() if "counted" in name]


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("backbone", [BAG, SMALL, "bert"])
def test_answers_are_exchanged_with_their_features_and_kept_bit_for_bit(
    fitted, tokens, tmp_path, backbone, member
):
    _, template, found = fitted(backbone, member)
    asked = template, 8
    p = by_order(found.model, found.config, tokens, *asked).mean(axis=0)
    q = by_order(found.model, found.config, exchanged(tokens), *asked).mean(axis=0)
    assert np.array_equal(swap_probabilities(q), p) and np.ptp(p, axis=0).min() > 1e-6

    classifier.save(found.model, found.config, tmp_path / "saved")
    loaded, config = classifier.load(tmp_path / "saved")
    assert config.features
    kept, trained = loaded.state_dict(), found.model.state_dict()
    assert list(kept) == list(trained) and all(map(torch.equal, kept.values(), trained.values()))
    assert torch.equal(loaded.head.counted.mean, torch.tensor(tokens.features.moments()[0]).float())
    assert np.array_equal(by_order(loaded, config, tokens, *asked).mean(axis=0), p)


def test_adapters_keep_how_features_are_standardised(fitted, tokens, tmp_path):
    params, template, found = fitted("bert", model__lora={"r": 4}, train__lr=1e-2)
    classifier.save(found.model, found.config, tmp_path / "saved", params)
    loaded, config = classifier.load(tmp_path / "saved")
    assert np.array_equal(by_order(loaded, config, tokens, template, 64), found.orders)


@pytest.mark.parametrize("member", MEMBERS)
def test_what_only_counting_sees_is_learned(fitted, tokens, member):
    changes = {"model__lr_multiplier": 1_500, "train__epochs": 6, "train__patience": None}
    _, _, found = fitted(member=member, **changes)
    assert scores(tokens.labels, found.orders.mean(axis=0))["log_loss"] < 0.4


def test_the_own_head_of_a_backbone_is_refused(small_params):
    with pytest.raises(ValidationError, match="features goes into the head of model.pooling=spans"):
        small_params(model__features=True, model__pooling="cls")


def test_single_texts_are_refused(here, small_params):
    paths.PAIRS.parent.mkdir(parents=True)
    row = {"id": "1", "prompt": None, "response_a": "a", "response_b": None}
    pd.DataFrame([row | {"label": 0, "group": 0, "fold": 0}]).to_parquet(paths.PAIRS)
    with pytest.raises(UserError, match="-S model.features=false"):
        features(small_params(model__features=True), Log("test"))


def test_a_pipeline_that_reads_and_counts(here, small_params):
    params = small_params(model__backbone=BAG, model__features=True, fusion__members=MEMBERS)
    for body in (simulate, clean, features, tokenize, train, oof, calibrate, predict):
        body(params, Log("test"))
    assert not len(pd.read_parquet(paths.FEATURES_OOF))
    assert [len(folders) for folders in bundle.check(paths.MODELS).values()] == [2, 2]
    tokens = token_files.load(paths.TOKENS, paths.FEATURES)
    mean, _ = tokens.features.take(tokens.folds != 0).moments()
    model, _ = classifier.load(paths.FOLD_0)
    assert torch.equal(model.head.counted.mean, torch.tensor(mean).float())

    there = pd.read_csv(params.data.test, dtype=str, keep_default_na=False)
    swap = {"response_a": "response_b", "response_b": "response_a"}
    there.rename(columns=swap).to_csv("exchanged.csv", index=False)
    back = predict_file("exchanged.csv", paths.MODELS, say=lambda _: None)[WINNERS].to_numpy()
    assert swap_probabilities(back) == pytest.approx(pd.read_csv(paths.SUBMISSION)[WINNERS])

    def trains() -> bool:
        train(params, Log("test"))
        return "training" in [event["event"] for event in last("test")]

    assert not trains()
    tokens.features.swapped().save(paths.FEATURES)
    assert trains()
