"""params.yaml as the pipeline reads it: typed, strict, and told in one line."""

import contextlib
import copy
import difflib
import re
from pathlib import Path

import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pairpref import params
from pairpref.errors import UserError
from pairpref.typed_yaml import flat

SOURCE = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8"))
VALUES = (
    None,
    False,
    True,
    0,
    1,
    2,
    99,
    0.5,
    "3e-05",
    "votes.csv",
    "none",
    "cls",
    "random",
    [0, 1],
    [100, 300],
)


@pytest.fixture
def written(tmp_path, raw_params):
    """Write the real params with one value changed, and give the file."""

    def write(key: str = "", value: object = None) -> str:
        raw = section = raw_params()
        *sections, name = key.split(".")
        for part in sections:
            section = section[part]
        if key:
            section[name] = value
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump(raw), encoding="utf-8")
        return str(path)

    return write


def refused(path: str) -> list[str]:
    with pytest.raises(UserError) as error:
        params.load(path)
    lines = str(error.value).splitlines()
    assert all(line.startswith(path) for line in lines)
    return lines


def test_the_file_of_the_repository_has_every_param_with_its_default(raw_params):
    """DVC reads the file, and needs each key that dvc.yaml or -S names."""
    assert raw_params() == params.Params().model_dump(mode="json")


def test_a_missing_key_has_its_default(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("train: {epochs: 7}")
    assert flat(params.load(path).model_dump()) == flat(params.Params().model_dump()) | {
        "train.epochs": 7
    }


def test_nothing_can_be_changed_after_loading(written):
    loaded = params.load(written())
    with pytest.raises(ValueError, match="frozen"):
        loaded.train.epochs = 9


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("trian", "train"),
        ("calibration", "calibrate"),
        ("train.epoch", "epochs"),
        ("train.batchsize", "batch_size"),
        ("inference.dualorder", "dual_order"),
        ("simulate.judge.ties", "tie"),
        ("data.fold", "folds"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(written, key, nearest):
    [line] = refused(written(key, 1))
    section, _, name = f": {key}".rpartition(".")
    assert line.endswith(f"{section}: unknown key {name.lstrip(': ')}: did you mean {nearest}?")


def test_an_unknown_key_like_no_other_names_them_all(written):
    [line] = refused(written("augment.zzz", 1))
    assert line.endswith("augment: unknown key zzz: known here: ab, mode")


@pytest.mark.parametrize("text", ["3e-05", "3e-5", "0.00003", "3.0e-05", "'3e-05'"])
def test_a_learning_rate_is_a_number_however_it_is_spelled(tmp_path, params_yaml, text):
    path = tmp_path / "params.yaml"
    source = re.sub(
        r"^  lr: .*$", f"  lr: {text}", params_yaml.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    path.write_text(source, encoding="utf-8")
    assert params.load(path).train.lr == 3e-5


@pytest.mark.parametrize(
    "text, value", [("yes", True), ("no", False), ("on", True), ("true", True), ("'false'", False)]
)
def test_a_switch_is_a_switch_however_it_is_spelled(tmp_path, params_yaml, text, value):
    path = tmp_path / "params.yaml"
    source = re.sub(
        r"^  ab: .*$", f"  ab: {text}", params_yaml.read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    path.write_text(source, encoding="utf-8")
    assert params.load(path).augment.ab is value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.folds", 1),
        ("data.train", ""),
        ("data.train", None),
        ("data.test", ""),
        ("simulate.seed", -1),
        ("simulate.seed", 2**70),
        ("simulate.rows", 0),
        ("simulate.mojibake", 1.5),
        ("simulate.judge.relevance", "much"),
        ("simulate.judge.tie", float("inf")),
        ("clean.utf8", "perhaps"),
        ("clean.max_bad_share", -0.1),
        ("tokenize.vocab_size", 10),
        ("tokenize.vocab_size", 10**9),
        ("augment.mode", "all"),
        ("augment", None),
        ("model.pooling", "mean"),
        ("model.dropout", 1),
        ("model.max_length", 2),
        ("model.lr_multiplier", float("inf")),
        ("train.lr", 0),
        ("train.lr", float("nan")),
        ("train.lr", "fast"),
        ("train.epochs", 1.5),
        ("train.seeds", []),
        ("train.seeds", 0),
        ("train.seeds", [1, 1]),
        ("train.seeds", [2**32]),
        ("train.seeds", [True]),
        ("train.epochs", True),
        ("train.epochs", 10**30),
        ("train.patience", 10**30),
        ("train.threads", 10**6),
        ("train.warmup", True),
        ("train.batch_size", 10**9),
        ("train.weight_decay", float("inf")),
        ("oof.folds", 99),
        ("calibrate.method", "isotonic"),
        ("predict.batch_size", 0),
        ("report.cuts", "half"),
        ("report.cuts", [1]),
        ("report.cuts", [1, 2, 3]),
        ("report.cuts", [300, 100]),
        ("report.cuts", [True, 2]),
        ("parallel.jobs", 0),
        ("parallel.jobs", 10**6),
        ("parallel.backend", "dask"),
        ("train", [1]),
    ],
)
def test_a_value_that_cannot_be_used_is_one_line_with_its_key(written, key, value):
    [line] = refused(written(key, value))
    assert key in line


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("train.seeds", "[0]", "train.seeds is '[0]': expected a list; write [0]"),
        ("train.seeds", [True], "train.seeds.0 is True: expected a whole number"),
        ("train.epochs", "two", "train.epochs is 'two': expected a whole number"),
        ("train.lr", "fast", "train.lr is 'fast': expected a number"),
        ("report.cuts", "half", "expected thirds or two rising counts"),
        ("model.backbone", None, "model.backbone is empty: expected text"),
        ("data.test", "", "expected a path; with votes of your own, keep the arena's test,"),
        ("augment", None, "augment is empty: expected keys with values"),
    ],
)
def test_a_message_says_what_was_expected_in_plain_words(written, key, value, says):
    assert says in refused(written(key, value))[0]


DVC_YAML = yaml.safe_load((Path(__file__).parents[2] / "dvc.yaml").read_text(encoding="utf-8"))
READ = {name for stage in DVC_YAML["stages"].values() for name in stage.get("params", ())}


def test_dvc_finds_what_it_reads_in_the_file_of_the_repository(raw_params):
    params.for_dvc(raw_params(), DVC_YAML["stages"])
    with_arguments = raw_params()
    with_arguments["train"]["arguments"] = {"logging_steps": 5}
    params.for_dvc(with_arguments, DVC_YAML["stages"])


@pytest.mark.parametrize("name", ["train", "test", "truth", "solution"])
def test_a_path_that_dvc_inserts_is_not_null(raw_params, name):
    raw = raw_params()
    raw["data"][name] = None
    with pytest.raises(UserError, match=f"data.{name} is null, .* expected a path; with votes of"):
        params.for_dvc(raw, DVC_YAML["stages"])


@pytest.mark.parametrize("name", sorted(READ))
def test_a_key_that_dvc_reads_is_not_missing(raw_params, name):
    raw = section = raw_params()
    *sections, key = name.removesuffix(".0").split(".")
    for part in sections:
        section = section[part]
    del section[key]
    with pytest.raises(UserError, match=f"{'.'.join([*sections, key])} is missing, and dvc.yaml"):
        params.for_dvc(raw, DVC_YAML["stages"])


def test_each_fault_has_its_line(written, tmp_path, raw_params):
    raw = raw_params()
    raw["train"] |= {"epochs": 0, "lr": "fast", "seeds": 5}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    lines = refused(str(tmp_path / "params.yaml"))
    assert len(lines) == 3
    assert all(
        any(key in line for line in lines)
        for key in ("train.epochs is 0", "train.lr is 'fast'", "expected a list; write [5]")
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a: [", "not readable as YAML"),
        ("a: " + "9" * 5000, "not readable as YAML"),
        ("", "the whole file is empty: expected keys with values"),
        ("- 1", "the whole file is [1]: expected keys with values"),
    ],
)
def test_a_file_that_is_no_params_file(tmp_path, content, says):
    path = tmp_path / "params.yaml"
    path.write_text(content)
    [line] = refused(str(path))
    assert says in line


def test_no_file(tmp_path):
    [line] = refused(str(tmp_path / "none.yaml"))
    assert "no such file" in line


class TestCompanions:
    """The arena's test, truth and solution belong to the arena's votes."""

    def test_they_stay_with_the_arena(self, raw_params):
        data = params.DataParams(**raw_params()["data"])
        assert data.test and data.truth and data.solution
        absolute = raw_params()["data"] | {"train": str((params.ARENA / "train.csv").absolute())}
        assert params.DataParams(**absolute).test

    def test_they_go_where_the_votes_are_the_users(self, raw_params):
        for train in (
            "votes.csv",
            "/data/votes.csv",
            "data/raw/votes.csv",
            "data/raw/simulated/../votes.csv",
        ):
            data = params.DataParams(**(raw_params()["data"] | {"train": train}))
            assert (data.test, data.truth, data.solution) == (None, None, None)

    def test_the_users_own_stay(self, raw_params):
        given = {"train": "votes.csv", "test": "test.csv", "solution": "solution.csv"}
        data = params.DataParams(**(raw_params()["data"] | given))
        assert (data.test, data.truth, data.solution) == ("test.csv", None, "solution.csv")


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.booleans(),
    st.lists(st.tuples(st.sampled_from(sorted(flat(SOURCE))), st.sampled_from(VALUES)), max_size=9),
)
def test_dumped_params_are_params_again(own, overrides):
    """Whatever the switches say, the user's own votes among them, which have no truth."""
    raw = copy.deepcopy(SOURCE)
    for name, value in [("data.train", "votes.csv")] * own + overrides:
        tried = copy.deepcopy(raw)
        *sections, key = name.split(".")
        section = tried
        for part in sections:
            section = section[part]
        section[key] = value
        with contextlib.suppress(ValidationError):
            params.Params.model_validate(tried)
            raw = tried
    loaded = params.Params.model_validate(raw)
    assert all(
        params.Params.model_validate(loaded.model_dump(mode=mode)) == loaded
        for mode in ("json", "python")
    )


def overridden(tmp_path, source: Path, override: str) -> tuple[str, str]:
    """The real params.yaml before and after `dvc exp run -S`."""
    path = tmp_path / "params.yaml"
    before = source.read_text(encoding="utf-8")
    path.write_text(before, encoding="utf-8")
    apply_overrides(str(path), [override])
    return before, path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "override",
    [
        "augment.ab=true",
        "augment.ab=false",
        "train.lr=1e-5",
        "train.lr=3e-05",
        "train.seeds=[0,1]",
        "train.seeds=[3]",
        "oof.folds=2",
        "oof.enabled=false",
        "model.max_length=300",
        "model.backbone=microsoft/deberta-v3-base",
        "simulate.judge.order_effect=0.5",
        "data.train=votes.csv",
        "parallel.backend=ray",
    ],
)
def test_an_override_of_dvc_changes_one_value_and_nothing_else(tmp_path, params_yaml, override):
    before, after = overridden(tmp_path, params_yaml, override)
    key = override.partition("=")[0]
    was, now = flat(yaml.safe_load(before)), flat(yaml.safe_load(after))
    assert {k for k in was | now if was.get(k) != now.get(k)} <= {key}
    params.load(tmp_path / "params.yaml")

    # Comments in the changed line may move sideways; every other line stays as it was.
    last = key.rpartition(".")[2]
    changed = [
        line[2:]
        for line in difflib.ndiff(before.splitlines(), after.splitlines())
        if line[0] in "+-"
    ]
    assert all(line.strip().startswith((f"{last}:", "- ")) for line in changed)
    comments = [re.findall(r"#.*", text) for text in (before, after)]
    assert comments[0] == comments[1]


def test_an_override_with_the_present_value_changes_no_byte(tmp_path, params_yaml, raw_params):
    for key in ("augment.ab", "train.epochs", "oof.folds", "train.seeds", "model.pooling"):
        section, name = key.split(".")
        value = yaml.safe_dump(raw_params()[section][name], default_flow_style=True).split("\n")[0]
        before, after = overridden(tmp_path, params_yaml, f"{key}={value}")
        assert after == before
