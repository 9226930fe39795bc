"""What goes wrong around the pipeline, and the command for it; numbers as in docs/faults.md."""

import hashlib
import itertools
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from dvc.utils.hydra import apply_overrides

# Long enough for a signal in the middle, and for another command in the meantime.
# A transformer: the default would be trained before it can be interrupted.
_SLOW = ["model.backbone=small-deberta-v2", "model.lr_multiplier=70", "train.patience=null"]
SHORT = [*_SLOW, "train.epochs=15"]
LONG = [*_SLOW, "train.epochs=600"]
SEEDS = itertools.count(100)


def hashes(folder: Path) -> dict[str, str]:
    files = (
        [folder]
        if folder.is_file()
        else sorted(path for path in folder.rglob("*") if path.is_file())
    )
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def events(repository, log: str) -> list[dict]:
    path = repository.path / "logs" / f"{log}.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


@contextmanager
def running(repository, *command: str) -> Iterator[subprocess.Popen]:
    """A command in a process group of its own, of which nothing is left afterwards."""
    process = subprocess.Popen(
        command,
        cwd=repository.path,
        env=repository.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for left in psutil.process_iter(["cwd"]):
            if left.info["cwd"] == str(repository.path):
                left.kill()
        process.wait(30)


def wait_for(happened, seconds: float = 300.0):
    """The first true answer of a question that is asked again and again."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if answer := happened():
            return answer
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def stage_process(repository, stage: str) -> psutil.Process | None:
    for process in psutil.process_iter(["cmdline", "cwd"]):
        if process.info["cwd"] == str(repository.path) and process.info["cmdline"][-2:] == [
            "-m",
            f"stages.{stage}",
        ]:
            return process
    return None


@pytest.fixture
def long_training(clean_tree):
    """The repository with params of a training that no other test has run, and none ends."""
    apply_overrides(clean_tree.path / "params.yaml", [*LONG, f"train.seeds=[{next(SEEDS)}]"])
    return clean_tree


@pytest.fixture
def short_training(clean_tree):
    """The same of a shorter one, for a test that waits until it has ended."""
    apply_overrides(clean_tree.path / "params.yaml", [*SHORT, f"train.seeds=[{next(SEEDS)}]"])
    return clean_tree


def in_the_middle(repository):
    """Wait until the train stage has done some steps and saved a checkpoint."""
    (repository.path / "logs" / "train.jsonl").unlink(missing_ok=True)
    wait_for(lambda: any(event["event"] == "saved" for event in events(repository, "train")))


DVC = (sys.executable, "-m", "dvc")


@pytest.mark.fault(8)
def test_a_stage_run_again_after_it_finished_trains_nothing(clean_tree, run_here, capsys):
    before = hashes(clean_tree.path / "models")
    for stage, log in (("train", "train"), ("oof", "oof-fold1-seed0")):
        shutil.rmtree(clean_tree.path / "models" / stage)
        run_here(stage)
        assert "already trained" in capsys.readouterr().out
        assert not [event for event in events(clean_tree, log) if event["event"] == "step"]
    assert hashes(clean_tree.path / "models") == before


@pytest.mark.slow
@pytest.mark.fault(8)
def test_starting_over_is_a_switch(clean_tree, run_here, capsys):
    """And ends with the same bytes."""
    before = hashes(clean_tree.path / "models/train")
    apply_overrides(clean_tree.path / "params.yaml", ["train.resume=false"])
    run_here("train")
    said = capsys.readouterr().out
    assert "already trained" not in said and "training on" in said
    assert hashes(clean_tree.path / "models/train") == before


@pytest.mark.fault(5)
def test_sigterm_stops_and_the_same_command_goes_on(short_training, run_here, capsys):
    """As a scheduler or DVC tells it; below, Ctrl-C stops DVC and all."""
    with running(short_training, sys.executable, "-m", "stages.train") as stage:
        in_the_middle(short_training)
        stage.send_signal(signal.SIGTERM)
        out, _ = stage.communicate(timeout=300)
    assert stage.returncode == 143 and "Traceback" not in out
    assert "train: stopped by SIGTERM; run the same command again" in out
    run_here("train")
    assert "going on from step" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.fault(5)
def test_one_worker_told_to_end_ends_the_stage(clean_tree):
    """Without its fold there is nothing to export: the rest alone would look like a result."""
    seed = next(SEEDS)
    apply_overrides(
        clean_tree.path / "params.yaml",
        [*SHORT, f"train.seeds=[{seed}]", "oof.folds=3", "parallel.jobs=2"],
    )
    log, export = f"oof-fold1-seed{seed}", clean_tree.path / "data/oof/uncalibrated.parquet"
    export.unlink()
    with running(clean_tree, sys.executable, "-m", "stages.oof") as stage:
        wait_for(lambda: any(event["event"] == "step" for event in events(clean_tree, log)))
        worker = next(
            child
            for child in psutil.Process(stage.pid).children()
            if any(Path(file.path).stem == log for file in child.open_files())
        )
        worker.terminate()
        out, _ = stage.communicate(timeout=300)
    assert stage.returncode == 143 and "oof: stopped by SIGTERM; run the same command again" in out
    assert not export.exists()


@pytest.mark.fault(9)
def test_params_changed_while_a_stage_runs_are_not_recorded_with_its_result(clean_tree):
    """For example by an experiment that is refused, but has already written into params.yaml."""
    params = clean_tree.path / "params.yaml"
    apply_overrides(params, ["simulate.rows=20000"])
    (clean_tree.path / "logs/simulate.jsonl").unlink()
    with running(clean_tree, *DVC, "repro", "simulate") as repro:
        wait_for(lambda: events(clean_tree, "simulate"))
        apply_overrides(params, ["simulate.seed=77777"])
        out, _ = repro.communicate(timeout=300)
    assert repro.returncode != 0 and "simulate: simulate.seed changed while the stage ran" in out
    assert "seed: 77777" not in (clean_tree.path / "dvc.lock").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.fault(5)
def test_ctrl_c_stops_and_the_same_command_goes_on(short_training):
    """As a person does it: the terminal tells every process of the group."""
    with running(short_training, *DVC, "repro", "train") as repro:
        in_the_middle(short_training)
        psutil.os.killpg(repro.pid, signal.SIGINT)
        out, _ = repro.communicate(timeout=300)
    assert repro.returncode != 0 and "train: stopped by Ctrl-C; run the same command again" in out
    assert "going on from step" in short_training.dvc("repro", "train")


@pytest.mark.slow
@pytest.mark.fault(11)
def test_a_stage_left_behind_by_a_killed_dvc_refuses_a_second_writer(long_training):
    with running(long_training, *DVC, "repro", "train") as repro:
        in_the_middle(long_training)
        repro.kill()
        repro.wait()
        left = stage_process(long_training, "train")
        assert left is not None
        second = long_training.run(*DVC, "repro", "train")
        assert (
            second.returncode != 0
            and f"train: already running here as process {left.pid}" in second.stdout
        )
        assert "Traceback" not in second.stdout and left.is_running()


@pytest.mark.slow
@pytest.mark.fault(12)
def test_two_repros_at_once_one_is_refused(long_training):
    with running(long_training, *DVC, "repro", "train"):
        in_the_middle(long_training)
        second = long_training.run(*DVC, "repro", "train")
        assert second.returncode != 0 and "Traceback" not in second.stdout
        assert "Unable to acquire lock" in second.stdout or "is busy" in second.stdout


@pytest.mark.slow
@pytest.mark.fault(13)
def test_an_empty_or_garbled_dvc_lock(clean_tree):
    """README's command restores the same file; only `backbone`, which is not cached, runs again."""
    for content in (b"schema: '2.0'\nstages:\n  simul", b"\0" * 200, b""):
        (clean_tree.path / "dvc.lock").write_bytes(content)
        assert clean_tree.run(*DVC, "repro").returncode != 0 or content.startswith(b"schema")
    done = clean_tree.run("sh", "-c", "rm dvc.lock && dvc repro")
    assert done.returncode == 0, done.stdout
    assert re.findall("Running stage '(.*)'", done.stdout) in ([], ["backbone"])
    assert clean_tree.git("status", "--porcelain") == ""


@pytest.mark.slow
@pytest.mark.fault(13)
def test_an_empty_or_garbled_lock_file(clean_tree):
    """DVC's own locks, as a power failure may leave them."""
    (clean_tree.path / ".dvc" / "tmp" / "lock").write_bytes(b"")
    (clean_tree.path / ".dvc" / "tmp" / "rwlock").write_bytes(b"\0" * 50)
    done = clean_tree.run("sh", "-c", "rm -f .dvc/tmp/lock .dvc/tmp/rwlock && dvc repro")
    assert done.returncode == 0, done.stdout
    assert "Running stage" not in done.stdout


@pytest.mark.slow
@pytest.mark.fault(14)
def test_a_damaged_cached_result_is_found_and_made_again(clean_tree):
    """DVC trusts read-only files, so the workspace is damaged too; README's command mends it."""
    model = clean_tree.path / "models/train/model.safetensors"
    good = model.read_bytes()
    digest = hashlib.md5(good).hexdigest()
    cached = clean_tree.path / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    cached.chmod(0o644)
    cached.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    cached.chmod(0o444)
    shutil.rmtree(model.parent)
    clean_tree.dvc("checkout")
    assert model.read_bytes() != good and "up to date" in clean_tree.dvc("status")
    done = clean_tree.run("sh", "-c", "chmod -R u+w .dvc/cache && dvc repro")
    assert done.returncode == 0, done.stdout
    assert model.read_bytes() == good == cached.read_bytes()
    assert clean_tree.git("status", "--porcelain") == ""


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A disk of its own for a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.fault(4)
@pytest.mark.parametrize(
    "stage, folder, size",
    [("clean", "data/clean", "8k"), ("tokenize", "data/tokens", "64k"), ("train", "work", "128k")],
)
def test_a_full_disk_is_named_and_takes_nothing_with_it(clean_tree, stage, folder, size):
    before = hashes(clean_tree.path / "models/tokenizer") | hashes(clean_tree.path / "data/raw")
    kept = clean_tree.path / "work"
    shutil.rmtree(kept)
    with small_disk(clean_tree.path / folder, size):
        full = clean_tree.run(sys.executable, "-m", f"stages.{stage}")
    assert full.returncode == 1 and "Traceback" not in full.stdout, full.stdout
    assert "no space left on the disk" in full.stdout and "MiB free" in full.stdout
    assert any(line.startswith(f"{stage}: {folder}") for line in full.stdout.splitlines()), (
        full.stdout
    )
    assert (
        hashes(clean_tree.path / "models/tokenizer") | hashes(clean_tree.path / "data/raw")
        == before
    )
    done = clean_tree.run(sys.executable, "-m", f"stages.{stage}")
    assert done.returncode == 0, done.stdout
    assert clean_tree.git("status", "--porcelain") == "" and "up to date" in clean_tree.dvc(
        "status"
    )
