"""Mangled votes: each row is either read or rejected with a reason, and nothing else is raised.

A good file of the arena is damaged where its structure is (cells, quotes, delimiters, JSON), with a
fixed seed.
"""

import csv
import gzip
import io
import json
from collections.abc import Callable
from random import Random

import pandas as pd
import pytest
import yaml

from pairpref import params, paths
from pairpref.data import arena, quarantine
from pairpref.data.clean import clean_row
from pairpref.data.quarantine import REASONS
from pairpref.data.votes import RejectedRow, Row, read_unjudged, read_votes
from pairpref.errors import UserError
from pairpref.pairs import TEXTS, WINNERS
from pairpref.survey import survey

ROWS, FILES = 3_000, 120
SETTINGS = params.Params.model_validate(yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8")))
COLUMNS = ["id", *TEXTS, *WINNERS]

PIECES = (
    '"', "'", ",", ";", "\n", "\r", "\r\n", "\0", "\\", "\\u", "\\ud83d", "[", "]", "[[", "{", "}",
    ":", "null", "NaN", "1e999", "-Infinity", "true", "\ufeff", "\u2028", "&#0;", "&#xD800;", "Ã©",
    "=cmd()", "", " ", '""', "9" * 5000, "[" * 2000,
    '{"a":1,"a":2}',
)  # fmt: skip


def good_rows(count: int, rng: Random) -> list[list[str]]:
    simulate = SETTINGS.simulate.model_copy(
        update={"lossy": 0.1, "nested_lists": 0.3, "null_answers": 0.1}
    )
    votes = (arena.vote(int(rng.random() * 2**40), simulate) for _ in range(count))
    return [
        [str(v.id), *map(json.dumps, v.stored), *(str(int(v.label == i)) for i in range(3))]
        for v in votes
    ]


def inserted(text: str, rng: Random) -> str:
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice(PIECES) + text[at:]


def cut(text: str, rng: Random) -> str:
    return text[: rng.randrange(len(text) + 1)]


def dropped(text: str, rng: Random) -> str:
    at = rng.randrange(max(1, len(text)))
    return text[:at] + text[at + 1 :]


def replaced(text: str, rng: Random) -> str:
    return rng.choice(PIECES)


def swapped(text: str, rng: Random) -> str:
    return text.replace(rng.choice('"[],\\ 0123'), rng.choice(PIECES), 1 + rng.randrange(3))


TEXT_DAMAGE: tuple[Callable[[str, Random], str], ...] = (inserted, cut, dropped, replaced, swapped)


def mangled(cells: list[str], rng: Random) -> list[str]:
    """One row with one to three cells damaged, sometimes a cell too many or too few."""
    cells = list(cells)
    for _ in range(1 + rng.randrange(3)):
        i = rng.randrange(len(cells))
        cells[i] = rng.choice(TEXT_DAMAGE)(cells[i], rng)
    if rng.random() < 0.1:
        cells.insert(rng.randrange(len(cells)), rng.choice(PIECES))
    elif rng.random() < 0.1:
        cells.pop()
    return cells


def account(rows: list[Row | RejectedRow]) -> None:
    """Each row is used as far as it can be: the good ones cleaned, the bad ones written down."""
    for row in rows:
        if isinstance(row, RejectedRow):
            assert row.reason in REASONS
            continue
        for switches in ({}, {"utf8": False}, {"flatten": False}):
            clean = clean_row(row, SETTINGS.clean.model_copy(update=switches))
            for text in (clean.id, clean.prompt, clean.response_a, clean.response_b, clean.key):
                text.encode()
        assert clean.label in (0, 1, 2) and clean.turns > 0


@pytest.mark.fault(17)
def test_mangled_rows_in_sound_csv(tmp_path):
    rng = Random(1)
    rows = [mangled(cells, rng) for cells in good_rows(ROWS, rng)]
    rows = [cells if any(cells) and len(cells) > 1 else ["x", "y"] for cells in rows]
    path = tmp_path / "votes.csv"
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    read = list(read_votes(path).rows)
    assert len(read) == ROWS
    account(read)
    bad = [row for row in read if isinstance(row, RejectedRow)]
    assert ROWS // 2 < len(bad) < ROWS and len({row.reason for row in bad}) > 7
    quarantine.write(tmp_path / "quarantine.csv", bad)
    with open(tmp_path / "quarantine.csv", encoding="utf-8", newline="") as file:
        assert len(list(csv.reader(file))) == len(bad) + 1
    with pytest.raises(UserError, match="no readable id"):
        survey(path, {}, True, print, None)


def test_no_row_of_a_test_file_is_dropped(tmp_path):
    """Whatever its texts look like, a row with an id gets its prediction, in its place."""
    rng = Random(4)
    rows = [
        [str(i), *mangled(cells[1:4], rng)[:3]] for i, cells in enumerate(good_rows(1_000, rng))
    ]
    path = tmp_path / "test.csv"
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file).writerows([["id", *TEXTS], *rows])
    read = [*read_unjudged(path).rows]
    assert [row.id for row in read] == [row[0] for row in rows]
    assert survey(path, {}, True, print, tmp_path / "bad.csv")[0] == len(rows)
    listed = pd.read_csv(tmp_path / "bad.csv", dtype=str)["id"].tolist()
    bad = [row for row in read if isinstance(row, RejectedRow)]
    assert listed == [row.id for row in bad] and 0.1 < len(bad) / len(rows) < 0.95
    assert all(clean_row(row, SETTINGS.clean) for row in read if isinstance(row, Row))


@pytest.mark.fault(17)
def test_mangled_json_lines(tmp_path):
    rng = Random(2)
    lines = []
    for cells in good_rows(1_000, rng):
        values = dict(zip(COLUMNS, cells, strict=True))
        if rng.random() < 0.5:
            values |= {name: json.loads(values[name]) for name in TEXTS}
        if rng.random() < 0.3:
            values[rng.choice(COLUMNS)] = rng.choice(
                [None, True, 1e999, 10**400, {}, [], [{}], "", [[["x"]]], -1]
            )
        line = json.dumps(values)
        lines.append(
            (line if rng.random() < 0.4 else rng.choice(TEXT_DAMAGE)(line, rng)).replace("\n", " ")
        )
    path = tmp_path / "votes.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    read = list(read_votes(path).rows)
    assert len(read) == sum(not line.isspace() and line != "" for line in lines)
    account(read)


def in_other_forms(cells: list[str]) -> list[dict[str, object]]:
    """The same vote as plain text with one winner, as conversations, and as a preference."""
    identifier, *texts = cells[:4]
    prompt, a, b = (f"text {json.loads(text)}" for text in texts)
    sides = [
        [
            {"role": role, "content": [{"type": "text", "text": text}]}
            for role, text in (("user", prompt), ("assistant", answer))
        ]
        for answer in (a, b)
    ]
    return [
        {"id": identifier, "prompt": prompt, "response_a": a, "response_b": b, "winner": "model_a"},
        {
            "question_id": identifier,
            "conversation_a": sides[0],
            "conversation_b": sides[1],
            "winner": "tie (bothbad)",
        },
        {"prompt": prompt, "chosen": sides[0], "rejected": sides[1]},
    ]


@pytest.mark.fault(17, 27)
@pytest.mark.parametrize("form", range(3))
def test_mangled_rows_of_other_forms(tmp_path, form):
    rng = Random(form)
    votes = [in_other_forms(cells)[form] for cells in good_rows(1_000, rng)]
    path = tmp_path / "votes.csv"
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        sheet = csv.writer(file)
        sheet.writerow(votes[0])
        for vote in votes:
            cells = [
                json.dumps(value) if isinstance(value, list) else value for value in vote.values()
            ]
            sheet.writerow(mangled(cells, rng) if rng.random() < 0.6 else cells)
    read = list(read_votes(path).rows)
    assert len(read) == len(votes) and sum(isinstance(row, Row) for row in read) > len(votes) // 3
    account(read)
    lines = []
    for vote in votes:
        if rng.random() < 0.3:
            vote[rng.choice(list(vote))] = rng.choice(
                [None, True, 10**400, {}, [], [{}], [{"role": 1, "content": [1]}], [[["x"]]]]
            )
        line = json.dumps(vote)
        lines.append(
            (line if rng.random() < 0.4 else rng.choice(TEXT_DAMAGE)(line, rng)).replace("\n", " ")
            + "\n"
        )
    path = tmp_path / "votes.jsonl"
    path.write_text("".join(lines), encoding="utf-8")
    account(list(read_votes(path).rows))


@pytest.mark.fault(17, 27)
def test_mangled_parquet(tmp_path):
    rng = Random(3)
    path = tmp_path / "votes.parquet"
    pd.DataFrame([in_other_forms(cells)[1] for cells in good_rows(60, rng)]).to_parquet(path)
    data, refused = path.read_bytes(), 0
    for _ in range(60):
        path.write_bytes(
            flipped(data, rng) if rng.random() < 0.7 else data[: rng.randrange(len(data))]
        )
        try:
            account(list(read_votes(path).rows))
        except UserError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 20


def flipped(data: bytes, rng: Random) -> bytes:
    flips = bytearray(data)
    for _ in range(1 + rng.randrange(30)):
        flips[rng.randrange(len(flips))] ^= 1 << rng.randrange(8)
    return bytes(flips)


def quotes_lost(data: bytes, rng: Random) -> bytes:
    parts = data.split(b'"')
    return b"".join(part + (b'"' if rng.random() < 0.99 else b"") for part in parts)


FILE_DAMAGE: tuple[Callable[[bytes, Random], bytes], ...] = (
    flipped,
    quotes_lost,
    lambda data, rng: data[: rng.randrange(len(data))],
    lambda data, rng: data[rng.randrange(len(data)) :],
    lambda data, rng: data.replace(b",", rng.choice([b";", b"\t", b",,"]), rng.choice([1, 50, -1])),
    lambda data, rng: data.replace(b"\n", rng.choice([b"\r", b"\r\n", b"\n\n", b""])),
    lambda data, rng: data.decode().encode(
        rng.choice(["utf-16", "utf-16-be", "utf-32", "utf-7", "utf-8-sig"])
    ),
    lambda data, rng: b"".join(rng.sample(data.splitlines(True), k=10)),
    lambda data, rng: data[:200] + rng.randbytes(5_000) + data[200:],
    lambda data, rng: data + b'"' + b"x" * 1_100_000,
)


@pytest.mark.fault(17)
@pytest.mark.parametrize("ending", ["csv", "jsonl", "csv.gz"])
def test_mangled_files(tmp_path, ending):
    rng = Random(ending)
    path = tmp_path / f"votes.{ending}"
    rows = good_rows(40, rng)
    if ending == "jsonl":
        data = "".join(
            json.dumps(dict(zip(COLUMNS, cells, strict=True))) + "\n" for cells in rows
        ).encode()
    else:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([COLUMNS, *rows])
        data = text.getvalue().encode()
    read_at_all = 0
    for i in range(FILES // 3):
        wrecked = FILE_DAMAGE[i % len(FILE_DAMAGE)](data, rng)
        if ending.endswith("gz"):
            packed = gzip.compress(wrecked, 1, mtime=0)
            wrecked = flipped(packed, rng) if rng.random() < 0.3 else packed
        path.write_bytes(wrecked)
        try:
            read = list(read_votes(path).rows)
        except UserError as error:
            assert "\n" not in str(error)
            continue
        read_at_all += 1
        account(read)
        lines = [row.line for row in read]
        assert lines == sorted(set(lines))
    assert read_at_all > FILES // 12
