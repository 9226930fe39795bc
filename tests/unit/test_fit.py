"""Training one classifier: repeatable to the bit, able to learn, with its sampler's steps."""

import copy
import math
import re
import signal
from concurrent.futures import Future
from dataclasses import replace
from uuid import uuid4

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import accuracy_score, f1_score, log_loss
from torch.optim.optimizer import register_optimizer_step_pre_hook
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from pairpref import stopping
from pairpref.backbone import record
from pairpref.errors import UserError
from pairpref.evaluation.metrics import scores
from pairpref.model import classifier
from pairpref.monitor import Log, last
from pairpref.text.tokenizer import Template
from pairpref.training import batches, checkpoints, trainer
from pairpref.training.checkpoints import CheckpointManager
from pairpref.training.fingerprint import Fingerprint
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
            answers = [
                [PRAISE if good else BLAME, *rng.choice(NOISE, rng.integers(1, 6))]
                for good in (a, b)
            ]
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
    """Fit on the toy pairs with changes of the params, from nothing or from work/<store>."""

    def go(seed=0, on=train, store=None, log=None, member="classifier", **changes: object):
        settings, log = small_params(**{"train__epochs": 2, **changes}), log or Log("fit")
        kept = CheckpointManager(
            Fingerprint({"store": 0}, {}), log, here / "work" / (store or uuid4().hex)
        )
        kept.folder.mkdir(parents=True, exist_ok=True)
        return fit(on, validation, settings, bpe, seed, kept, log, member)

    go.params = small_params
    return go


def weights(fitted) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in fitted.model.state_dict().values()]


@pytest.mark.parametrize("pooling", ["spans", "cls"])
def test_the_same_arguments_give_the_same_bits(run, pooling):
    first, again, other = (
        run(seed=seed, model__pooling=pooling, model__dropout=0.1) for seed in (3, 3, 4)
    )
    assert (
        weights(first) == weights(again)
        and np.array_equal(first.orders, again.orders)
        and first.history == again.history
    )
    assert weights(first) != weights(other) and not np.array_equal(first.orders, other.orders)


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
    p, labels, told = fitted.orders.mean(axis=0), validation.labels, fitted.history[-1]
    assert told["log_loss"] == pytest.approx(log_loss(labels, p))
    assert told["accuracy"] == pytest.approx(accuracy_score(labels, p.argmax(axis=1)))
    assert told["f1_macro"] == pytest.approx(f1_score(labels, p.argmax(axis=1), average="macro"))
    assert [
        {k: event[k] for k in columns} for event in last("fit") if event["event"] == "epoch"
    ] == fitted.history


def test_probabilities_are_those_of_the_weights_that_are_returned(run, validation, bpe):
    fitted = run()
    orders = by_order(fitted.model, fitted.config, validation, Template.of(bpe), 64)
    assert len(orders) == 2 and np.array_equal(fitted.orders, orders)
    told, labels = fitted.history[-1], validation.labels
    assert told["validation_loss"] == pytest.approx(log_loss(labels, orders[0]))
    assert told["log_loss"] == pytest.approx(log_loss(labels, orders.mean(axis=0)))


@pytest.mark.fault(25)
def test_how_one_predicts_later_changes_nothing_of_training(run):
    """Early stopping and the history go by the mean of both orders."""
    one, other = run(), run(inference__dual_order=False, predict__batch_size=3)
    assert (
        weights(one) == weights(other)
        and one.history == other.history
        and one.config == other.config
    )


def test_the_config_says_how_to_predict(run, train, small_params):
    config = run(train__epochs=1).config
    shares = np.bincount(train.labels, minlength=3) / len(train)
    assert config == classifier.InferenceConfig(
        "spans", 64, False, 1, {"utf8": True, "flatten": True}, tuple(shares), (1.0, 1.0, 1.0)
    )


@pytest.mark.parametrize(
    "augment",
    [
        {"augment__ab": False},
        {"augment__ab": True, "augment__mode": "random"},
        {"augment__ab": True, "augment__mode": "both"},
    ],
)
def test_each_epochs_steps_are_its_samplers(run, train, small_params, monkeypatch, augment):
    """The loop tells the sampler which epoch it is, and shows the model all of it."""
    shown = []
    original = batches.PairDataset.__getitem__

    def spied(self, item):
        if self.tokens is train:
            shown.append(item)
        return original(self, item)

    monkeypatch.setattr(batches.PairDataset, "__getitem__", spied)
    fitted = run(**augment)
    sampler = batches.KeyedBatches(
        train, small_params().train.batch_size, small_params(**augment).augment, seed=0
    )
    expected = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        expected += [item for batch in sampler for item in batch]
    assert shown == expected
    assert np.isfinite(fitted.orders).all()


@pytest.fixture(scope="module")
def late(pairs_of):
    """Long answers of which only the end says which is better."""

    def make(count: int, seed: int):
        rng = np.random.default_rng(seed)
        good = rng.integers(0, 2, (count, 2))
        rows = [
            ([7], *([*rng.choice(NOISE, 30), *[PRAISE if g else BLAME] * 3] for g in pair))
            for pair in good
        ]
        labels = np.where(good[:, 0] == good[:, 1], 2, np.where(good[:, 0], 0, 1))
        return pairs_of(rows, labels=labels, ids=[f"{seed}:{i}" for i in range(count)])

    return make


def test_late_evidence_is_seen_by_tail_and_by_windows(run, late, monkeypatch):
    votes = late(200, seed=4)

    def loss(**text: object) -> float:
        """On the votes trained on: what is not shown cannot be learned."""
        options = {f"text__{name}": value for name, value in text.items()}
        small = {"model__backbone": "small-bag", "model__lr_multiplier": 1500}
        fitted = run(on=votes, model__max_length=32, train__epochs=8, **small, **options)
        orders = by_order(fitted.model, fitted.config, votes, Template(2, 3, 0), 64)
        return scores(votes.labels, orders.mean(axis=0))["log_loss"]

    head, tail, both = (loss(truncation=rule) for rule in ("head", "tail", "head_tail"))
    assert max(tail, both) < 0.3 < 0.7 < head
    windows = {"most": 4, "stride": 1.0, "train": True}
    assert loss(windows=windows) < head - 0.1


def test_windows_are_keyed_by_epoch_and_row(run, late, monkeypatch):
    """With windows.train an epoch shows one window of a pair, the same in both orders."""
    votes, shown = late(40, seed=5), []
    original = batches.PairDataset.__getitem__

    def spied(self, item):
        if self.tokens is votes:
            shown.append((item[0], [k % self.windows(item[0]) for k in item[2:]]))
        return original(self, item)

    monkeypatch.setattr(batches.PairDataset, "__getitem__", spied)
    windows = {"most": 4, "stride": 0.5, "train": True}
    run(on=votes, model__max_length=32, text__windows=windows)
    epochs = [{row: k for row, [k] in shown[i : i + 80]} for i in (0, 80)]
    assert len(shown) == 160 and all(len(epoch) == 40 for epoch in epochs)
    assert all(epochs[i // 80][row] == k for i, (row, [k]) in enumerate(shown))
    assert set(epochs[0].values()) == {0, 1, 2, 3} and epochs[0] != epochs[1]


def test_a_length_at_inference_that_has_no_positions_is_refused(run):
    longer = {"inference__max_length": 80}
    assert run(train__epochs=1, **longer).config.longest == 80
    with pytest.raises(UserError, match=r"^inference.max_length is 80: .* can't read .*=64$"):
        run(model__pooling="cls", **longer)


def test_augmentation_changes_what_is_learned(run):
    off, random, both = (
        weights(run(train__epochs=1, augment__ab=ab, augment__mode=mode))
        for ab, mode in ((False, "both"), (True, "random"), (True, "both"))
    )
    assert off != random != both != off


@pytest.mark.fault(20)
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_number_that_is_none_stops_the_run_before_it_reaches_the_weights(
    run, train, here, monkeypatch, what
):
    """Step, rows and advice; the last good checkpoint stays, and a rerun fails at the same step."""
    always_due(monkeypatch)
    taken, original = [], torch.nn.functional.cross_entropy

    def broken(logits, *args, **kwargs):
        taken.append(1)
        loss = original(logits, *args, **kwargs)
        if len(taken) < 4:
            return loss
        return (
            loss * torch.nan if what == "loss" else torch.sqrt(loss - loss.detach()) + loss.detach()
        )

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", broken)
    with pytest.raises(UserError, match=r"epoch 1, step 4 of 16.*Lower train\.lr") as caught:
        run(store="nan")
    sampler = batches.KeyedBatches(train, 8, run.params().augment, seed=0)
    fourth = list(sampler)[3]
    assert all(str(train.ids[row]) in str(caught.value) for row, _ in fourth)
    assert len(str(caught.value).splitlines()) == 1
    kept = here / "work" / "nan"
    names = sorted(path.name for path in kept.glob("*/checkpoint-*"))
    assert names == ["checkpoint-2", "checkpoint-3"]
    assert all(
        torch.isfinite(tensor).all()
        for tensor in load_file(*kept.glob("*/checkpoint-3/model.safetensors")).values()
    )


def test_an_exploding_loss_stops_the_run_before_the_step(run):
    with pytest.raises(
        UserError, match=r"the loss has grown to .* on average .*Lower train\.lr"
    ) as e:
        run(train__lr=0.9, model__lr_multiplier=1, train__epochs=30)
    taken = [event["step"] for event in last("fit") if event["event"] == "step"]
    step = int(re.search(r"step (\d+) of", str(e.value))[1])
    assert step == max(taken) + 1


@pytest.mark.parametrize(
    "bad",
    [
        {"adam_beta2": 2},
        {"optim": "adamw_8bit"},  # its package is missing
        {"optim": "galore_adamw", "optim_target_modules": "all-linear"},
        {"lr_scheduler_kwargs": {"num_cycles": 3}},
    ],
)
def test_an_argument_that_trainer_refuses_late_is_one_line(run, bad):
    with pytest.raises(UserError, match=f"train.arguments {', '.join(bad)} \\(") as refused:
        run(train__arguments=bad)
    assert len(str(refused.value).splitlines()) == 1


def test_weights_that_are_not_numbers_stop_the_run(run, monkeypatch):
    built = classifier.build

    def broken(*args):
        model = built(*args)
        with torch.no_grad():
            next(model.parameters()).fill_(torch.nan)
        return model

    monkeypatch.setattr(classifier, "build", broken)
    with pytest.raises(UserError, match=r"epoch 1, step 1.*Lower train\.lr"):
        run()


class Killed(BaseException):
    """What a kill -9 leaves behind: everything but what is on the disk is gone."""


class KilledAt(Log):
    def __init__(self, step: int) -> None:
        super().__init__("fit")
        self._step = step

    def event(self, name: str, **fields: object) -> None:
        if name == "step" and fields["step"] == self._step:
            raise Killed
        super().event(name, **fields)


class AtOnce:
    """In place of a thread: it dies with the process, unlike one that a test leaves behind."""

    def __init__(self, threads: int) -> None:
        pass

    def submit(self, work, *args: object) -> Future:
        future: Future = Future()
        future.set_result(work(*args))
        return future


def always_due(monkeypatch) -> None:
    monkeypatch.setattr(CheckpointManager, "due", lambda store: True)
    monkeypatch.setattr(checkpoints, "ThreadPoolExecutor", AtOnce)


@pytest.mark.fault(1, 6)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"augment__mode": "random", "train__scheduler": "cosine", "train__warmup": 0.3},
        {"augment__ab": False, "train__gradient_accumulation_steps": 3, "train__patience": None},
        {"model__pooling": "cls", "train__class_weights": True},
        {"member": "reward", "model__backbone": "small-bag", "train__class_weights": True},
        {"member": "reward", "model__pooling": "cls", "train__gradient_accumulation_steps": 3},
        {
            "model__max_length": 16,
            "text__truncation": "tail",
            "text__windows": {"most": 3, "train": True},
        },
    ],
)
def test_a_killed_training_ends_with_the_bits_of_an_undisturbed_one(run, monkeypatch, options):
    """Weights, history, predictions; with dropout, kills at any step of an epoch."""
    options = {"train__epochs": 3, "model__dropout": 0.1, **options}
    expected = run(**options)
    always_due(monkeypatch)
    for kills in ([3], [1, 2, 8, 9, 15, 16, 24]):
        for step in kills:
            with pytest.raises(Killed):
                run(store=f"killed {kills}", log=KilledAt(step), **options)
        fitted = run(store=f"killed {kills}", **options)
        resumed = [event["step"] for event in last("fit") if event["event"] == "resumed"]
        assert resumed == [kills[-1] - 1]
        assert (
            weights(fitted) == weights(expected)
            and fitted.history == expected.history
            and np.array_equal(fitted.orders, expected.orders)
        )


@pytest.mark.fault(7)
def test_a_kill_at_the_end_of_patience_stops_at_the_same_epoch(run, monkeypatch):
    """Patience is a function of the history, which is in the checkpoint."""
    worse = {"train__epochs": 9, "train__patience": 2, "train__min_delta": 5.0}
    expected = run(**worse)
    assert len(expected.history) == 3
    always_due(monkeypatch)
    with pytest.raises(Killed):
        run(store="patience", log=KilledAt(8 + 8 + 3), **worse)
    fitted = run(store="patience", **worse)
    assert fitted.history == expected.history and weights(fitted) == weights(expected)
    (said,) = (event["text"] for event in last("fit") if "early" in event.get("text", ""))
    assert said == "stopping early: no better log loss for 2 epochs (train.patience)"
    finished = run(store="patience", **worse)
    assert finished.history == expected.history, "a training that had stopped early went on"


@pytest.mark.fault(7)
def test_the_best_weights_are_kept_when_they_are_older_than_the_checkpoint(run, train, monkeypatch):
    """On labels that mean nothing each epoch is worse than the first."""
    noise = replace(train, labels=np.random.default_rng(0).permutation(train.labels))
    options = {"on": noise, "train__lr": 1e-4, "train__epochs": 4, "train__patience": 3}
    expected = run(**options)
    losses = [row["log_loss"] for row in expected.history]
    assert losses.index(min(losses)) == 0 and len(losses) == 4
    always_due(monkeypatch)
    with pytest.raises(Killed):
        run(store="best", log=KilledAt(8 + 8 + 3), **options)
    fitted = run(store="best", **options)
    assert weights(fitted) == weights(expected) and np.array_equal(fitted.orders, expected.orders)


@pytest.mark.fault(5)
def test_a_signal_stops_at_a_steps_end_with_everything_saved(run, monkeypatch, here):
    """In the middle of an accumulated step."""
    options = {"train__gradient_accumulation_steps": 4}
    expected = run(**options)
    taken, original = [], torch.nn.functional.cross_entropy

    def signalled(*args, **kwargs):
        taken.append(1)
        if len(taken) == 4 * 4 + 2:
            signal.raise_signal(signal.SIGTERM)
        return original(*args, **kwargs)

    before = [signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)]
    monkeypatch.setattr(stopping, "_asked", None)
    stopping.listen()
    try:
        monkeypatch.setattr(torch.nn.functional, "cross_entropy", signalled)
        # A slow machine would save before the signal, too.
        monkeypatch.setattr(CheckpointManager, "due", lambda self: False)
        with pytest.raises(stopping.Stopped) as stop:
            run(store="term", **options)
    finally:
        for signum, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(signum, handler)
    assert stop.value.signum == signal.SIGTERM
    assert [path.name for path in (here / "work/term").glob("*/checkpoint-*")] == ["checkpoint-5"]
    monkeypatch.undo()
    monkeypatch.chdir(here)
    fitted = run(store="term", **options)
    assert weights(fitted) == weights(expected) and fitted.history == expected.history


@pytest.mark.fault(10)
def test_another_number_of_threads_is_recorded_and_moves_only_the_last_bits(run):
    losses = {}
    for threads in (1, 2):
        run(train__threads=threads, train__epochs=1)
        (machine,) = (event for event in last("fit") if event["event"] == "training")
        assert (
            machine["threads"] == threads
            and machine["cpu_capability"]
            and machine["device"] == "cpu"
        )
        losses[threads] = np.array([event["loss"] for event in steps()])
    assert np.abs(losses[1] - losses[2]).max() < 1e-5
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("losses", "patience", "min_delta", "epochs"),
    [
        ([1.0, 1.1, 1.2], None, 0.0, 3),
        ([1.0, 1.0, 0.5], 1, 0.0, 2),
        ([1.0, 0.9, 0.95], 1, 0.0, 3),
        ([1.0, 0.95, 0.5], 1, 0.1, 2),
        ([1.0, 0.8, 0.75, 0.6], 2, 0.1, 4),
        ([1.0, 1.1, 0.9, 1.1], 2, 0.0, 4),
        ([1.0, 1.1, 0.9, 1.1, 1.2, 0.5], 2, 0.0, 5),
    ],
)
def test_patience_counts_epochs_without_a_better_loss(
    run, monkeypatch, losses, patience, min_delta, epochs
):
    coming = iter(np.repeat(losses, 2))  # of both orders' mean, and of A shown first
    monkeypatch.setattr(
        trainer, "scores", lambda labels, p: scores(labels, p) | {"log_loss": next(coming)}
    )
    options = {"train__patience": patience, "train__min_delta": min_delta}
    fitted = run(train__epochs=len(losses), **options)
    assert len(fitted.history) == epochs


def test_the_best_epochs_weights_are_kept(run, toy, validation, bpe):
    """Trained for long on noise, the last epoch is not the best one."""
    noise = toy(40, seed=5)
    labels = np.random.default_rng(0).integers(0, 3, len(noise))
    noise = type(noise)(**{**vars(noise), "labels": labels})
    options = {"on": noise, "train__epochs": 6, "train__lr": 1e-4}
    last_epoch, best = run(train__patience=None, **options), run(train__patience=6, **options)
    losses = [row["log_loss"] for row in best.history]
    assert last_epoch.history == best.history and np.argmin(losses) < len(losses) - 1
    for fitted, loss in ((last_epoch, losses[-1]), (best, min(losses))):
        assert log_loss(validation.labels, fitted.orders.mean(axis=0)) == pytest.approx(loss)
        orders = by_order(fitted.model, fitted.config, validation, Template.of(bpe), 64)
        assert np.array_equal(fitted.orders, orders)


def steps() -> list[dict]:
    return [event for event in last("fit") if event["event"] == "step"]


def test_parts_of_a_step_add_up_to_it(run):
    run(train__epochs=1)
    whole = [event["loss"] for event in steps()]
    for parts in (2, 7):
        run(train__epochs=1, train__gradient_accumulation_steps=parts)
        assert np.abs(np.array([event["loss"] for event in steps()]) - whole).max() < 1e-5


@pytest.mark.parametrize(
    "scheduler, expected",
    [
        ("linear", [0, 1 / 4, 2 / 4, 3 / 4] + [1 - i / 12 for i in range(12)]),
        (
            "cosine",
            [0, 1 / 4, 2 / 4, 3 / 4] + [0.5 + 0.5 * math.cos(math.pi * i / 12) for i in range(12)],
        ),
        ("constant", [0, 1 / 4, 2 / 4, 3 / 4] + [1.0] * 12),
    ],
)
def test_the_learning_rate_rises_and_falls(run, scheduler, expected):
    run(train__scheduler=scheduler, train__warmup=0.25, train__lr=1e-5, model__lr_multiplier=10)
    assert [event["lr"] for event in steps()] == pytest.approx(
        [1e-4 * factor for factor in expected]
    )


def test_gradients_are_clipped(run):
    """What the optimizer is given is as long as allowed, and no longer."""
    lengths = []

    def measure(optimizer, *_: object) -> None:
        grads = [p.grad for group in optimizer.param_groups for p in group["params"]]
        lengths.append(torch.nn.utils.get_total_norm([g for g in grads if g is not None]).item())

    hook = register_optimizer_step_pre_hook(measure)
    try:
        run(train__max_grad_norm=1e9, train__epochs=1)
        free = [event["grad_norm"] for event in steps()]
        assert lengths == pytest.approx(free, rel=1e-5)
        lengths.clear()
        limit = float(np.median(free))
        run(train__max_grad_norm=limit, train__epochs=1)
    finally:
        hook.remove()
    measured = [event["grad_norm"] for event in steps()]  # before they were clipped
    assert max(measured) > limit
    assert lengths == pytest.approx(np.minimum(measured, limit), rel=1e-5)


def test_class_weights_help_the_rare_class_and_leave_the_shares_alone(run, toy):
    """Without the correction, a model shown balanced classes would promise too many rare ones."""
    votes = toy(400, seed=6)
    rare = np.flatnonzero((votes.labels != 2) | (np.arange(400) % 6 == 0))
    votes = votes.take(rare)
    options = {"on": votes, "train__epochs": 1, "train__lr": 1e-7}
    share = (votes.labels == 2).mean()
    off, on = run(**options), run(train__class_weights=True, **options)
    assert on.config.class_weights == pytest.approx(
        (1 / (3 * (1 - share) / 2),) * 2 + (1 / (3 * share),)
    )
    # Nearly untrained, the model answers 1/3 each: corrected, that is the shares.
    assert np.abs(off.orders.mean(axis=(0, 1)) - 1 / 3).max() < 0.05
    assert (
        np.abs(on.orders.mean(axis=(0, 1)) - [(1 - share) / 2, (1 - share) / 2, share]).max() < 0.05
    )


def test_the_learning_rate_is_multiplied_for_the_small_default_only(
    run, tiny_backbone, train, validation, small_params, here
):
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

    def store(name) -> CheckpointManager:
        kept = CheckpointManager(
            Fingerprint({"store": 0}, {}), Log("fit"), here / "work" / str(name)
        )
        kept.folder.mkdir(parents=True)
        return kept

    record(small_params(model__backbone=str(folder)).model)
    fitted = [
        fit(
            *low,
            small_params(model__backbone=str(folder), model__lr_multiplier=m),
            tokenizer,
            0,
            store(m),
            Log("fit"),
        )
        for m in (1, 100)
    ]
    assert weights(fitted[0]) == weights(fitted[1])


@pytest.mark.fault(18)
def test_nothing_is_unpickled_but_tensors_and_numbers(run, here, monkeypatch):
    always_due(monkeypatch)
    with pytest.raises(Killed):
        run(store="pickles", log=KilledAt(3))
    written = {path.name for path in here.rglob("checkpoint-*/*")}
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt"} < written
    assert not {"training_args.bin", "rng_state.pth"} & written
    loaded, load = [], torch.load

    def watched(*args: object, **options: object) -> object:
        loaded.append(options["weights_only"])
        return load(*args, **options)

    monkeypatch.setattr(torch, "load", watched)
    run(store="pickles")
    assert loaded == [True, True]


def test_out_of_memory_is_one_line_with_the_batch_and_the_params(run, monkeypatch):
    def full(*args: object, **kwargs: object) -> None:
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity of …"
        )

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", full)
    with pytest.raises(UserError) as error:
        run(train__batch_size=6, train__gradient_accumulation_steps=2)
    line = str(error.value)
    assert line.startswith(
        "Out of memory (CUDA out of memory. Tried to allocate 2.00 GiB) with 6 sequences of "
    )
    assert all(
        name in line
        for name in (
            "train.gradient_accumulation_steps (now 2)",
            "train.batch_size (now 6)",
            "model.max_length (now 64)",
        )
    )
    assert len(line.splitlines()) == 1


def test_a_logger_gets_what_trainers_users_expect(run, monkeypatch):
    """report_to: loss and rate every so often, and each epoch's scores."""
    seen: list[dict[str, float]] = []

    class Recorder(TrainerCallback):
        def on_log(self, args, state, control, logs, **kwargs: object) -> None:
            seen.append(dict(logs))

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "recorder", Recorder)
    run(train__arguments={"report_to": ["recorder"], "logging_steps": 4})
    assert sum("loss" in logs and "learning_rate" in logs for logs in seen) == 4
    assert [logs["epoch"] for logs in seen if "eval_log_loss" in logs] == [1, 2]
