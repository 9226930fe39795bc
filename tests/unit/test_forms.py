"""Votes in every published form and kind of file: read to the same pairs, or refused by cause."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairpref.data import cells, forms, values
from pairpref.data.quarantine import REASONS, RowError
from pairpref.data.votes import RejectedRow, Row, read_unjudged, read_votes
from pairpref.errors import UserError
from pairpref.pairs import TEXTS, WINNERS

# 120 votes of one turn or two: more than are looked at to tell plain text from lists.
VOTES = [
    {
        "id": f"{i:03}",
        "turns": [
            [f"prompt {i}, {turn} é" for turn in range(1 + i % 2)],
            ["a", "c"][: 1 + i % 2],
            ["b", ""][: 1 + i % 2],
        ],
        "label": i % 3,
    }
    for i in range(120)
]
SINGLE = [vote for vote in VOTES if len(vote["turns"][0]) == 1]
OF_FORMS = {vote for form in forms.FORMS.values() for vote in form.votes}
OF_VOTES = {column for vote in OF_FORMS for column in vote.columns}
WORDS = ("model_a", "model_b", "tie")


def texts_of(vote: dict) -> dict:
    return dict(zip(TEXTS, vote["turns"], strict=True))


def flags_of(vote: dict) -> dict:
    return {name: int(vote["label"] == i) for i, name in enumerate(WINNERS)}


def as_message(role: str, text: str) -> dict:
    return {"role": role, "content": text}


def conversation(vote: dict, side: int, parts: bool = False) -> list[dict]:
    found = []
    for turn in zip(vote["turns"][0], vote["turns"][side], strict=True):
        for role, text in zip(("user", "assistant"), turn, strict=True):
            found.append(
                {"role": role, "content": [{"type": "text", "text": text}] if parts else text}
            )
    return found


def conversations(vote: dict, parts: bool = False) -> dict:
    return {
        f"conversation_{name}": conversation(vote, side, parts)
        for side, name in ((1, "a"), (2, "b"))
    }


FORMS: dict[str, Callable[[dict], dict]] = {
    "lists and flags": lambda v: {"id": v["id"], **texts_of(v), **flags_of(v)},
    "JSON in strings": lambda v: {
        "id": v["id"],
        **{k: json.dumps(t) for k, t in texts_of(v).items()},
        **flags_of(v),
    },
    "a winner": lambda v: {"id": v["id"], **texts_of(v), "winner": WORDS[v["label"]]},
    "messages": lambda v: {
        "id": v["id"],
        **{
            k: [as_message("user" if k == "prompt" else "assistant", t) for t in turns]
            for k, turns in texts_of(v).items()
        },
        **flags_of(v),
    },
    "conversations": lambda v: {
        "question_id": v["id"],
        "winner": WORDS[v["label"]],
        **conversations(v),
    },
    "conversations in parts": lambda v: {
        "id": v["id"],
        **flags_of(v),
        **conversations(v, parts=True),
    },
}
PLAIN: dict[str, Callable[[dict], dict]] = {
    "plain text": lambda v: {
        "id": v["id"],
        **{k: t[0] for k, t in texts_of(v).items()},
        "winner": WORDS[v["label"]],
    },
    "true and false": lambda v: {
        "id": v["id"],
        **{k: t[0] for k, t in texts_of(v).items()},
        **{k: str(bool(flag)) for k, flag in flags_of(v).items()},
    },
}


def write(path: Path, rows: list[dict]) -> Path:
    """Rows to a file, of the kind that its ending says."""
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    elif path.suffix == ".csv":
        with open(path, "w", encoding="utf-8", newline="") as file:
            sheet = csv.writer(file)
            sheet.writerow(rows[0])
            sheet.writerows(
                [json.dumps(v) if isinstance(v, list) else v for v in row.values()] for row in rows
            )
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path) -> list[Row | RejectedRow]:
    return list(read_votes(path).rows)


def told(rows: list[Row | RejectedRow]) -> list:
    return [
        (r.id, r.prompt.turns, r.response_a.turns, r.response_b.turns, r.label)
        if isinstance(r, Row)
        else r
        for r in rows
    ]


@pytest.mark.fault(27)
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("form", [*FORMS, *PLAIN])
def test_the_same_votes_in_every_form_and_kind_of_file(tmp_path, form, ending):
    votes = VOTES if form in FORMS else SINGLE
    path = write(tmp_path / f"votes.{ending}", [(FORMS | PLAIN)[form](vote) for vote in votes])
    assert told(read(path)) == [(v["id"], *map(tuple, v["turns"]), v["label"]) for v in votes]


@pytest.mark.fault(27)
@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("form", [*FORMS, *PLAIN])
def test_pairs_to_predict_in_every_form_and_kind_of_file(tmp_path, form, ending):
    votes = VOTES if form in FORMS else SINGLE
    rows = [(FORMS | PLAIN)[form](vote) for vote in votes]
    unjudged = [
        {name: value for name, value in row.items() if name not in OF_VOTES} for row in rows
    ]
    path = write(tmp_path / f"test.{ending}", unjudged)
    assert told(list(read_unjudged(path).rows)) == [
        (v["id"], *map(tuple, v["turns"]), None) for v in votes
    ]


def test_packed_files(tmp_path):
    plain = write(tmp_path / "votes.jsonl", [FORMS["conversations"](vote) for vote in VOTES])
    packed = tmp_path / "votes.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read(packed) == read(plain)
    assert "Unpack" in refused(tmp_path / "votes.parquet.gz", "")


def refused(path: Path, content: str) -> str:
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as error:
        read(path)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


def one(tmp_path: Path, **cells: object) -> Row | RejectedRow:
    row = {"id": "1", **texts_of(VOTES[0]), "winner": "tie"} | cells
    return read(write(tmp_path / "votes.jsonl", [row]))[0]


class TestPreference:
    FORMS = {
        "strings": lambda v: {
            "prompt": v["turns"][0][0],
            "chosen": v["turns"][1][0],
            "rejected": v["turns"][2][0],
        },
        "answers as messages": lambda v: {
            "prompt": [as_message("user", v["turns"][0][0])],
            "chosen": [as_message("assistant", v["turns"][1][0])],
            "rejected": [as_message("assistant", v["turns"][2][0])],
        },
        "whole conversations": lambda v: {
            "prompt": v["turns"][0][0],
            "chosen": conversation(v, 1),
            "rejected": conversation(v, 2),
        },
        "no prompt of its own": lambda v: {
            "chosen": conversation(v, 1),
            "rejected": conversation(v, 2),
        },
    }

    @pytest.mark.fault(27)
    @pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
    @pytest.mark.parametrize("form", FORMS)
    def test_what_was_chosen_has_won_on_whichever_side(self, tmp_path, form, ending):
        rows = [{"id": vote["id"]} | self.FORMS[form](vote) for vote in SINGLE]
        found = read(write(tmp_path / f"votes.{ending}", rows))
        assert [row.prompt.turns for row in found] == [tuple(vote["turns"][0]) for vote in SINGLE]
        for row in found:
            assert (row.response_a.turns, row.response_b.turns)[row.label] == ("a",)
            assert (row.response_a.turns, row.response_b.turns)[1 - row.label] == ("b",)
        rows = write(tmp_path / f"test.{ending}", rows)
        assert all(row.response_a.turns == ("a",) for row in read_unjudged(rows).rows)

    @pytest.mark.fault(27)
    def test_the_label_says_nothing_and_order_moves_no_side(self, tmp_path):
        rows = [{"id": str(i), "prompt": "p", "chosen": "x", "rejected": "y"} for i in range(2_000)]
        labels = {row.id: row.label for row in read(write(tmp_path / "votes.csv", rows))}
        assert 900 < sum(labels.values()) < 1_100
        assert {
            row.id: row.label for row in read(write(tmp_path / "votes.csv", rows[::-1]))
        } == labels
        unnamed = [{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in rows]
        found = read(write(tmp_path / "votes.csv", unnamed))
        assert [row.id for row in found] == [str(line) for line in range(2, 2_002)]
        assert 900 < sum(row.label for row in found) < 1_100

    def test_what_was_asked_before_belongs_to_both(self, tmp_path):
        asked = [
            as_message("user", "one"),
            as_message("assistant", "first"),
            as_message("user", "two"),
        ]
        [row] = read(
            write(
                tmp_path / "votes.jsonl",
                [{"id": 3, "prompt": asked, "chosen": "x", "rejected": "y"} for _ in "1"],
            )
        )
        assert row.prompt.turns == ("one", "two")
        assert {row.response_a.turns, row.response_b.turns} == {("first", "x"), ("first", "y")}

    @pytest.mark.fault(27)
    @pytest.mark.parametrize("again", [flags_of(VOTES[0]), {"winner": "model_b"}])
    def test_a_winner_beside_it_is_refused(self, tmp_path, again):
        row = self.FORMS["strings"](SINGLE[0]) | again
        line = refused(tmp_path / "votes.jsonl", json.dumps(row))
        assert f"there twice: as chosen, rejected and as {', '.join(again)}." in line
        assert len(list(read_unjudged(tmp_path / "votes.jsonl").rows)) == 1

    def test_no_prompt(self, tmp_path):
        [bad] = read(write(tmp_path / "votes.jsonl", [{"chosen": "x", "rejected": "y"}]))
        assert bad.reason == "no_prompt"


class TestPlainText:
    @pytest.mark.fault(27)
    def test_what_looks_like_a_list_stays_text(self, tmp_path):
        rows = [
            {"id": i, "prompt": "p", "response_a": f"answer {i}", "response_b": "b", "winner": "a"}
            for i in range(20)
        ]
        rows[3]["response_a"], rows[4]["response_a"] = "[1] a footnote", '["a", "list"]'
        found = read(write(tmp_path / "votes.csv", rows))
        assert [row.response_a.turns for row in found[3:5]] == [
            ("[1] a footnote",),
            ('["a", "list"]',),
        ]
        assert found[4].response_a.source == '["a", "list"]'

    @pytest.mark.fault(27)
    def test_a_column_of_both_is_refused(self, tmp_path):
        rows = [
            {
                "id": i,
                "prompt": "p",
                "response_a": "a" if i % 3 else '["a"]',
                "response_b": "b",
                "winner": "a",
            }
            for i in range(30)
        ]
        with pytest.raises(
            UserError, match="response_a holds JSON lists in 10 of the first 30 rows and plain text"
        ):
            read(write(tmp_path / "votes.csv", rows))

    @pytest.mark.parametrize("text", ["plain", "['Python']", '["never closed'])
    def test_text_among_lists_is_set_aside(self, tmp_path, text):
        rows = [
            {
                "id": i,
                "prompt": '["p"]',
                "response_a": '["a"]',
                "response_b": '["b"]',
                "winner": "a",
            }
            for i in range(300)
        ]
        rows[5]["response_a"] = rows[250]["response_a"] = text
        bad = [
            row for row in read(write(tmp_path / "votes.csv", rows)) if isinstance(row, RejectedRow)
        ]
        assert [(row.line, row.reason) for row in bad] == [(7, "broken_json"), (252, "broken_json")]
        assert all(row.excerpt == f"response_a: {text}" for row in bad)

    def test_a_whole_column_of_python_lists_is_no_text(self, tmp_path):
        rows = [
            {
                "id": i,
                "prompt": "['p']",
                "response_a": "['a']",
                "response_b": "['b']",
                "winner": "a",
            }
            for i in range(3)
        ]
        assert {row.reason for row in read(write(tmp_path / "votes.csv", rows))} == {"broken_json"}


class TestMessages:
    def test_parts_roles_and_nulls(self):
        content = [
            {"type": "text", "text": "see"},
            {"type": "image", "image": "…"},
            {"type": "text", "text": "this"},
            "and",
        ]
        talk = cells.parse(
            [
                as_message("system", "be brief"),
                {"role": "User", "content": content},
                {"role": "assistant", "content": None},
            ]
        )
        assert talk.asks == ("be brief\n\nsee\n[image]\nthis\nand",) and talk.answers == (None,)

    @pytest.mark.parametrize(
        ("reason", "item"),
        [
            ("bad_role", as_message("tool", "x")),
            ("not_text", {"role": "user"}),
            ("not_text", "x"),
            ("not_text", {"role": "user", "content": 7}),
            ("not_text", {"role": "user", "content": [{"type": "text"}]}),
            ("not_text", {"role": "user", "content": [7]}),
        ],
    )
    def test_what_is_no_message(self, reason, item):
        with pytest.raises(RowError) as refused:
            cells.parse([as_message("user", "x"), item])
        assert refused.value.reason == reason

    @pytest.mark.fault(27)
    @pytest.mark.parametrize(
        ("reason", "cells"),
        [
            ("bad_role", {"response_a": [as_message("tool", "x")]}),
            ("unequal_turns", {"response_a": [as_message("assistant", "x")] * 2}),
            ("no_turns", {"prompt": [as_message("assistant", "x")]}),
            (
                "prompts_differ",
                {"response_a": conversation(VOTES[0], 1), "response_b": conversation(VOTES[2], 2)},
            ),
            ("prompts_differ", {"response_a": conversation(VOTES[0], 1)}),
            ("no_prompt", {"prompt": None}),
        ],
    )
    def test_what_does_not_go_together(self, tmp_path, reason, cells):
        assert one(tmp_path, **cells).reason == reason


class TestValues:
    @pytest.mark.fault(27)
    @pytest.mark.parametrize("one", [1, 1.0, True, "1", "1.0", "1e0", "true", "TRUE", " 1 ", "+1"])
    def test_flags(self, one):
        assert values.flag(one) == 1

    @pytest.mark.parametrize("zero", [0, 0.0, False, "0", "0.0", "0e5", "False", "-0"])
    def test_flags_of_nothing(self, zero):
        assert values.flag(zero) == 0

    @pytest.mark.parametrize(
        "value", [2, 0.5, "", "yes", None, "1_0", "nan", [1], {}, 10**400, "9" * 5000, "1e99999"]
    )
    def test_no_flags(self, value):
        assert values.flag(value) is None

    @pytest.mark.fault(27)
    @pytest.mark.parametrize(
        ("label", "written"),
        [
            (0, [0, 0.0, "0", "0.0", "a", "A", " A ", "model_a", "Model A", "response_a"]),
            (1, [1, "1.0", "b", "model_b", "MODEL_B"]),
            (2, [2, 2.0, "2.0", "tie", "TIE", "Tie", "tie (bothbad)", "both_bad", "draw"]),
            (None, [3, -1, 1.5, True, None, "", "c", "neither", "model_c", [], float("nan")]),
        ],
    )
    def test_labels(self, label, written):
        assert {values.label(value) for value in written} == {label}

    @pytest.mark.fault(27)
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("007", "007"),
            ("1000.0", "1000.0"),
            (7, "7"),
            (1000.0, "1000"),
            (2**70, str(2**70)),
            (-1.0, "-1"),
        ],
    )
    def test_ids(self, value, text):
        assert values.identifier(value) == text

    @pytest.mark.parametrize(
        "value", [None, True, 1.5, 2.0**60, float("nan"), float("inf"), [], b"x"]
    )
    def test_no_ids(self, value):
        assert values.identifier(value) == ""

    @given(st.integers(-(2**53) + 1, 2**53 - 1))
    def test_a_float_is_the_same_id_as_its_integer(self, number):
        assert values.identifier(float(number)) == values.identifier(number) == str(number)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("form", [*FORMS, *PLAIN, "preference"])
def test_an_empty_prompt_is_a_prompt(tmp_path, form, ending):
    """In every form; where there is none, not even an empty one, the reason is no_prompt."""
    vote = SINGLE[0] | {"turns": [[""], ["a"], ["b"]]}
    make = (FORMS | PLAIN | {"preference": TestPreference.FORMS["strings"]})[form]
    [row] = read(write(tmp_path / f"votes.{ending}", [make(vote)]))
    assert row.prompt.turns == ("",)


@pytest.mark.fault(27)
def test_ties_of_two_bad_answers_are_told(tmp_path):
    rows = [
        {"id": str(i), **texts_of(VOTES[0]), "winner": word}
        for i, word in enumerate([*WORDS, "tie (bothbad)", "both_bad", "?"])
    ]
    found = read(write(tmp_path / "votes.jsonl", rows))
    assert [getattr(row, "both_bad", None) for row in found] == [
        False,
        False,
        False,
        True,
        True,
        None,
    ]
    assert (found[-1].reason, found[-1].excerpt) == ("bad_winner", "winner: ?")


def test_every_vote_has_its_reason_and_every_form_and_reason_its_row_in_the_docs():
    assert {vote.reason for vote in OF_FORMS} - {""} <= REASONS.keys()
    page = (Path(__file__).parents[2] / "docs/votes.md").read_text(encoding="utf-8")
    assert all(f"\n| {name} |" in page for name in forms.FORMS)
    assert all(f"`{reason}`" in page for reason in REASONS)


@pytest.mark.fault(27)
def test_the_first_form_of_the_table_whose_columns_are_there(tmp_path):
    both = {
        "id": "1",
        **texts_of(VOTES[0]),
        **conversations(VOTES[2]),
        "chosen": "x",
        "rejected": "y",
        "winner": "a",
    }
    assert read_votes(write(tmp_path / "a.jsonl", [both])).form == "conversations"
    del both["conversation_a"]
    assert read_votes(write(tmp_path / "b.jsonl", [both])).form == "pairs"
    del both["winner"]
    assert read_votes(write(tmp_path / "c.jsonl", [both])).form == "preference"


class TestSheets:
    HEADER = "id,prompt,response_a,response_b,winner"

    def rows(self, tmp_path: Path, *lines: str, header: str = HEADER) -> list[Row | RejectedRow]:
        path = tmp_path / "votes.csv"
        path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
        return read(path)

    @pytest.mark.fault(27)
    def test_empty_columns_without_a_name_are_none(self, tmp_path):
        lines = ("1,p,a,b,tie,,", "2,p,a,b,tie", "3,p,a,b,tie,,x", "4,p,a,b", "5,p,a,b,tie,,,")
        full, short, *bad = self.rows(tmp_path, *lines, header=self.HEADER + ",,")
        assert [(row.id, row.label) for row in (full, short)] == [("1", 2), ("2", 2)]
        assert [(row.reason, row.excerpt) for row in bad] == [
            ("wrong_fields", "a column without a name is not empty: x"),
            ("wrong_fields", "4 fields, expected 5: 4"),
            ("wrong_fields", "8 fields, expected 5: 5"),
        ]

    def test_a_column_without_a_name_before_them_is_no_matter(self, tmp_path):
        [row] = self.rows(tmp_path, "0,1,p,a,b,tie", header="," + self.HEADER)
        assert (row.id, row.label) == ("1", 2)

    @pytest.mark.fault(27)
    @pytest.mark.parametrize(
        ("line", "column", "identifier"),
        [
            ('2,p,"a "lone" quote",b,tie', "response_a", "2"),
            ('2,"p,a,b",x"y,"b"c,tie', "response_b", "2"),
            ('2,"p",a,b,"tie', "winner", "2"),
            ('"2"x,p,a,b,tie', "id", ""),
        ],
    )
    def test_the_damaged_cell_is_named(self, tmp_path, line, column, identifier):
        kept, bad = self.rows(tmp_path, "1,p,a,b,tie", line)
        assert (kept.id, bad.id, bad.line, bad.reason) == ("1", identifier, 3, "broken_row")
        assert bad.excerpt.startswith(f"{column}: ")

    def test_what_may_be_the_rest_of_a_damaged_row_has_no_id(self, tmp_path):
        found = self.rows(
            tmp_path,
            '1,p,"begins',
            'here "and" there',
            'and ends, here",b,tie',
            "2,p,a,b,tie",
            "3,p",
        )
        assert [(row.line, row.id) for row in found] == [(2, ""), (4, ""), (5, "2"), (6, "3")]


def test_rows_of_parquet_that_are_not_utf8_cost_their_row(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    def texts(*values: bytes) -> pa.Array:
        return pa.array(values, pa.binary()).view(pa.string())

    table = {"id": texts(b"1", b"2", b"3"), "winner": texts(b"tie", b"tie", b"tie")}
    table |= {
        "prompt": texts(b"p", b"p", b"p"),
        "response_a": texts(b"a", b"\xff", b"a"),
        "response_b": texts(b"b", b"b", b"b"),
    }
    pq.write_table(pa.table(table), tmp_path / "votes.parquet")
    found = read(tmp_path / "votes.parquet")
    assert [getattr(row, "reason", "kept") for row in found] == ["kept", "not_utf8", "kept"]
    assert [row.line for row in found] == [1, 2, 3]


def test_nobody_prefers_one_of_two_same_answers(tmp_path):
    rows = [
        {"id": "1", "prompt": "p", "chosen": "c", "rejected": "c"},
        {"id": "2", "prompt": "p", "chosen": "c", "rejected": "d"},
    ]
    same, other = read(write(tmp_path / "votes.jsonl", rows))
    assert same.reason == "same_answers" and isinstance(other, Row)
    # To predict, it is as good a pair as any.
    assert [row.response_a.turns for row in read_unjudged(tmp_path / "votes.jsonl").rows] == [
        ("c",)
    ] * 2


@pytest.mark.parametrize(("prompt", "differs"), [("q", False), ("other", True), (None, False)])
@pytest.mark.parametrize("system", [(), ("be kind",)])
def test_a_prompt_of_its_own_is_that_of_the_messages(tmp_path, prompt, differs, system):
    begins = [as_message("system", text) for text in system] + [as_message("user", "q")]
    row = {"prompt": prompt} | {
        n: [*begins, as_message("assistant", n)] for n in ("chosen", "rejected")
    }
    (found,) = read(write(tmp_path / "votes.jsonl", [row]))
    assert getattr(found, "reason", "") == ("prompts_differ" if differs else "")


class TestFewStrings:
    PAIR = {"id": "1", "prompt": "Hi", "response_a": "Hello", "response_b": ""}

    def told(self, path: Path, usual: dict[str, bool] | None = None, **cells: str) -> list:
        write(path / "test.csv", [self.PAIR | cells])
        (row,) = read_unjudged(path / "test.csv", usual).rows
        return (
            [row.reason]
            if isinstance(row, RejectedRow)
            else [row.prompt.turns, row.response_a.turns, row.response_b.turns]
        )

    def test_blank_ones_are_as_the_other_columns(self, tmp_path):
        assert self.told(tmp_path) == [("Hi",), ("Hello",), ("",)]

    def test_they_are_read_like_the_votes(self, tmp_path):
        like_list = '["a", "b"]'
        plain, lists = (
            dict.fromkeys(("prompt", "response_a", "response_b"), True),
            {"prompt": False},
        )
        assert self.told(tmp_path, plain, prompt=like_list) == [(like_list,), ("Hello",), ("",)]
        assert self.told(tmp_path, prompt=like_list) == ["unequal_turns"]
        assert self.told(tmp_path, lists, prompt='["a"]') == [("a",), ("Hello",), ("",)]
        assert self.told(tmp_path, lists) == [("Hi",), ("Hello",), ("",)]

    def test_many_say_it_themselves(self, tmp_path):
        rows = [
            {"id": str(i), "prompt": '["p"]', "response_a": '["a"]', "response_b": '["b"]'}
            for i in range(5)
        ]
        write(tmp_path / "test.csv", rows)
        usual = dict.fromkeys(("prompt", "response_a", "response_b"), True)
        assert {row.prompt.turns for row in read_unjudged(tmp_path / "test.csv", usual).rows} == {
            ("p",)
        }
