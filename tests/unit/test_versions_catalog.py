import re
from pathlib import Path

import pytest
import yaml

from pairpref.errors import UserError
from pairpref.typed_yaml import flat
from pairpref.versions import catalog as catalogs
from pairpref.versions.catalog import Catalog, natural, spelled, with_changes

ROOT = Path(__file__).parents[2]
TINY = """
anchor: v2.0
versions:
  v1.0:
    changes: {train.epochs: 3, augment.ab: false}
    hypothesis: it learns
  v2.0:
    parent: v1.0
    changes: {augment.ab: true}
    hypothesis: it learns more
features:
  ab:
    name: swapping
    of: v2.0
    without: {augment.ab: false}
    expect: {sign: "-", because: it sees more}
"""


def tiny(tmp_path, old: str = "", new: str = "") -> Catalog:
    assert old in TINY
    path = tmp_path / "catalog.yaml"
    path.write_text(TINY.replace(old, new, 1) if old else TINY, encoding="utf-8")
    return catalogs.load(path)


@pytest.fixture(scope="module")
def ours() -> Catalog:
    return catalogs.load(ROOT / "versions/catalog.yaml")


@pytest.fixture(scope="module")
def text(params_yaml) -> str:
    return params_yaml.read_text(encoding="utf-8")


def test_every_version_and_feature_can_be_expressed_by_todays_params(ours, text):
    for name in ours.versions:
        assert with_changes(text, ours.changes(name), name)
    for key in ours.features:
        with_, without = ours.sides(key)
        assert with_changes(text, with_, key) != with_changes(text, without, key), (
            f"{key}: both sides are the same run"
        )


def test_the_default_is_the_last_milestone_with_a_small_model_that_learns_quickly(ours, text):
    """The versions keep the model and the steps that they are documented with."""
    last = [name for name in ours.ordered() if ours.versions[name].milestone][-1]
    as_released = flat(yaml.safe_load(with_changes(text, ours.changes(last), last)))
    default = flat(yaml.safe_load(text))
    steps = {"epochs", "batch_size", "warmup", "weight_decay"}
    quick = {f"train.{name}" for name in steps} | {"train.seeds", "oof.folds"}
    others = {name for name, value in default.items() if as_released[name] != value}
    assert {name for name in others if not name.startswith("model.")} <= quick


def test_epochs_documented_are_epochs_run(ours):
    """A log of two epochs beside a version of three would compare nothing."""
    for name, version in ours.versions.items():
        if version.published and version.published.epochs:
            assert [row[0] for row in version.published.epochs] == list(
                range(1, ours.changes(name)["train.epochs"] + 1)
            ), name


def test_a_version_has_the_changes_of_its_parents(tmp_path):
    found = tiny(tmp_path)
    assert found.changes("v2.0") == {"train.epochs": 3, "augment.ab": True}
    assert found.sides("ab") == (
        {"train.epochs": 3, "augment.ab": True},
        {"train.epochs": 3, "augment.ab": False},
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("parent: v1.0", "parent: v3.0", "v2.0 has the parent v3.0"),
        ("    parent: v1.0\n", "", "v2.0 has the parent None"),
        (
            "{augment.ab: true}",
            "{train.lr: 1.0e-5}",
            "v2.0 changes train.lr, so v1.0 must set it too",
        ),
        ("anchor: v2.0", "anchor: v9.0", "the anchor is v9.0; expected one of v1.0, v2.0"),
        ("of: v2.0", "of: v9.0", "the feature ab is of v9.0"),
        ("hypothesis: it learns more", "hypotheses: it learns more", "did you mean hypothesis?"),
        ("anchor: v2.0", "anchor: 17", "anchor is 17"),
        (
            "    hypothesis: it learns\n",
            "    milestone: M9\n    hypothesis: it learns\n",
            "v1.0 is the milestone M9",
        ),
    ],
)
def test_a_faulty_catalog_is_refused(tmp_path, old, new, said):
    with pytest.raises(UserError, match=re.escape(said)):
        tiny(tmp_path, old, new)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train.batchsize": 4}, "v2.0 sets train.batchsize, but params.yaml has no such param"),
        ({"train.epochs": "many"}, "train.epochs is 'many'"),
        ({"oof.folds": 9}, "oof.folds is 9"),
    ],
)
def test_a_version_that_cannot_be_run_is_an_error(text, changes, said):
    with pytest.raises(UserError, match=re.escape(said)) as error:
        with_changes(text, changes, "v2.0")
    assert "v2.0" in str(error.value)


def test_versions_go_by_their_numbers():
    assert natural(["v17.10", "v5.0", "v17.2", "v1.0"]) == ["v1.0", "v5.0", "v17.2", "v17.10"]


def test_rewriting_params_changes_the_named_values_and_nothing_else(text):
    assert with_changes(text, {}, "none") == text
    new = with_changes(
        text,
        {
            "train.lr": 3e-5,
            "train.patience": None,
            "train.seeds": [0, 1, 2],
            "augment.ab": False,
            "train.epochs": 7,
        },
        "v2.0",
    )
    before, after = (flat(yaml.safe_load(t)) for t in (text, new))
    assert {name: after[name] for name in after if before[name] != after[name]} == {
        "train.lr": 3e-5,
        "train.patience": None,
        "train.seeds": [0, 1, 2],
        "augment.ab": False,
        "train.epochs": 7,
    }
    assert re.findall("#.*", new) == re.findall("#.*", text)


@pytest.mark.parametrize("rate", [1.25e-5, 2e-5, 1 / 3e4])
def test_small_numbers_keep_all_their_digits(text, rate):
    new = with_changes(text, {"train.lr": rate}, "v2.0")
    assert yaml.safe_load(new)["train"]["lr"] == rate


def test_a_key_that_stands_twice_is_refused(tmp_path):
    with pytest.raises(UserError, match='duplicate key "train.epochs"'):
        tiny(tmp_path, "train.epochs: 3,", "train.epochs: 3, train.epochs: 4,")


def test_changes_are_spelled_as_on_the_command_line():
    changes = {
        "train.lr": 2e-5,
        "train.patience": None,
        "augment.ab": False,
        "augment.mode": "both",
        "train.seeds": [0, 1],
    }
    assert spelled(changes) == (
        "train.lr=2e-05, train.patience=null, augment.ab=false, augment.mode=both, "
        "train.seeds=[0, 1]"
    )
