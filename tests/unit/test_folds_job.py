"""The job of one fold: what it refuses before it trains, and what it leaves behind."""

from dataclasses import replace

import numpy as np
import pytest

from pairpref import paths
from pairpref.errors import UserError
from pairpref.model import classifier
from pairpref.monitor import Log, last
from pairpref.pairs import ORDERS
from pairpref.text import tokenizer as tokenizers
from pairpref.text import tokens as token_files
from pairpref.training import folds
from pairpref.training.fit import fit
from pairpref.training.inference import by_order


@pytest.fixture
def tokens(pairs_of):
    rng = np.random.default_rng(0)
    rows = [[rng.integers(4, 90, rng.integers(1, 9)) for _ in range(3)] for _ in range(24)]
    return pairs_of(rows, folds=np.arange(24) // 3 % 2)


@pytest.fixture
def store(here, bpe):
    """Put tokens, and a tokenizer, where the jobs look for them."""

    def put(tokens) -> None:
        token_files.save(tokens, paths.TOKENS)
        bpe.save_pretrained(paths.TOKENIZER)

    return put


@pytest.fixture
def untrained(monkeypatch):
    """Fail where training would begin."""

    def never(*args):
        raise AssertionError("training began")

    monkeypatch.setattr(folds, "fit", never)


@pytest.mark.fault(16)
def test_folds_that_share_a_prompt_are_refused(store, tokens, small_params, untrained):
    groups = tokens.groups.copy()
    groups[3] = groups[0]
    assert tokens.folds[3] != tokens.folds[0]
    store(replace(tokens, groups=groups))
    with pytest.raises(UserError, match="prompt group 0 is in 2 folds"):
        folds.train_fold(0, 0, small_params(), Log("train"))


def test_single_texts_are_not_swapped(store, tokens, small_params, untrained):
    store(replace(tokens, single=True))
    with pytest.raises(UserError, match=r"no A and B to swap.* -S augment\.ab=false"):
        folds.train_fold(0, 0, small_params(), Log("train"))


def test_single_texts_have_one_order(store, tokens, small_params):
    store(replace(tokens, single=True))
    fold = folds.train_fold(0, 0, small_params(augment__ab=False), Log("train"))
    assert list(fold.predictions) == ["id", "fold", "label", *ORDERS[0]]
    assert len(fold.predictions) == 12 and np.isfinite(fold.predictions[ORDERS[0]].to_numpy()).all()


@pytest.mark.parametrize("fold", [0, 1])
def test_a_fold_is_predicted_by_a_model_of_the_others(
    store, tokens, small_params, monkeypatch, here, fold, bpe
):
    store(tokens)
    given = []
    original = folds.fit
    monkeypatch.setattr(folds, "fit", lambda *args: given.append(args) or original(*args))
    done = folds.train_fold(fold, 7, small_params(), Log("train"), save_to=here / "model")
    train, validation, _, _, seed, *_ = given[0]
    assert seed == 7 and set(train.folds) == {1 - fold} and set(validation.folds) == {fold}
    assert len(train) + len(validation) == len(tokens)
    frame = done.predictions
    assert list(frame) == ["id", "fold", "label", *ORDERS[0], *ORDERS[1]]
    held_out = tokens.folds == fold
    assert (
        frame["id"].tolist() == tokens.ids[held_out].tolist()
        and frame["label"].tolist() == tokens.labels[held_out].tolist()
    )
    assert (frame["fold"] == fold).all()
    model, config = classifier.load(here / "model")
    orders = by_order(
        model, config, validation, tokenizers.Template.of(bpe), small_params().predict.batch_size
    )
    assert all(np.array_equal(frame[columns], p) for columns, p in zip(ORDERS, orders, strict=True))


def test_a_finished_training_is_fetched_and_a_changed_one_trained_again(
    store, tokens, small_params, here, untrained
):
    store(tokens)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folds, "fit", fit)
        folds.train_fold(0, 0, small_params(), Log("train"))
    told = small_params(train__arguments={"report_to": ["tensorboard"], "logging_steps": 5})
    folds.train_fold(0, 0, told, Log("train"), save_to=here / "model")
    said = [event.get("text", "") for event in last("train")]
    assert sum("report_to: nothing is written" in line for line in said) == 1
    (config,) = here.glob("work/*/finished/classifier/classifier.json")
    config.write_text(config.read_text().replace('"max_length": 64', '"max_length": 65'))
    with pytest.raises(AssertionError, match="training began"):
        folds.train_fold(0, 0, small_params(), Log("train"))
    assert "classifier/classifier.json is not what was written" in last("train")[-2]["text"]


def test_nothing_is_kept_where_nothing_is_asked_for(store, tokens, small_params, here):
    store(tokens)
    before = {path for path in here.rglob("*") if path.is_file()}
    folds.train_fold(0, 0, small_params(), Log("train"))
    after = {
        path.relative_to(here).parts[0]
        for path in here.rglob("*")
        if path.is_file() and path not in before
    }
    assert after <= {"logs", "work"}
