"""Checkpoints are whole or not used; trainings are locked, marked when finished, pruned."""

import errno
import json
import os
import shutil
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
from filelock import FileLock
from safetensors import SafetensorError

from pairpref import monitor
from pairpref.errors import UserError
from pairpref.monitor import Log, last
from pairpref.training import checkpoints, whole
from pairpref.training.checkpoints import CheckpointManager
from pairpref.training.fingerprint import Fingerprint

MACHINE = {"device": "cpu", "processes": 1}


def fingerprint(fold: int = 0, **parts: object) -> Fingerprint:
    return Fingerprint({"fold": fold, "seed": 0}, parts)


def save(store: CheckpointManager, step: int, best: int | None = None) -> None:
    """A checkpoint as Trainer lays it out; its state names the step of the best epoch."""
    with store.checkpoint(step, MACHINE) as folder:
        folder.mkdir(parents=True)
        for name in ("model.safetensors", "optimizer.pt", "scheduler.pt"):
            (folder / name).write_bytes(f"{name} of {step}".encode() * 9)
        (folder / "trainer_state.json").write_text(json.dumps({"best_global_step": best}))
    store.settle()


def newest(store: CheckpointManager) -> int | None:
    found = store.newest(MACHINE)
    return found and int(found.name.removeprefix("checkpoint-"))


@pytest.fixture
def store(here):
    return CheckpointManager(fingerprint(), Log("test"))


@pytest.fixture
def saved(store):
    """A store with checkpoints of steps 1 and 2."""
    for step in (1, 2):
        save(store, step)
    return store


def said() -> str:
    return "\n".join(event["text"] for event in last("test") if event["event"] == "said")


FILES = [
    "model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "trainer_state.json",
    "machine.json",
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
    assert sorted(path.name for path in (saved.folder / "checkpoint-2").iterdir()) == sorted(FILES)


@pytest.mark.fault(2, 3)
@pytest.mark.parametrize("damage", [delete, cut, empty, flip])
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(saved, file, damage):
    damage(saved.folder / "checkpoint-2" / file)
    assert newest(saved) == 1
    assert "checkpoint-2 is damaged and not used" in said() and "going on from step 1" in said()


@pytest.mark.fault(2, 3)
@pytest.mark.parametrize("damage", [shutil.rmtree, lambda folder: flip(folder / "weights")])
def test_without_its_best_weights_a_checkpoint_is_not_used(saved, damage):
    """The best epoch's weights lie beside the checkpoints that name it."""
    saved.write(saved.best(3), lambda folder: (folder / "weights").write_text("best so far"))
    save(saved, 3, best=3)
    assert newest(saved) == 3
    damage(saved.best(3))
    assert newest(saved) == 2


@pytest.mark.parametrize("position", range(0, 300, 7))
def test_no_flipped_bit_of_a_manifest_lets_damage_pass(saved, position):
    folder = saved.folder / "checkpoint-2"
    flip(folder / "trainer_state.json")
    content = bytearray((folder / "manifest.json").read_bytes())
    content[position] ^= 4
    (folder / "manifest.json").write_bytes(content)
    assert whole.fault(folder, fingerprint().digest) is not None


@pytest.mark.fault(2, 3, 5)
def test_where_all_are_damaged_training_starts_anew_and_keeps_what_it_saves(saved):
    """The highest two steps are kept, and those of damaged checkpoints would be higher."""
    for folder in saved.folder.glob("checkpoint-*"):
        flip(folder / "model.safetensors")
    assert newest(saved) is None
    save(saved, 1)
    assert newest(saved) == 1


@pytest.mark.fault(3)
@pytest.mark.parametrize(
    "manifest", ["{}", "[]", '{"files": {}}', '{"owner": "another", "files": {}}']
)
def test_an_emptied_manifest_vouches_for_nothing(saved, manifest):
    (saved.folder / "checkpoint-2" / "manifest.json").write_text(manifest)
    assert newest(saved) == 1


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


@pytest.mark.fault(10)
def test_another_machine_is_named(saved):
    saved.newest(MACHINE)
    assert "environment changed" not in said()
    saved.newest({**MACHINE, "processes": 2})
    assert "environment changed (processes was 1 and is 2)" in said()


def test_old_checkpoints_are_pruned(store):
    """By number, not by name; so are best weights that no kept checkpoint names."""
    for step, best in ((8, None), (9, 8), (10, 8), (11, 10)):
        if best:
            store.write(store.best(best), lambda folder: (folder / "weights").touch())
        save(store, step, best)
    names = {path.name for path in store.folder.iterdir() if path.is_dir()}
    assert names == {"checkpoint-10", "checkpoint-11", "best-8", "best-10"}
    save(store, 12, 10)
    assert not store.best(8).exists() and store.best(10).exists()


class Disk:
    """Fails at the n-th call of any function that writes, syncs or renames."""

    def __init__(self, monkeypatch, fail_at: int, error: BaseException) -> None:
        self.calls, self._fail_at, self._error = [], fail_at, error
        for owner, name in ((os, "fsync"), (os, "rename"), (Path, "write_text"), (Path, "mkdir")):
            monkeypatch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, original):
        def function(*args, **kwargs):
            self.calls.append(original.__name__)
            if len(self.calls) != self._fail_at:
                return original(*args, **kwargs)
            raise self._error

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
                save(saved, 3)
                break
            except (OSError, Killed) as raised:
                assert isinstance(error, Killed) or raised.errno == errno.ENOSPC
        named = "rename" in disk.calls[:-1]
        assert newest(CheckpointManager(fingerprint(), Log("test"))) == (3 if named else 2)
        assert not (saved.folder / "aside").exists()
    assert n == len(disk.calls) + 1 and set(disk.calls) == {
        "fsync",
        "rename",
        "write_text",
        "mkdir",
    }
    assert newest(saved) == 3


@pytest.mark.fault(4)
@pytest.mark.parametrize(
    "error",
    [
        SafetensorError("I/O error: No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 40768 vs 40656"),
    ],
)
def test_writers_of_tensors_do_not_say_that_a_disk_is_full(saved, monkeypatch, error):
    """So it is tried. On a disk that is not full they failed for another reason."""
    with pytest.raises(type(error)), saved.checkpoint(3, MACHINE):
        raise error
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(Path, "write_bytes", Mock(side_effect=full))
    with pytest.raises(OSError) as raised, saved.checkpoint(3, MACHINE):
        raise error
    assert raised.value.errno == errno.ENOSPC and newest(saved) == 2


def test_only_the_first_process_of_a_launch_removes_what_is_damaged(saved, monkeypatch):
    """The others skip it in silence, also when it vanishes while they look at it."""
    last_saved = saved.folder / "checkpoint-2"
    delete(last_saved / "model.safetensors")
    monkeypatch.setattr(monitor, "RANK", 1)
    assert newest(saved) == 1
    assert last_saved.exists() and "damaged" not in said()

    fault = whole.fault

    def vanishing(folder: Path, owner: str) -> str | None:
        if folder == last_saved:
            shutil.rmtree(folder)
        return fault(folder, owner)

    monkeypatch.setattr(whole, "fault", vanishing)
    assert newest(saved) == 1


def test_leftovers_of_a_kill_are_cleared_away(saved):
    (saved.folder / "aside/checkpoint-3").mkdir(parents=True)
    saved.open(resume=True).release()
    assert (
        not (saved.folder / "aside").exists() and len(list(saved.folder.glob("checkpoint-*"))) == 2
    )


def fill(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "result.txt").write_text("42")


def test_finished_work_is_marked_and_its_checkpoints_go(saved):
    assert not saved.is_finished(MACHINE)
    saved.finish(fill, MACHINE)
    assert saved.is_finished(MACHINE) and not list(saved.folder.glob("checkpoint-*"))
    assert (saved.finished / "deep" / "result.txt").read_text() == "42"


@pytest.mark.parametrize("damage", [delete, cut, flip])
def test_damaged_results_are_named_and_not_used(saved, damage):
    saved.finish(fill, MACHINE)
    damage(saved.finished / "deep" / "result.txt")
    assert not saved.is_finished(MACHINE) and "finished is damaged and not used" in said()


def linked(folder: Path) -> Path:
    """A link to a whole folder elsewhere in a folder's place; gives where it leads."""
    there = folder.rename(folder.parents[2] / folder.name)
    folder.symlink_to(there)
    return there


def filed(folder: Path) -> Path:
    """A file in a folder's place, and another one that has to stay."""
    shutil.rmtree(folder)
    folder.touch()
    return folder.parents[1]


@pytest.mark.fault(2)
@pytest.mark.parametrize("replace", [linked, filed])
def test_what_is_in_a_checkpoints_place_is_named_and_removed(saved, replace):
    saved.write(saved.best(3), lambda folder: (folder / "weights").touch())
    elsewhere = [replace(saved.best(3)), replace(saved.folder / "checkpoint-2")]
    (saved.folder / whole.ASIDE).symlink_to(elsewhere[0])
    saved.open(resume=True).release()
    assert newest(saved) == 1 and "checkpoint-2 is damaged and not used: " in said()
    save(saved, 2)
    saved.write(saved.best(3), lambda folder: (folder / "weights").touch())
    assert newest(saved) == 2 and not saved.best(3).is_symlink()
    replace(saved.folder / "checkpoint-1")
    saved.finish(fill, MACHINE)
    elsewhere += [replace(saved.finished)]
    assert not saved.is_finished(MACHINE)
    saved.finish(fill, MACHINE)
    assert saved.is_finished(MACHINE)
    assert all(any(folder.iterdir()) for folder in elsewhere)


def test_a_link_within_a_checkpoint_is_not_followed(saved, here):
    weights = saved.folder / "checkpoint-2/model.safetensors"
    weights.symlink_to(weights.rename(here / "outside"))
    assert newest(saved) == 1 and "model.safetensors is a link" in said()


def test_starting_over_throws_away_what_is_left(saved):
    saved.finish(fill, MACHINE)
    saved.open(resume=False).release()
    assert not saved.is_finished(MACHINE) and newest(saved) is None


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
    save(first, 1)
    second = CheckpointManager(fingerprint(**{"train.lr": 2e-5, "data/tokens": "cd"}), Log("test"))
    second.open(resume=True).release()
    assert (
        f"not going on from {first.folder}: data/tokens has changed; "
        "train.lr was 1e-05 and is 2e-05" in said()
    )
    assert newest(second) is None
    assert newest(first) == 1, "the interrupted one is kept"


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
    saved.expect(184_000_000)  # a base-sized backbone: some 4 s, so not within the first minutes
    saved._saved = now - 200
    assert not saved.due()
