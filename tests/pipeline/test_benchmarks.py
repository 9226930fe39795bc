"""Benchmarks run: on a tiny shape, for their tables and not for their figures."""

import re
import sys

import pytest

pytestmark = pytest.mark.slow


def test_a_gpu_is_measured_row_by_row(repository):
    """The table is whole, and on a CPU both attentions are the same."""
    command = (sys.executable, "-m", "benchmarks.gpu", "--shape", "tiny", "--rows", "24")
    done = repository.run(*command, "--out", "gpu.md")
    assert done.returncode == 0, done.stdout
    table = (repository.path / "gpu.md").read_text(encoding="utf-8")
    assert "failed" not in table, table
    assert all(rows in table for rows in ("plain Trainer, peak GiB", "pairpref, both orders"))
    assert re.search(r"fp32: logits, gradients \| 0.0e\+00", table), table


def test_the_time_to_the_log_loss_of_a_plain_trainer_is_measured(repository):
    command = (sys.executable, "-m", "benchmarks.vs_plain_trainer")
    done = repository.run(*command, "--runs", "1", "--epochs", "1")
    assert done.returncode == 0, done.stdout
    assert re.search(r"as good after [\d.]+ of the plain|not reached", done.stdout), done.stdout


def test_the_cost_of_checkpoints_is_measured(repository):
    done = repository.run(sys.executable, "-m", "benchmarks.checkpointing", "--runs", "1")
    assert done.returncode == 0, done.stdout
    assert re.search(r"with checkpoints [\d.]+ s, [1-9]\d* saved", done.stdout), done.stdout


def test_the_stages_that_train_nothing_are_measured(repository):
    done = repository.run(sys.executable, "-m", "benchmarks.throughput", "--rows", "400")
    assert done.returncode == 0, done.stdout
    assert re.search(r"[\d.]+ times the bare tokenizer's [\d.]+ s", done.stdout), done.stdout
    assert "\nreport " in done.stdout and "\npage: " in done.stdout, done.stdout


def test_prediction_is_measured(repository):
    done = repository.run(sys.executable, "-m", "benchmarks.predict", "--rows", "60")
    assert done.returncode == 0, done.stdout
    assert re.search(r"uncertain: .* pairs read, log loss [\d.]+, [+-]0\.\d+ ±", done.stdout)
    assert "asked twice" in done.stdout and re.search(r"60 rows, .* peak [\d,]+ MiB", done.stdout)
