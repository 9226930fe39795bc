"""Training one classifier: repeatable to the bit, able to learn, and each epoch's steps those of its sampler."""

import copy
import math

import numpy as np
import pytest
import torch

from pairpref.errors import UserError
from pairpref.evaluation.metrics import scores
from pairpref.model import classifier
from pairpref.monitor import Log, last
from pairpref.text.tokenizer import Template
from pairpref.training import batches
from pairpref.training.fit import fit
from pairpref.training.inference import by_order

PRAISE, BLAME, NOISE = 50, 60, range(70, 90)


@pytest.fixture(scope="module")
def toy(pairs_of):
    """Pairs in which a praised answer beats a blamed one, and two alike are a tie."""

    def make(count: int, seed: int):
        rng = np.random.default_rng(seed)
        rows, labels = [], []
        for _ in range(count):
            a, b = rng.integers(0, 2, 2)
            answers = [[PRAISE if good else BLAME, *rng.choice(NOISE, rng.integers(1, 6))] for good in (a, b)]
            rows.append((rng.choice(NOISE, 3), *answers))
            labels.append(2 if a == b else 0 if a else 1)
        return pairs_of(rows, labels=labels, ids=[f"{seed}:{i}" for i in range(count)])

    return make


@pytest.fixture(scope="module")
def train(toy):
    return toy(60, seed=1)


@pytest.fixture(scope="module")
def validation(toy):
    return toy(30, seed=2)


@pytest.fixture
def run(here, small_params, bpe, train, validation):
    """Fit on the toy pairs with the given changes of the params, and record the sampler's steps."""

    def go(seed=0, on=train, **changes: object):
        return fit(on, validation, small_params(**{"train__epochs": 2, **changes}), bpe, seed, here / "work", Log("fit"))

    return go


def weights(fitted) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in fitted.model.state_dict().values()]


@pytest.mark.parametrize("pooling", ["spans", "cls"])
def test_the_same_arguments_give_the_same_bits(run, pooling):
    first, again, other = (run(seed=seed, model__pooling=pooling, model__dropout=0.1) for seed in (3, 3, 4))
    assert weights(first) == weights(again) and np.array_equal(first.p, again.p) and first.history == again.history
    assert weights(first) != weights(other) and not np.array_equal(first.p, other.p)


def test_state_left_behind_by_other_work_changes_nothing(run):
    first = run(model__dropout=0.1)
    torch.manual_seed(12345)
    np.random.seed(12345)
    assert weights(run(model__dropout=0.1)) == weights(first)


def test_what_can_be_learned_is_learned(run, toy, validation):
    fitted = run(on=toy(240, seed=3), train__epochs=4)
    shares = np.bincount(validation.labels, minlength=3) / len(validation)
    prior = -(shares * np.log(shares)).sum()
    losses = [row["log_loss"] for row in fitted.history]
    assert losses[-1] < 0.5 * prior and losses[-1] < losses[0]
    assert fitted.history[-1]["accuracy"] > 0.9


def test_history_has_a_row_an_epoch(run, validation):
    fitted = run(train__epochs=3)
    columns = ["epoch", "train_loss", "validation_loss", "log_loss", "accuracy", "f1_macro"]
    assert [list(row) for row in fitted.history] == [columns] * 3
    assert [row["epoch"] for row in fitted.history] == [1, 2, 3]
    assert all(math.isfinite(value) for row in fitted.history for value in row.values())
    said = scores(validation.labels, fitted.p)
    assert {name: fitted.history[-1][name] for name in ("log_loss", "accuracy", "f1_macro")} == {
        name: said[name] for name in ("log_loss", "accuracy", "f1_macro")
    }
    assert [{k: event[k] for k in columns} for event in last("fit") if event["event"] == "epoch"] == fitted.history


@pytest.mark.parametrize("dual_order", [True, False])
def test_probabilities_are_those_of_the_weights_that_are_returned(run, validation, bpe, dual_order):
    fitted = run(inference__dual_order=dual_order)
    orders = by_order(fitted.model, validation, 64, Template.of(bpe), 64, dual_order)
    assert np.array_equal(fitted.p, orders.mean(axis=0))
    assert fitted.history[-1]["validation_loss"] == scores(validation.labels, orders[0])["log_loss"]
    assert (fitted.history[-1]["validation_loss"] == fitted.history[-1]["log_loss"]) == (not dual_order)


def test_the_card_says_how_to_predict(run, train, small_params):
    card = run(train__epochs=1, inference__dual_order=False).card
    shares = np.bincount(train.labels, minlength=3) / len(train)
    assert card == classifier.Card("spans", 64, False, False, 1, {"utf8": True, "flatten": True}, tuple(shares))


@pytest.mark.parametrize(
    "augment",
    [{"augment__ab": False}, {"augment__ab": True, "augment__mode": "random"}, {"augment__ab": True, "augment__mode": "both"}],
)
def test_each_epochs_steps_are_its_samplers(run, train, small_params, monkeypatch, augment):
    """The Trainer tells the sampler which epoch it is, and shows the model all of it."""
    shown = []
    original = batches.PairDataset.__getitem__

    def spied(self, item):
        if self.tokens is train:
            shown.append(item)
        return original(self, item)

    monkeypatch.setattr(batches.PairDataset, "__getitem__", spied)
    fitted = run(**augment)
    sampler = batches.KeyedBatches(train, small_params().train.batch_size, small_params(**augment).augment, seed=0)
    expected = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        expected += [item for batch in sampler for item in batch]
    assert shown == expected
    assert np.isfinite(fitted.p).all()


def test_augmentation_changes_what_is_learned(run):
    off, random, both = (
        weights(run(train__epochs=1, augment__ab=ab, augment__mode=mode))
        for ab, mode in ((False, "both"), (True, "random"), (True, "both"))
    )
    assert off != random != both != off


@pytest.mark.parametrize("lr, multiplier", [(0.9, 1e6), (0.9, 1e30)])
def test_a_diverging_run_says_so_or_ends_in_numbers(run, lr, multiplier):
    try:
        fitted = run(train__lr=lr, model__lr_multiplier=multiplier)
    except UserError as error:
        assert len(str(error).splitlines()) == 1 and "train.lr" in str(error)
    else:
        assert np.isfinite(fitted.p).all() and all(math.isfinite(v) for row in fitted.history for v in row.values())


def test_weights_that_are_not_numbers_stop_the_run(run, monkeypatch):
    built = classifier.build

    def broken(*args):
        model = built(*args)
        with torch.no_grad():
            next(model.parameters()).fill_(torch.nan)
        return model

    monkeypatch.setattr(classifier, "build", broken)
    with pytest.raises(UserError, match=r"epoch 1.*Lower train\.lr"):
        run()


def test_the_learning_rate_is_multiplied_for_the_small_default_only(run, tiny_backbone, train, validation, small_params, here):
    base = run(train__epochs=1, train__lr=1e-3, model__lr_multiplier=2)
    assert weights(run(train__epochs=1, train__lr=2e-3, model__lr_multiplier=1)) == weights(base)
    assert weights(run(train__epochs=1, train__lr=1e-3, model__lr_multiplier=1)) != weights(base)
    from transformers import AutoTokenizer

    folder = tiny_backbone("bert")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    low = [copy.deepcopy(tokens) for tokens in (train, validation)]
    for tokens in low:
        for values, _ in tokens.parts:
            values %= 50
    fitted = [
        fit(*low, small_params(model__backbone=str(folder), model__lr_multiplier=m), tokenizer, 0, here / "work", Log("fit"))
        for m in (1, 100)
    ]
    assert weights(fitted[0]) == weights(fitted[1])


def test_the_trainer_leaves_no_pickles_behind(run, here):
    run(train__epochs=1)
    assert not [path for path in here.rglob("*") if path.suffix in {".bin", ".pt", ".pth", ".pkl"}]
