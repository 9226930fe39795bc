"""Checkpoints are whole or not used; trainings are locked, marked when finished, pruned."""

import errno
import json
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors import SafetensorError
from torch import nn

from pairpref import monitor
from pairpref.errors import UserError
from pairpref.monitor import Log, last
from pairpref.training import checkpoints
from pairpref.training.checkpoints import CheckpointManager, State, fault
from pairpref.training.fingerprint import Fingerprint

MACHINE = {"device": "cpu", "processes": 1}


def fingerprint(fold: int = 0, **parts: object) -> Fingerprint:
    return Fingerprint({"fold": fold, "seed": 0}, parts)


def model_and_optimizer(seed: int = 0):
    torch.manual_seed(seed)
    model = nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    return model, optimizer


def state(step: int) -> State:
    best = {"p": torch.rand(2, 3, dtype=torch.float64)}
    return State(MACHINE, step, 0.1 * step, step, 1.0, [{"epoch": 1, "log_loss": 1 / 3}], best)


@pytest.fixture
def store(here):
    return CheckpointManager(fingerprint(), Log("test"))


@pytest.fixture
def saved(store):
    """A store with checkpoints of steps 1 and 2, whose models differ."""
    for step in (1, 2):
        store.save(state(step), *model_and_optimizer(step))
    return store


def said() -> str:
    return "\n".join(event["text"] for event in last("test") if event["event"] == "said")


def test_what_is_restored_is_what_was_saved(store):
    model, optimizer = model_and_optimizer()
    before = state(7)
    store.save(before, model, optimizer)
    other, its_optimizer = model_and_optimizer(5)
    restored = store.restore(other, its_optimizer, MACHINE)
    assert torch.equal(restored.best["p"], before.best["p"])
    assert {**vars(restored), "best": None} == {**vars(before), "best": None}
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True)
    )
    first, second = (o.state_dict()["state"] for o in (optimizer, its_optimizer))
    assert all(torch.equal(first[i][name], second[i][name]) for i in first for name in first[i])


FILES = [
    "model.safetensors",
    "optimizer.safetensors",
    "best.safetensors",
    "state.json",
    "manifest.json",
]


def delete(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_these_are_all_files_of_a_checkpoint(saved):
    assert sorted(path.name for path in (saved.folder / "step-00000002").iterdir()) == sorted(FILES)


@pytest.mark.fault(2, 3)
@pytest.mark.parametrize("damage", [delete, cut, empty, flip])
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(saved, file, damage):
    damage(saved.folder / "step-00000002" / file)
    model, optimizer = model_and_optimizer(9)
    assert saved.restore(model, optimizer, MACHINE).step == 1
    assert torch.equal(model.weight, model_and_optimizer(1)[0].weight)
    assert "step-00000002 is damaged and not used" in said() and "going on from step 1" in said()


@pytest.mark.parametrize("position", range(0, 300, 7))
def test_no_flipped_bit_of_a_manifest_lets_damage_pass(saved, position):
    folder = saved.folder / "step-00000002"
    flip(folder / "state.json")
    content = bytearray((folder / "manifest.json").read_bytes())
    content[position] ^= 4
    (folder / "manifest.json").write_bytes(content)
    assert fault(folder, fingerprint().digest) is not None


@pytest.mark.fault(2, 3, 5)
def test_where_all_are_damaged_training_starts_anew_and_keeps_what_it_saves(saved):
    """The highest two steps are kept, and those of damaged checkpoints would be higher."""
    for folder in saved.folder.glob("step-*"):
        flip(folder / "model.safetensors")
    assert saved.restore(*model_and_optimizer(), MACHINE) is None
    saved.save(state(1), *model_and_optimizer())
    assert saved.restore(*model_and_optimizer(), MACHINE).step == 1


@pytest.mark.fault(3)
@pytest.mark.parametrize(
    "manifest", ["{}", "[]", '{"files": {}}', '{"owner": "another", "files": {}}']
)
def test_an_emptied_manifest_vouches_for_nothing(saved, manifest):
    (saved.folder / "step-00000002" / "manifest.json").write_text(manifest)
    assert saved.restore(*model_and_optimizer(), MACHINE).step == 1


@pytest.mark.fault(9)
def test_whole_folders_of_another_training_are_not_used(saved, here):
    saved.finish(fill, MACHINE)
    other = CheckpointManager(fingerprint(fold=1), Log("test"))
    other.folder.mkdir()
    saved.finished.rename(other.finished)
    assert not other.is_finished(MACHINE) and f"it belongs to {saved.folder.name}" in said()


@pytest.mark.fault(10)
def test_results_of_another_machine_are_named(saved):
    saved.finish(fill, MACHINE)
    assert saved.is_finished(MACHINE) and "environment changed" not in said()
    assert (
        saved.is_finished({**MACHINE, "device": "gpu"})
        and "environment changed (device was cpu and is gpu)" in said()
    )


@pytest.mark.fault(18)
@pytest.mark.parametrize(
    "file", ["model.safetensors", "optimizer.safetensors", "best.safetensors", "state.json"]
)
def test_a_pickle_in_a_checkpoint_is_never_loaded(saved, file, canary, tmp_path):
    path, fired = saved.folder / "step-00000002" / file, tmp_path / "fired"
    torch.save({"weight": canary(fired)}, path)
    manifest = path.with_name("manifest.json")
    content = json.loads(manifest.read_text())
    manifest.write_text(
        json.dumps({**content, "files": {**content["files"], file: checkpoints._hash(path)}})
    )
    assert fault(path.parent, fingerprint().digest) is None
    with pytest.raises(UserError, match="no checkpoint of this model.*train.resume=false"):
        saved.restore(*model_and_optimizer(), MACHINE)
    assert not fired.exists()


@pytest.mark.fault(10)
def test_another_machine_is_named(saved):
    saved.restore(*model_and_optimizer(), MACHINE)
    assert "environment changed" not in said()
    saved.restore(*model_and_optimizer(), {**MACHINE, "processes": 2})
    assert "environment changed (processes was 1 and is 2)" in said()


def test_old_checkpoints_are_pruned(store):
    for step in range(1, 6):
        store.save(state(step), *model_and_optimizer())
    assert sorted(path.name for path in store.folder.glob("step-*")) == [
        "step-00000004",
        "step-00000005",
    ]


class Disk:
    """Fails at the n-th call of any function that writes, syncs or renames."""

    def __init__(self, monkeypatch, fail_at: int, error: BaseException) -> None:
        self.calls, self._fail_at, self._error = [], fail_at, error
        for owner, name in (
            (os, "fsync"),
            (os, "rename"),
            (checkpoints, "save_file"),
            (Path, "write_text"),
            (Path, "mkdir"),
        ):
            monkeypatch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, original):
        def function(*args, **kwargs):
            self.calls.append(original.__name__)
            if len(self.calls) != self._fail_at:
                return original(*args, **kwargs)
            # The writer of tensors says it in its own way.
            no_space = original.__name__ == "save_file" and isinstance(self._error, OSError)
            raise SafetensorError("I/O error: No space left on device") if no_space else self._error

        return function


class Killed(BaseException):
    pass


@pytest.mark.fault(1, 4)
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), Killed()])
def test_whatever_call_fails_a_whole_checkpoint_is_left(saved, monkeypatch, error):
    """Fail the n-th call to the disk, for every n."""
    for n in range(1, 100):
        with monkeypatch.context() as patched:
            disk = Disk(patched, n, error)
            try:
                saved.save(state(3), *model_and_optimizer(3))
                break
            except (OSError, Killed) as raised:
                assert isinstance(error, Killed) or raised.errno == errno.ENOSPC
        restored = CheckpointManager(fingerprint(), Log("test")).restore(
            *model_and_optimizer(9), MACHINE
        )
        named = "rename" in disk.calls[:-1]
        assert restored.step == (3 if named else 2)
    assert n == len(disk.calls) + 1 and set(disk.calls) == {
        "fsync",
        "rename",
        "save_file",
        "write_text",
        "mkdir",
    }
    assert saved.restore(*model_and_optimizer(9), MACHINE).step == 3


def test_only_the_first_process_of_a_launch_removes_what_is_damaged(saved, monkeypatch):
    """The others skip it in silence, also when it vanishes while they look at it."""
    newest = saved.folder / "step-00000002"
    delete(newest / "model.safetensors")
    monkeypatch.setattr(monitor, "RANK", 1)
    assert saved.restore(*model_and_optimizer(9), MACHINE).step == 1
    assert newest.exists() and "damaged" not in said()

    def vanishing(folder: Path, owner: str) -> str | None:
        if folder == newest:
            shutil.rmtree(folder)
        return fault(folder, owner)

    monkeypatch.setattr(checkpoints, "fault", vanishing)
    assert saved.restore(*model_and_optimizer(9), MACHINE).step == 1


def test_leftovers_of_a_kill_are_cleared_away(saved):
    (saved.folder / "step-00000003.aside").mkdir()
    saved.open(resume=True).release()
    assert not list(saved.folder.glob("*.aside")) and len(list(saved.folder.glob("step-*"))) == 2


def fill(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "result.txt").write_text("42")


def test_finished_work_is_marked_and_its_checkpoints_go(saved):
    assert not saved.is_finished(MACHINE)
    saved.finish(fill, MACHINE)
    assert saved.is_finished(MACHINE) and not list(saved.folder.glob("step-*"))
    assert (saved.finished / "deep" / "result.txt").read_text() == "42"


@pytest.mark.parametrize("damage", [delete, cut, flip])
def test_damaged_results_are_named_and_not_used(saved, damage):
    saved.finish(fill, MACHINE)
    damage(saved.finished / "deep" / "result.txt")
    assert not saved.is_finished(MACHINE) and "finished is damaged and not used" in said()


def test_starting_over_throws_away_what_is_left(saved):
    saved.finish(fill, MACHINE)
    saved.open(resume=False).release()
    assert not saved.is_finished(MACHINE) and saved.restore(*model_and_optimizer(), MACHINE) is None


@pytest.mark.fault(11)
def test_a_second_process_at_the_same_training_is_refused(saved, monkeypatch):
    monkeypatch.setattr(checkpoints, "_WAIT_SECONDS", 0.1)
    with (
        FileLock(saved.folder / "lock"),
        pytest.raises(UserError, match="another process is at the same training"),
    ):
        saved.open(resume=True)
    saved.open(resume=True).release()


@pytest.mark.fault(9)
def test_it_says_why_an_interrupted_training_is_not_gone_on_with(here):
    first = CheckpointManager(fingerprint(**{"train.lr": 1e-5, "data/tokens": "ab"}), Log("test"))
    first.open(resume=True).release()
    first.save(state(1), *model_and_optimizer())
    second = CheckpointManager(fingerprint(**{"train.lr": 2e-5, "data/tokens": "cd"}), Log("test"))
    second.open(resume=True).release()
    assert (
        f"not going on from {first.folder}: data/tokens has changed; "
        "train.lr was 1e-05 and is 2e-05" in said()
    )
    assert second.restore(*model_and_optimizer(), MACHINE) is None
    assert first.restore(*model_and_optimizer(), MACHINE).step == 1, "the interrupted one is kept"


def test_another_folds_training_is_nothing_to_go_on_from(saved):
    saved.open(resume=True).release()
    other = CheckpointManager(fingerprint(fold=1), Log("test"))
    other.open(resume=True).release()
    assert "not going on" not in said()


def test_only_the_latest_trainings_of_a_fold_are_kept(here):
    stores = [CheckpointManager(fingerprint(lr=lr), Log("test")) for lr in range(5)] + [
        CheckpointManager(fingerprint(fold=1), Log("test"))
    ]
    for store in stores:
        store.open(resume=True).release()
        time.sleep(0.01)
    assert [store.folder.exists() for store in stores] == [False, False, True, True, True, True]


def test_checkpoints_take_a_small_share_of_the_time(saved, monkeypatch):
    now = time.perf_counter()
    monkeypatch.setattr(checkpoints.time, "perf_counter", lambda: now)
    saved._saved, saved._took = now - 40, 1.0
    assert not saved.due()
    saved._saved = now - 51
    assert saved.due()
    saved._took, saved._saved = 0.0, now - 0.5
    assert not saved.due()
