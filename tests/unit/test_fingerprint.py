"""Two trainings have the same fingerprint if and only if nothing that matters differs."""

from dataclasses import fields
from pathlib import Path

import pytest
from transformers import TrainingArguments

from pairpref.backbone import record
from pairpref.training import fingerprint as module
from pairpref.training.fingerprint import Fingerprint


@pytest.fixture
def data(here):
    (here / "data" / "tokens").mkdir(parents=True)
    (here / "data" / "tokens" / "ids").write_bytes(b"abc")
    return (Path("data/tokens"),)


def of(params, data, fold=0, seed=0, member="classifier") -> Fingerprint:
    return Fingerprint.of(fold, seed, params, data, member)


def test_it_is_the_same_for_the_same(small_params, data):
    assert of(small_params(), data).digest == of(small_params(), data).digest


@pytest.mark.parametrize(
    "change",
    [
        {"train__lr": 3e-5},
        {"train__epochs": 4},
        {"train__patience": None},
        {"train__threads": 2},
        {"model__dropout": 0.2},
        {"augment__mode": "random"},
        {"clean__utf8": False},
        {"train__arguments": {"optim": "adafactor"}},
    ],
)
def test_a_param_that_matters_changes_it(small_params, data, change):
    old, new = of(small_params(), data), of(small_params(**change), data)
    assert old.digest != new.digest
    (name,) = change
    assert new.difference({"parts": old.parts}).startswith(name.replace("__", ".") + " was ")


@pytest.mark.parametrize(
    "change",
    [
        {"train__seeds": [0, 1]},
        {"train__resume": False},
        {"train__arguments": {"report_to": "tensorboard", "logging_steps": 7, "run_name": "a"}},
        {"oof__enabled": False},
        {"calibrate__method": "none"},
        {"inference__dual_order": False},
        {"predict__batch_size": 3},
        {"parallel__jobs": 2},
        {"simulate__rows": 99},
    ],
)
def test_a_param_that_does_not_matter_leaves_it(small_params, data, change):
    assert of(small_params(**change), data).digest == of(small_params(), data).digest


def test_fold_seed_and_member_are_another_job(small_params, data):
    named = (0, 0), (1, 0), (0, 1), (0, 0, "reward")
    jobs = [of(small_params(), data, *job) for job in named]
    assert len({job.digest for job in jobs}) == 4
    assert [jobs[0].same_job({"job": job.job}) for job in jobs] == [True, False, False, False]


def test_an_order_free_member_is_not_trained_again_for_augmentation(small_params, data):
    one, two = (of(small_params(augment__ab=ab), data, 0, 0, "reward") for ab in (True, False))
    assert one.digest == two.digest


def test_what_only_tells_is_trainers():
    assert set(module._TOLD) <= {field.name for field in fields(TrainingArguments)}


def test_data_change_it_and_are_named(small_params, data, here):
    old = of(small_params(), data)
    (here / "data" / "tokens" / "ids").write_bytes(b"abd")
    new = of(small_params(), data)
    assert (
        old.digest != new.digest
        and new.difference({"parts": old.parts}) == "data/tokens has changed"
    )


def test_a_renamed_file_changes_it(small_params, data, here):
    old = of(small_params(), data)
    (here / "data" / "tokens" / "ids").rename(here / "data" / "tokens" / "others")
    assert of(small_params(), data).digest != old.digest


def test_code_changes_it_and_is_named(small_params, data, here, monkeypatch):
    package = here / "package"
    for name in module._CODE:
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("pass") if name.endswith(".py") else (package / name).mkdir()
    (package / "training" / "fit.py").write_text("pass")
    monkeypatch.setattr(module, "_PACKAGE", package)
    as_read = of(small_params(), data)
    assert as_read.digest == of(small_params(), data).digest, (
        "what this process read is what it runs"
    )
    module._code.cache_clear()
    old = of(small_params(), data)
    (package / "training" / "__pycache__").mkdir()
    (package / "training" / "__pycache__" / "fit.pyc").write_bytes(b"1")
    module._code.cache_clear()
    assert of(small_params(), data).digest == old.digest
    (package / "training" / "fit.py").write_text("pass  # changed")
    assert of(small_params(), data).digest == old.digest
    module._code.cache_clear()
    new = of(small_params(), data)
    module._code.cache_clear()
    assert (
        new.digest != old.digest
        and new.difference({"parts": old.parts}) == "src/pairpref/training has changed"
    )


def test_a_library_changes_it_and_is_named(small_params, data, monkeypatch):
    old = of(small_params(), data)
    monkeypatch.setattr(module.metadata, "version", lambda name: "99.0")
    new = of(small_params(), data)
    assert new.digest != old.digest and "torch was 2." in new.difference({"parts": old.parts})


def test_the_weights_of_a_local_backbone_change_it(small_params, data, here):
    folder = here / "backbone"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"1")
    params = small_params(model__backbone=str(folder))
    record(params.model)
    old = of(params, data)
    (folder / "model.safetensors").write_bytes(b"2")
    assert of(params, data).digest != old.digest
