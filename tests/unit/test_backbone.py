"""data/backbone/: what DVC hashes of a backbone."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pairpref.backbone import RECORD, record, source
from pairpref.errors import UserError
from pairpref.model import backbone
from pairpref.params import BAG, SMALL
from pairpref.stage_guard import unchanged
from pairpref.text import tokenizer as tokenizers

COMMIT = "8ccc9b6f36199bec6961081d44eb72fb3f7353f3"


@pytest.fixture
def model(small_params, here):
    return lambda name, revision="main": (
        small_params(model__backbone=str(name), model__revision=revision).model
    )


@pytest.fixture
def mine(here) -> Path:
    """A local backbone, with a subfolder and what a clone brings along."""
    for name in ("config.json", "onnx/model.onnx", ".git/objects/large"):
        (here / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "mine" / name).write_text(name)
    (here / "mine" / "config.json").chmod(0o640)
    return here / "mine"


def files() -> list[str]:
    return sorted(
        file.relative_to(RECORD).as_posix() for file in RECORD.rglob("*") if file.is_file()
    )


def refused(act) -> str:
    with pytest.raises(UserError) as error:
        act()
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


def test_the_small_default_is_a_name(model):
    record(model(SMALL))
    assert files() == ["resolved.json"] and source(model(SMALL)) == (SMALL, None)
    before = (RECORD / "resolved.json").read_bytes()
    record(model(BAG))
    assert (RECORD / "resolved.json").read_bytes() == before and source(model(BAG)) == (BAG, None)


@pytest.mark.parametrize("kind", ["absolute", "mine", "linked"])
def test_a_local_backbone_is_links_to_its_files(model, mine, here, kind):
    (here / "linked").symlink_to("mine")  # as a replay does it
    name = mine if kind == "absolute" else Path(kind)
    (here / "elsewhere").mkdir()
    (here / "data").symlink_to("elsewhere")  # as one whose data lie on another disk
    for _ in range(2):
        record(model(name))
    assert files() == ["config.json", "onnx/model.onnx"] and source(model(name)) == (
        "data/backbone",
        None,
    )
    assert not any(path.is_symlink() for path in (RECORD, RECORD / "onnx"))
    assert (RECORD / "config.json").readlink().is_absolute() is (kind == "absolute")
    assert (mine / "config.json").read_text() == "config.json" and (
        mine / "config.json"
    ).stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("absolute", [False, True])
def test_a_link_that_is_moved_to_another_folder_is_followed(model, here, absolute):
    for version in ("v1", "v2"):
        (here / version).mkdir()
        (here / version / "config.json").write_text(version)
    (here / "current").symlink_to("v1")
    name = here / "current" if absolute else "current"
    record(model(name))
    assert (RECORD / "config.json").read_text() == "v1"
    (here / "current").unlink()
    (here / "current").symlink_to("v2")
    assert (RECORD / "config.json").read_text() == "v2" and source(model(name)) == (
        str(RECORD),
        None,
    )


def test_what_is_added_after_it_was_recorded_is_not_read(model, tiny_backbone):
    mine = tiny_backbone("bert")
    weights = load_file(mine / "model.safetensors")
    torch.save(weights, mine / "pytorch_model.bin")
    (mine / "model.safetensors").unlink()
    record(model(mine))
    save_file(
        {key: tensor * 3 for key, tensor in weights.items()},
        mine / "model.safetensors",
        metadata={"format": "pt"},
    )
    words = len(tokenizers.load(str(mine)))
    loaded = backbone.load(model(mine), words, 0, print, *source(model(mine)))
    table = loaded.get_input_embeddings().weight
    assert any(torch.equal(table, tensor) for tensor in weights.values())


def test_messages_name_the_folder_that_the_user_named(model, tiny_backbone):
    mine = tiny_backbone("bert")
    (mine / "model.safetensors").unlink()
    (mine / "tokenizer.json").rename(mine / "no-tokenizer")
    record(model(mine))
    files = source(model(mine))
    for load in (
        tokenizers.load,
        lambda *args: backbone.load(model(mine), 90, 0, print, *args[1:]),
    ):
        line = refused(lambda load=load: load(str(mine), *files))
        assert repr(str(mine)) in line and str(RECORD) not in line


@pytest.mark.parametrize("kind", ["other", "missing"])
def test_a_record_of_another_folder_is_not_read(model, mine, here, kind):
    if kind == "other":
        shutil.copytree(mine, here / "other")
        record(model("other"))
    assert "run `dvc repro backbone`" in refused(lambda: source(model("mine")))


def test_a_broken_link_among_the_files(model, mine):
    (mine / "model.safetensors").symlink_to("nowhere")
    assert "model.safetensors is a link to a missing file" in refused(lambda: record(model(mine)))


@pytest.mark.fault(22)
def test_a_stage_sees_a_change_behind_a_link(model, mine):
    record(model(mine))
    Path("dvc.yaml").write_text("stages: {train: {cmd: x, deps: [data/backbone]}}")
    Path("params.yaml").write_text("{}")
    with (
        pytest.raises(UserError, match="data/backbone/onnx/model.onnx changed"),
        unchanged("train"),
    ):
        (mine / "onnx" / "model.onnx").write_text("others")


@pytest.mark.fault(22)
def test_a_hub_name_is_pinned_to_its_commit(model, here, monkeypatch):
    """Offline, by what is in the hub's cache."""
    cache = here / "hub" / "models--org--name"
    for file, text in {"refs/main": COMMIT, f"snapshots/{COMMIT}/config.json": "{}"}.items():
        (cache / file).parent.mkdir(parents=True)
        (cache / file).write_text(text)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(here / "hub"))
    record(model("org/name"))
    assert json.loads((RECORD / "resolved.json").read_text()) == {
        "name": "org/name",
        "revision": COMMIT,
    }
    assert source(model("org/name")) == ("org/name", COMMIT)
    assert "run `dvc repro backbone`" in refused(lambda: source(model("org/other")))
    assert "nor in its cache" in refused(lambda: record(model("org/name", "v2")))


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere", "org/nowhere", "a/b/c", "empty"])
def test_what_is_not_there_is_one_line(model, here, name):
    (here / "empty").mkdir()
    assert name in refused(lambda: record(model(name)))
