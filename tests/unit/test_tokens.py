"""Tokenised rows: what is saved comes back, in the same bytes, and rows in any order."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairpref.text import tokenizer as tokenizers
from pairpref.text import tokens as token_files
from pairpref.text.tokens import Tokens, tokenize

ROWS = [([1, 2], [3], []), ([], [], []), ([4], [], [5, 6, 7]), ([8] * 9, [9] * 5, [10])]
LISTS = st.lists(st.integers(0, 5000), max_size=6)


def same(one: Tokens, two: Tokens) -> bool:
    rows = len(one) == len(two) and all(
        (b is None and d is None) or np.array_equal(b, d)
        for row in range(len(one))
        for b, d in zip(one.pair(row), two.pair(row), strict=True)
    )
    columns = ("ids", "labels", "groups", "folds")
    return (
        rows
        and one.single == two.single
        and all(np.array_equal(getattr(one, c), getattr(two, c)) for c in columns)
    )


def files(folder) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@settings(max_examples=15)
@given(rows=st.lists(st.tuples(LISTS, LISTS, LISTS), min_size=1, max_size=6), single=st.booleans())
def test_what_is_saved_comes_back(tmp_path_factory, pairs_of, rows, single):
    tokens = pairs_of(rows, single=single)
    folder = tmp_path_factory.mktemp("tokens") / "saved"
    token_files.save(tokens, folder)
    loaded = token_files.load(folder)
    assert same(tokens, loaded)
    assert all(values.dtype == np.int32 for values, _ in loaded.parts)


def test_the_same_tokens_are_the_same_bytes(tmp_path, pairs_of):
    for name in ("one", "two"):
        token_files.save(pairs_of(ROWS), tmp_path / name)
    token_files.save(token_files.load(tmp_path / "one"), tmp_path / "three")
    assert files(tmp_path / "one") == files(tmp_path / "two") == files(tmp_path / "three")
    token_files.save(pairs_of(ROWS[:3]), tmp_path / "other")
    assert files(tmp_path / "other") != files(tmp_path / "one")


@given(rows=st.lists(st.tuples(LISTS, LISTS, LISTS), min_size=1, max_size=8), data=st.data())
def test_rows_are_taken_in_the_order_asked_for(pairs_of, rows, data):
    tokens = pairs_of(rows)
    wanted = np.array(
        data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=10)), dtype=np.int64
    )
    taken = tokens.take(wanted)
    assert len(taken) == len(wanted)
    for at, row in enumerate(wanted):
        assert all(
            np.array_equal(one, two)
            for one, two in zip(taken.pair(at), tokens.pair(row), strict=True)
        )
    for column in ("ids", "labels", "groups", "folds"):
        assert np.array_equal(getattr(taken, column), getattr(tokens, column)[wanted])
    assert np.array_equal(taken.lengths(), tokens.lengths()[wanted])
    assert same(taken.take(np.arange(len(taken))), taken)


def test_loaded_rows_can_be_taken_too(tmp_path, pairs_of):
    token_files.save(pairs_of(ROWS), tmp_path / "tokens")
    rows = np.array([3, 0, 1])
    assert same(token_files.load(tmp_path / "tokens").take(rows), pairs_of(ROWS).take(rows))


def test_lengths_count_all_three_parts(pairs_of):
    assert pairs_of(ROWS).lengths().tolist() == [3, 0, 4, 15]
    assert pairs_of([]).lengths().tolist() == []


@pytest.fixture
def frame():
    return pd.DataFrame(
        {
            "id": ["7", "3", "5"],
            "prompt": ["oven?", "", "x y"],
            "response_a": ["broth", "a\nb", ""],
            "response_b": ["豆腐", "[SEP]", "d"],
            "label": np.array([2, 0, 1], dtype=np.int8),
            "group": [0, 1, 1],
            "fold": np.array([1, 0, 0], dtype=np.int8),
        },
        index=[10, 4, 99],
    )


@pytest.fixture(scope="module")
def tokenizer(bpe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    bpe.save_pretrained(folder)
    return folder


def test_each_text_is_encoded_once_in_its_place(bpe, tokenizer, frame, monkeypatch):
    encoder = tokenizers.Encoder(bpe)
    tokens = tokenize(frame, tokenizer)
    for row in range(3):
        texts = frame.iloc[row][["prompt", "response_a", "response_b"]]
        assert all(
            np.array_equal(ids, encoder([text])[0])
            for ids, text in zip(tokens.pair(row), texts, strict=True)
        )
    assert tokens.ids.tolist() == ["7", "3", "5"] and not tokens.single
    assert (tokens.labels.tolist(), tokens.groups.tolist(), tokens.folds.tolist()) == (
        [2, 0, 1],
        [0, 1, 1],
        [1, 0, 0],
    )
    monkeypatch.setattr(token_files, "SHARD", 2)
    assert same(tokens, tokenize(frame, tokenizer))


def test_pairs_to_predict_have_no_labels(tokenizer, frame):
    tokens = tokenize(frame[["id", "prompt", "response_a", "response_b"]], tokenizer)
    assert tokens.labels.tolist() == tokens.groups.tolist() == tokens.folds.tolist() == [-1] * 3
    nothing = tokenize(frame.iloc[:0], tokenizer)
    assert len(nothing) == 0 and not nothing.single and nothing.lengths().tolist() == []


def test_single_texts_have_no_b(tokenizer, frame):
    tokens = tokenize(frame.assign(response_b=None), tokenizer)
    assert tokens.single and tokens.pair(0)[2] is None and len(tokens.pair(0)[1])


def test_the_tokenizer_of_a_folder_is_the_one_that_was_saved_last(
    bpe, word_pieces, tmp_path, frame
):
    lengths = []
    for tokenizer in (bpe, tokenizers.load(str(word_pieces("broth"))), bpe):
        tokenizer.save_pretrained(tmp_path)
        lengths.append(tokenize(frame, tmp_path).lengths().tolist())
    assert lengths[0] == lengths[2] != lengths[1]
