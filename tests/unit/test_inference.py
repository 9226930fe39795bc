"""Probabilities of pairs: swap-consistent to the last bit, and a matter of the pair alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pairpref.errors import UserError
from pairpref.model import classifier
from pairpref.model.precision import dtype_of
from pairpref.pairs import swap_probabilities
from pairpref.text.tokenizer import Template
from pairpref.training.batches import PairDataset
from pairpref.training.inference import by_order, collator_for, evaluation_batch

CONFIG = classifier.InferenceConfig(
    "spans", 40, False, 1, {"utf8": True, "flatten": True}, (0.4, 0.35, 0.25), (1.0, 1.0, 1.0)
)


@pytest.fixture(scope="module")
def tokens(pairs_of, bpe):
    rng = np.random.default_rng(0)
    return pairs_of(
        [[rng.integers(4, len(bpe), rng.integers(0, 25)) for _ in range(3)] for _ in range(50)]
    )


@pytest.fixture(scope="module", params=["spans", "cls"])
def model(request, small_params, bpe):
    torch.manual_seed(0)
    built = classifier.build(
        small_params(model__pooling=request.param, model__dropout=0.3).model, bpe
    )
    # Larger than at the start of training, so that the three probabilities are far from equal.
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.mul_(3)
    return built


@pytest.fixture(scope="module")
def template(bpe):
    return Template.of(bpe)


def exchanged(tokens, pairs_of):
    rows = [tokens.pair(row) for row in range(len(tokens))]
    return pairs_of([(prompt, b, a) for prompt, a, b in rows], labels=tokens.labels)


def test_both_orders_are_swap_consistent_to_the_last_bit(model, tokens, template, pairs_of):
    p = by_order(model, CONFIG, tokens, template, 8).mean(axis=0)
    q = by_order(model, CONFIG, exchanged(tokens, pairs_of), template, 8).mean(axis=0)
    assert np.array_equal(swap_probabilities(q), p)
    assert p.std(axis=0).min() > 1e-3


def test_one_order_is_not(model, tokens, template, pairs_of):
    p = by_order(model, CONFIG, tokens, template, 8, dual_order=False)[0]
    q = by_order(model, CONFIG, exchanged(tokens, pairs_of), template, 8, dual_order=False)[0]
    assert np.abs(swap_probabilities(q) - p).max() > 1e-3


def test_the_second_order_is_the_other_pair_swapped_back(model, tokens, template, pairs_of):
    both = by_order(model, CONFIG, tokens, template, 8)
    first = by_order(model, CONFIG, tokens, template, 8, dual_order=False)
    other = by_order(model, CONFIG, exchanged(tokens, pairs_of), template, 8, dual_order=False)
    assert both.shape == (2, 50, 3) and first.shape == (1, 50, 3) and both.dtype == np.float64
    assert np.array_equal(both[0], first[0]) and np.array_equal(
        both[1], swap_probabilities(other[0])
    )


def test_single_texts_have_one_order(model, tokens, template):
    single = replace(CONFIG, single=True)
    assert by_order(model, single, tokens, template, 8).shape == (1, 50, 3)


def test_a_long_input_leaves_room_for_fewer():
    assert [evaluation_batch(length) for length in (16, 256, 512, 1024, 100_000)] == [
        64,
        64,
        32,
        16,
        1,
    ]


def test_they_are_probabilities(model, tokens, template):
    p = by_order(model, CONFIG, tokens, template, 8)
    assert (p > 0).all() and np.abs(p.sum(axis=-1) - 1).max() < 1e-12


@pytest.mark.parametrize("batch_size", [1, 3, 50, 1000])
def test_the_batch_size_changes_nothing_that_matters(model, tokens, template, batch_size):
    p = by_order(model, CONFIG, tokens, template, 8)
    assert np.abs(by_order(model, CONFIG, tokens, template, batch_size) - p).max() < 1e-6


def test_each_row_gets_its_own_whatever_the_order_of_rows(model, tokens, template):
    p = by_order(model, CONFIG, tokens, template, 8)
    order = np.random.default_rng(1).permutation(50)
    assert (
        np.abs(by_order(model, CONFIG, tokens.take(order), template, 8) - p[:, order]).max() < 1e-6
    )


def test_dropout_is_off_and_nothing_is_drawn(model, tokens, template):
    model.train()
    state = torch.get_rng_state()
    p, q = (by_order(model, CONFIG, tokens, template, 8, dual_order=False) for _ in range(2))
    assert np.array_equal(p, q) and not model.training and torch.equal(torch.get_rng_state(), state)


def test_labels_play_no_part(model, tokens, template, pairs_of):
    rows = [tokens.pair(row) for row in range(len(tokens))]
    unlabelled = pairs_of(rows, labels=np.full(len(rows), -1))
    p, q = (by_order(model, CONFIG, t, template, 8) for t in (tokens, unlabelled))
    assert np.array_equal(p, q)


def test_no_rows_are_no_rows(model, tokens, template):
    assert by_order(model, CONFIG, tokens.take(np.array([], dtype=int)), template, 8).shape == (
        2,
        0,
        3,
    )


def test_who_is_given_segments(small_params, bpe, tiny_backbone):
    def segments(**model: object) -> bool:
        settings = small_params(**{f"model__{name}": value for name, value in model.items()}).model
        return collator_for(classifier.build(settings, bpe), Template.of(bpe)).segments

    assert segments(pooling="spans") and segments(pooling="cls")
    assert segments(pooling="spans", backbone=str(tiny_backbone("bert")))
    assert not segments(pooling="cls", backbone=str(tiny_backbone("bert")))
    assert not segments(pooling="cls", backbone=str(tiny_backbone("modernbert")))


def test_class_weights_are_divided_out_again(model, tokens, template):
    weights = np.array([0.5, 1.0, 2.0])
    configs = CONFIG, replace(CONFIG, class_weights=tuple(weights))
    plain, p = (by_order(model, config, tokens, template, 8)[0] for config in configs)
    expected = plain / weights / (plain / weights).sum(axis=1, keepdims=True)
    assert np.abs(p - expected).max() < 1e-12 and np.abs(p - plain).max() > 0.05


def test_several_processes_share_the_rows(model, tokens, template):
    shares = [
        by_order(model, CONFIG, tokens, template, 8, share=(process, 3)) for process in range(3)
    ]
    assert np.array_equal(sum(shares), by_order(model, CONFIG, tokens, template, 8))
    assert all((share == 0).any() for share in shares)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory.\nGPU 0"), None, MemoryError()]
)
def test_out_of_memory_is_one_line_with_the_batch_and_the_param(
    model, tokens, template, monkeypatch, error
):
    def full(*args: object, **kwargs: object) -> None:
        if error is not None:
            raise error
        torch.empty(1 << 60, dtype=torch.uint8)

    monkeypatch.setattr(model, "forward", full)
    with pytest.raises(
        UserError,
        match=r"^Out of memory .* 8 sequences of \d+ tokens .*predict.batch_size \(now 8.*--batch",
    ):
        by_order(model, CONFIG, tokens, template, 8)


def test_other_errors_are_not_memory(model, tokens, template, monkeypatch):
    def fail(**kwargs: object) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(model, "forward", fail)
    with pytest.raises(RuntimeError, match="something else"):
        by_order(model, CONFIG, tokens, template, 8)


def test_bfloat16_is_for_gpus_that_compute_it_themselves(monkeypatch):
    asked = []

    def supported(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert dtype_of("auto", gpu) == torch.float16 and asked == [False]
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert dtype_of("auto", gpu) == torch.bfloat16 and dtype_of("auto", cpu) == torch.float32
    assert dtype_of("fp32", gpu) == torch.float32 and dtype_of("bf16", cpu) == torch.bfloat16
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        dtype_of("fp16", cpu)


def test_lower_precision_is_near_and_what_leaves_its_range_is_computed_again(
    model, tokens, template, monkeypatch
):
    said: list[str] = []
    full, lower = (
        by_order(model, CONFIG, tokens, template, 8, precision=p, say=said.append)
        for p in ("fp32", "bf16")
    )
    assert not said and 0 < np.abs(full - lower).max() < 0.02
    forward = model.forward

    def overflowing(**inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        out = forward(**inputs)
        scale = torch.inf if torch.is_autocast_enabled("cpu") else 1.0
        return {"logits": out["logits"] * scale}

    monkeypatch.setattr(model, "forward", overflowing)
    again = by_order(model, CONFIG, tokens, template, 8, precision="bf16", say=said.append)
    assert np.array_equal(again, full) and "computed in float32" in said[0]


WINDOWED = [
    replace(CONFIG, max_length=24, truncation=rule, windows=4, class_weights=weights)
    for rule, weights in (("longest_first", (1.0, 1.0, 1.0)), ("proportional", (0.5, 1.0, 2.0)))
]


@pytest.mark.parametrize("config", WINDOWED)
def test_windows_obey_the_laws_of_one_input(model, tokens, template, pairs_of, config):
    orders = by_order(model, config, tokens, template, 8)
    other = by_order(model, config, exchanged(tokens, pairs_of), template, 8)
    assert orders.shape == (2, 50, 3) and np.abs(orders.sum(axis=-1) - 1).max() < 1e-12
    assert np.array_equal(swap_probabilities(other.mean(axis=0)), orders.mean(axis=0))
    assert np.abs(by_order(model, config, tokens, template, 3) - orders).max() < 1e-6
    shares = [by_order(model, config, tokens, template, 8, share=(k, 3)) for k in range(3)]
    assert np.array_equal(sum(shares), orders)
    one = by_order(model, replace(config, windows=1), tokens, template, 8)
    differ = np.abs(orders - one).max(axis=(0, 2)) > 1e-9
    long = tokens.lengths() + 4 > 24
    assert not differ[~long].any() and differ[long].mean() > 0.5


def test_a_pair_has_the_mean_of_its_windows(model, tokens, template):
    config = WINDOWED[0]
    dataset = PairDataset(tokens, 24, template, cut=config.cut)
    row = int(tokens.lengths().argmax())
    shown = [dataset[row, False, k] for k in range(dataset.windows(row))]
    with torch.inference_mode():
        logits = model.eval()(**collator_for(model, template)(shown))["logits"].double()
    expected = torch.softmax(logits, dim=1).mean(dim=0).numpy()
    assert len(shown) > 1
    assert by_order(model, config, tokens, template, 8)[0, row] == pytest.approx(expected, abs=1e-6)


def test_more_tokens_are_read_than_in_training(model, tokens, template):
    short = replace(CONFIG, max_length=24, judged_length=40)
    assert np.array_equal(
        by_order(model, short, tokens, template, 8), by_order(model, CONFIG, tokens, template, 8)
    )
