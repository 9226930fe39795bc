"""Reading votes strictly: each fault ends as a rejected row or as one line for the user."""

import csv
import gzip
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairpref.data import cells
from pairpref.data.quarantine import REASONS, RowError
from pairpref.data.votes import RejectedRow, Row, read_unjudged, read_votes
from pairpref.errors import UserError
from pairpref.pairs import TEXTS

HEADER = [
    "id",
    "model_a",
    "model_b",
    "prompt",
    "response_a",
    "response_b",
    "winner_model_a",
    "winner_model_b",
    "winner_tie",
]


def fields(id="7", prompt='["p"]', a='["a"]', b='["b"]', winners=(1, 0, 0)) -> list[str]:
    return [id, "x", "y", prompt, a, b, *map(str, winners)]


def csv_bytes(*rows: list[str], header=HEADER) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue().encode()


def read(tmp_path, content: bytes, name="votes.csv") -> list[Row | RejectedRow]:
    path = tmp_path / name
    path.write_bytes(content)
    return list(read_votes(path).rows)


def refused(tmp_path, content: bytes, name="votes.csv") -> str:
    with pytest.raises(UserError) as error:
        read(tmp_path, content, name)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_good_row(tmp_path):
    [row] = read(
        tmp_path,
        csv_bytes(fields(prompt='["p", null]', a='["é", ""]', b='["b", null]', winners=(0, 0, 1))),
    )
    assert (row.line, row.id, row.label) == (2, "7", 2)
    assert (
        row.prompt.turns == ("p", None)
        and row.response_a.turns == ("é", "")
        and row.response_b.turns == ("b", None)
    )
    assert row.prompt.source == '["p", null]'


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    ("reason", "row"),
    [
        ("wrong_fields", [*fields(), "extra"]),
        ("wrong_fields", fields()[:-1]),
        ("broken_json", fields(a='["a"')),
        ("broken_json", fields(a="")),
        ("broken_json", fields(a='["NUL \x00 in text"]')),
        ("broken_json", fields(a='["a", NaN]')),
        ("broken_json", fields(a="[" + "9" * 5000 + "]")),
        ("broken_json", fields(a="['eval']")),
        ("duplicate_keys", fields(a='[{"k": 1, "k": 2}]')),
        ("too_deep", fields(a="[" * 100_000)),
        ("too_deep", fields(a="[" * 40 + "]" * 40)),
        ("not_text", fields(a="[1]")),
        ("not_text", fields(a="null")),
        ("not_text", fields(a='"a"')),
        ("not_text", fields(a='[{"content": "a"}]')),
        ("no_turns", fields(prompt="[]", a="[]", b="[[]]")),
        ("unequal_turns", fields(a='["a", "more"]')),
        ("several_winners", fields(winners=(1, 1, 0))),
        ("no_winner", fields(winners=(0, 0, 0))),
        ("bad_winner", fields(winners=("", "", ""))),
        ("bad_winner", fields(winners=(2, 0, 0))),
        ("bad_winner", fields(winners=("0.4", "0.6", "0"))),
        ("bad_id", fields(id="")),
        ("bad_id", fields(id="a\x00b")),
        ("too_long", fields(a=json.dumps(["x" * 10_000_000]))),
    ],
)
def test_a_bad_row_is_set_aside_and_the_next_is_read(tmp_path, reason, row):
    bad, good = read(tmp_path, csv_bytes(row, fields(id="8")))
    assert isinstance(bad, RejectedRow) and isinstance(good, Row)
    assert (bad.line, bad.reason, good.line, good.id) == (2, reason, 3, "8")
    assert bad.id == row[0]
    assert reason in REASONS


@pytest.mark.fault(17)
def test_bytes_that_are_not_utf8_cost_their_row(tmp_path):
    content = csv_bytes(fields(a='["é"]'), fields("8"))
    bad, good = read(tmp_path, content.replace("é".encode(), "é".encode("latin-1")))
    assert (bad.reason, good.id) == ("not_utf8", "8")


@pytest.mark.fault(17)
def test_the_first_usable_row_of_an_id_stays(tmp_path):
    rows = read(tmp_path, csv_bytes(fields(a="["), fields(a='["kept"]'), fields(), fields()))
    assert [getattr(row, "reason", "kept") for row in rows] == [
        "broken_json",
        "kept",
        "duplicate_id",
        "duplicate_id",
    ]


def test_an_open_quote_ends_as_one_row(tmp_path):
    rows = read(tmp_path, csv_bytes(fields()) + b'8,x,y,"["p"]\n' + b"9,x,y\n")
    assert [getattr(row, "reason", "kept") for row in rows] == [
        "kept",
        "broken_row",
        "wrong_fields",
    ]
    [_, bad] = read(tmp_path, csv_bytes(fields()) + b'8,x,y,"never closed\n9,x,y\n')
    assert (bad.line, bad.reason) == (3, "broken_row")


def test_lines_are_physical(tmp_path):
    multiline = fields(a='["a"\n,\n"b"]', prompt='["p", "q"]', b='["a", "b"]')
    content = csv_bytes(multiline, fields("8", a="[")).replace(b"8,x", b"\n\n8,x")
    assert [row.line for row in read(tmp_path, content)] == [2, 7]


@pytest.mark.fault(17)
def test_bom_and_crlf_are_nothing(tmp_path):
    content = csv_bytes(fields(), fields("8"))
    assert read(tmp_path, b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n")) == read(
        tmp_path, content
    )


def test_gz(tmp_path):
    content = csv_bytes(fields(), fields("8"))
    assert read(tmp_path, gzip.compress(content), "votes.csv.gz") == read(tmp_path, content)
    assert "not a whole, readable file" in refused(
        tmp_path, gzip.compress(content)[:-9], "cut.csv.gz"
    )
    assert "not a whole, readable file" in refused(tmp_path, content, "named.csv.gz")


def test_columns_may_be_in_any_order_and_more(tmp_path):
    content = csv_bytes(["extra", *reversed(fields())], header=["more", *reversed(HEADER)])
    assert read(tmp_path, content) == read(tmp_path, csv_bytes(fields()))


@pytest.mark.fault(17, 27)
@pytest.mark.parametrize(
    ("content", "name", "says"),
    [
        (b"", "votes.csv", "empty"),
        (b"", "votes.jsonl", "empty"),
        (b"\n\n", "votes.csv", "empty line"),
        (csv_bytes(header=HEADER[:-3]), "votes.csv", "wrong columns"),
        (csv_bytes(header=[*HEADER, "id"]), "votes.csv", "the column id is there twice"),
        (
            csv_bytes(header=[*HEADER, "winner"]),
            "votes.csv",
            "the winner is there twice: as winner_model_a, ",
        ),
        (b"foo,bar\n", "votes.csv", "wrong columns: got foo, bar. Nearest of the forms"),
        (csv_bytes(header=[*HEADER[:3], *HEADER[4:]]), "votes.csv", "missing: prompt"),
        (
            csv_bytes(fields()).replace(b",", b";"),
            "votes.csv",
            "separated by ';'; expected commas. docs/votes.md shows how",
        ),
        (csv_bytes(fields()).replace(b",", b"\t"), "votes.csv", "separated by '\\t'"),
        (csv_bytes(fields()).decode().encode("utf-16"), "votes.csv", "UTF-16"),
        (csv_bytes(fields()).decode().encode("utf-16-le"), "votes.csv", "UTF-16"),
        (b"PK\x03\x04\x00\x00\xff", "votes.csv", ".xlsx file"),
        (b"PAR1\x00", "votes.csv", "ends in .parquet"),
        (b"version https://git-lfs.github.com/spec/v1\n", "votes.parquet", "git lfs pull"),
        (csv_bytes(header=[name.upper() for name in HEADER]), "votes.csv", "missing: id, prompt"),
        (gzip.compress(b"id", mtime=0), "votes.csv", "ends in .gz"),
        (b"PK\x03\x04", "votes.xlsx", "save a spreadsheet as CSV"),
        (b"PK\x03\x04", "votes.zip", "Unpack an archive"),
        (b"[]", "votes.json", "convert a JSON document"),
        (b"", "votes.tsv", "ends in .csv"),
        (b"votes", "votes.txt", "ends in .csv, .jsonl"),
        (b"\xff" * 5_000_000, "votes.csv", "no CSV header"),
        (b"votes", "votes.parquet", "not a whole, readable file"),
        (b"", "votes.parquet", "not a whole, readable file"),
        (b"id,prompt\n1,2\n", "votes.jsonl", "no JSON object is in its first lines"),
        (b'[{"id": 1}]\n', "votes.jsonl", "convert a JSON document"),
        (b'{"id": 1}\n' * 200, "votes.jsonl", "wrong columns"),
    ],
)
def test_a_file_that_is_no_votes_file_is_one_line(tmp_path, content, name, says):
    assert says in refused(tmp_path, content, name)


def test_missing_file_and_folder(tmp_path):
    for path, says in (
        (tmp_path / "none.csv", "no such file"),
        (tmp_path / "none.parquet", "no such file"),
        (tmp_path / "folder.csv", "is a directory; expected a file"),
        (tmp_path / "loop.csv", "too many levels of symbolic links; expected a file"),
    ):
        if "folder" in path.name:
            path.mkdir()
        if "loop" in path.name:
            path.symlink_to(path)
        with pytest.raises(UserError, match=says):
            read_votes(path)


def test_a_row_group_is_not_read_at_once(tmp_path):
    """A Parquet file of a million rows may have but one."""
    rng, rows = np.random.default_rng(0), 15_000
    text = [rng.bytes(500).hex() for _ in range(rows)]
    columns = {"id": [*map(str, range(rows))]} | dict.fromkeys(TEXTS, text)
    pq.write_table(pa.table(columns), tmp_path / "test.parquet", use_dictionary=False)
    before, read, most = pa.total_allocated_bytes(), 0, 0
    for row in read_unjudged(tmp_path / "test.parquet").rows:
        read, most = read + isinstance(row, Row), max(most, pa.total_allocated_bytes() - before)
    assert read == rows and most < (tmp_path / "test.parquet").stat().st_size / 3


def jsonl(*lines: object) -> bytes:
    return "".join(
        (line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines
    ).encode()


PAIR = {
    "id": 7,
    "prompt": '["p"]',
    "response_a": ["a"],
    "response_b": [["b"]],
    "winner_model_a": 0,
    "winner_model_b": True,
    "winner_tie": 0.0,
}


def test_json_lines_of_pairs(tmp_path):
    [row] = read(tmp_path, jsonl(PAIR), "votes.jsonl")
    assert (row.line, row.id, row.label) == (1, "7", 1)
    assert [c.turns for c in (row.prompt, row.response_a, row.response_b)] == [
        ("p",),
        ("a",),
        ("b",),
    ]
    assert row.response_b.source == '[["b"]]'


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("broken_row", '{"id": 7'),
        ("broken_row", "[1, 2]"),
        ("broken_row", "null"),
        ("broken_row", json.dumps({**PAIR, "id": float("nan")})),
        ("duplicate_keys", '{"id": 1, "id": 2}'),
        ("too_deep", "[" * 100_000),
        ("wrong_fields", {"id": 7}),
        ("bad_id", {**PAIR, "id": True}),
        ("bad_id", {**PAIR, "id": None}),
        ("bad_id", {**PAIR, "id": "\ud83d"}),
        ("not_text", {**PAIR, "response_a": {"a": 1}}),
        ("not_text", {**PAIR, "response_a": None}),
        ("too_long", {**PAIR, "response_a": ["x" * 10_000_000]}),
        ("too_long", {**PAIR, "response_a": [None] * 40_000}),
        ("bad_winner", {**PAIR, "winner_tie": [[[0]]]}),
    ],
)
def test_bad_json_lines(tmp_path, reason, line):
    bad, good = read(tmp_path, jsonl(line, "", {**PAIR, "id": 8}), "votes.jsonl")
    assert (bad.line, bad.reason, good.line, good.id) == (1, reason, 3, "8")


def test_text_and_label(tmp_path):
    labels = [0, 1.0, 2, "0", "a", "B", "tie", "2.0", 3, None, True, "C"]
    path = tmp_path / "votes.jsonl"
    path.write_bytes(jsonl(*({"text": f"t{i}", "label": label} for i, label in enumerate(labels))))
    votes = read_votes(path)
    rows = list(votes.rows)
    assert votes.form == "text" and votes.plain == {"text": True}
    assert [getattr(row, "label", None) for row in rows] == [
        0,
        1,
        2,
        0,
        0,
        1,
        2,
        2,
        None,
        None,
        None,
        None,
    ]
    assert [row.reason for row in rows[8:]] == ["bad_label"] * 4
    assert (rows[0].id, rows[0].prompt, rows[0].response_a.turns, rows[0].response_b) == (
        "1",
        None,
        ("t0",),
        None,
    )


@pytest.mark.parametrize("text", [None, ["a list"], [{"role": "user", "content": "x"}], 7])
def test_a_single_text_is_a_text(tmp_path, text):
    [row] = read(tmp_path, jsonl({"text": text, "label": 0}), "votes.jsonl")
    assert row.reason == "not_text"


def test_unjudged_rows_are_all_there(tmp_path):
    path = tmp_path / "test.csv"
    path.write_bytes(
        csv_bytes(
            ["7", '["p"]', '["a"]', '["b"]'], ["7", "[", "", ""], ["8"], header=["id", *HEADER[3:6]]
        )
    )
    rows = list(read_unjudged(path).rows)
    assert [(row.id, isinstance(row, Row)) for row in rows] == [
        ("7", True),
        ("7", False),
        ("8", False),
    ]


def test_turns_are_marked_where_there_are_several():
    assert cells.join(["only"]) == "only"
    assert cells.join([""]) == ""
    assert cells.join([None]) == cells.NO_TEXT
    assert cells.join(["one", None, ""]) == f"Turn 1:\none\n\nTurn 2:\n{cells.NO_TEXT}\n\nTurn 3:\n"


NESTED = st.recursive(
    st.none() | st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=12
)


@given(st.lists(NESTED, min_size=1))
def test_flattening_keeps_order_and_nesting_is_nothing(value):
    def leaves(x):
        return [leaf for item in x for leaf in leaves(item)] if isinstance(x, list) else [x]

    if leaves(value):
        assert (
            cells.parse(json.dumps(value)).turns
            == cells.parse(value).turns
            == cells.parse([[value]]).turns
            == tuple(leaves(value))
        )
    else:
        with pytest.raises(RowError):
            cells.parse(value)


def test_a_line_too_long_is_one_bad_row(tmp_path):
    row = {"prompt": "p", "response_a": "a", "response_b": "b", "winner": "tie"}
    lines = [
        json.dumps({"id": i} | row | ({"response_a": "y" * 33_000_000} if i == 2 else {}))
        for i in (1, 2, 3)
    ]
    (tmp_path / "votes.jsonl").write_text("\n".join(lines))
    first, second, third = read_votes(tmp_path / "votes.jsonl").rows
    assert (second.line, second.reason) == (2, "too_long") and [first.line, third.line] == [1, 3]
