"""Two files of predictions, compared from the command line."""

import signal
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest

from pairpref import compare
from pairpref.errors import UserError
from pairpref.pairs import ORDERS, PROBABILITIES
from pairpref.stopping import Stopped
from tests.made_up import drawn

N = 300


@pytest.fixture
def files(here):
    """A good and a poor model on the same votes, in another order; and the votes' groups."""
    p, labels = drawn(N, 0)
    ids = np.arange(N)
    votes = pd.DataFrame({"id": ids.astype(str), "label": labels})
    shares = np.tile(p.mean(axis=0), (N, 1))
    for name, q in {"good": p, "poor": shares}.items():
        table = votes.join(pd.DataFrame(q, columns=["p_a", "p_b", "p_tie"]))
        table.sample(frac=1, random_state=len(name)).to_parquet(f"{name}.parquet")
        pd.concat([table.assign(seed=seed) for seed in (0, 1, 2)]).to_csv(
            f"{name}.csv", index=False
        )
    pd.DataFrame({"id": ids.astype(str), "group": ids // 2}).to_parquet("pairs.parquet")
    return {path.name: path for path in here.iterdir()}


def said(capsys, *arguments: str) -> tuple[str, int]:
    with pytest.raises(SystemExit) as end:
        compare.main([*arguments, "--groups", "pairs.parquet"])
    return capsys.readouterr().out, end.value.code


def test_better_worse_and_the_same(files, capsys):
    out, code = said(capsys, "good.parquet", "poor.parquet")
    assert "is better: log loss -" in out and "300 votes on 150 prompts" in out and not code
    out, code = said(capsys, "poor.parquet", "good.parquet")
    assert "is worse: log loss +" in out and code == 1
    out, code = said(capsys, "good.parquet", "good.parquet")
    assert "the same probabilities on all 300 votes" in out and not code


def test_seeds_are_taken_into_account_and_ids_may_be_numbers(files, capsys):
    out, _ = said(capsys, "good.csv", "poor.csv")
    assert "; 3 seeds)" in out


@pytest.mark.fault(27)
def test_ids_are_text(files, capsys):
    """ "007" is not 7, and 7.0 in a Parquet file is 7 in the votes."""
    for name in ("good", "poor"):
        table = pd.read_parquet(f"{name}.parquet")
        table.assign(id="00" + table["id"]).to_csv(f"zeros-{name}.csv", index=False)
        table.assign(id=table["id"].astype(float)).to_parquet(f"floats-{name}.parquet")
    pairs = pd.read_parquet("pairs.parquet")
    pairs.assign(id="00" + pairs["id"]).to_csv("zeros.csv", index=False)
    zeros = ["zeros-good.csv", "zeros-poor.csv", "--groups", "zeros.csv"]
    with pytest.raises(SystemExit) as end:
        compare.main(zeros)
    assert end.value.code == 0 and "better" in capsys.readouterr().out
    assert "better" in said(capsys, "floats-good.parquet", "floats-poor.parquet")[0]
    with pytest.raises(SystemExit) as end:
        compare.main(["zeros-good.csv", "poor.parquet", "--groups", "pairs.parquet"])
    assert end.value.code == 2 and "0 votes are in both" in capsys.readouterr().err


def test_what_cannot_be_compared_is_not_worse(files, capsys):
    for wrong in ("none.parquet", "pairs.parquet"):
        with pytest.raises(SystemExit) as end:
            compare.main([wrong, "poor.parquet"])
        assert end.value.code == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_calibrated_probabilities_count(files, capsys):
    table = pd.read_parquet("poor.parquet").merge(
        pd.read_parquet("good.parquet")[["id", "p_a", "p_b", "p_tie"]], on="id", suffixes=("", "_c")
    )
    table.rename(columns={"p_a_c": "c_a", "p_b_c": "c_b", "p_tie_c": "c_tie"}).to_parquet(
        "both.parquet"
    )
    out, _ = said(capsys, "both.parquet", "good.parquet")
    assert (
        "not shown" in out
        and "c_a, c_b, c_tie were compared with p_a, p_b, p_tie of good.parquet" in out
    )
    assert "were compared" not in said(capsys, "good.parquet", "good.parquet")[0]


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (BrokenPipeError(), 2),
        (OSError(5, "bad disk"), 2),
        (ZeroDivisionError(), 2),
        (Stopped(signal.SIGINT), 130),
    ],
)
def test_no_unexpected_end_counts_as_worse(files, capsys, monkeypatch, end, code):
    monkeypatch.setattr(compare, "compare_files", Mock(side_effect=end))
    assert said(capsys, "good.parquet", "poor.parquet")[1] == code


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: t.iloc[:-1], "299 votes .* 299 votes are in both"),
        (
            lambda t: t.assign(label=(t["label"] + 1) % 3),
            "300 votes are in both, 300 of them with another label. Only predictions of the same",
        ),
        (lambda t: t.drop(columns="p_a"), "p_a, p_b, p_tie should be among them"),
        (lambda t: t.drop(columns="label"), "label should be among them"),
        (lambda t: t.iloc[:0], "no rows"),
        (lambda t: t.assign(id=None), "an id is missing"),
        (lambda t: t.assign(p_a="high"), "p_a, p_b, p_tie are not probabilities"),
        (lambda t: t.assign(label=9), "in 300 of 300 rows the label is not 0"),
        (lambda t: pd.concat([t, t]), "more than once"),
        (lambda t: t.assign(seed=7), r"seeds \[7\]"),
        (lambda t: t.assign(seed=np.nan), "the seed is missing"),
        (lambda t: t.assign(seed=[[0]] * N), "the seed is missing"),
        (lambda t: t.assign(label=[[0]] * N), "the label is not 0"),
        (lambda t: t.assign(p_a=np.nan), "p_a, p_b, p_tie are not probabilities"),
        (lambda t: t.assign(p_a=0, p_b=0, p_tie=0), "probabilities from 0 to 1 that sum to 1"),
        (lambda t: t.assign(p_a=-0.5, p_b=1, p_tie=0.5), "probabilities from 0 to 1"),
        (lambda t: t.assign(p_a=t["p_a"] + 0.002), "probabilities from 0 to 1"),
    ],
)
def test_what_does_not_compare_is_refused(files, change, complaint):
    change(pd.read_parquet("good.parquet")).to_parquet("other.parquet")
    with pytest.raises(UserError, match=complaint):
        compare.compare_files(Path("other.parquet"), Path("poor.parquet"), Path("pairs.parquet"))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda t: t.assign(group=" "), "lacks the group of 300 votes"),
        (lambda t: t.assign(group=[None] * 5 + [1] * (N - 5)), "lacks the group of 5 votes"),
        (lambda t: t.iloc[1:], "lacks the group of 1 votes"),
        (lambda t: pd.concat([t, t.tail(1).assign(group=0)]), "id 299 has two groups"),
    ],
)
def test_every_vote_has_one_group(files, change, complaint):
    change(pd.read_parquet("pairs.parquet")).to_parquet("groups.parquet")
    given = [Path(name) for name in ("good.parquet", "poor.parquet", "groups.parquet")]
    with pytest.raises(UserError, match=complaint):
        compare.compare_files(*given)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda text: text.replace("p_b", "p_a", 1), "the column p_a is there twice"),
        (lambda text: text.replace(",", ";"), "separated by ';'; expected commas"),
        (lambda text: text.replace(",0\n", ",\n"), "in 300 of 900 rows .* the seed is missing"),
        (lambda text: "", "not readable as a table"),
    ],
)
def test_sheets_that_are_refused(files, change, complaint):
    Path("other.csv").write_text(change(files["good.csv"].read_text()))
    with pytest.raises(UserError, match=complaint):
        compare.compare_files(Path("other.csv"), Path("poor.csv"), Path("pairs.parquet"))


@pytest.mark.parametrize("orders", [ORDERS, ORDERS[:1]], ids=["pairs", "texts"])
def test_the_mean_of_both_orders_is_compared(files, orders):
    """As in data/oof/seeds.parquet; of single texts there is one order."""
    good = pd.read_parquet("good.parquet")
    p = good[PROBABILITIES].to_numpy()
    moved = 0.01 * np.array([1, -1, 0]) * (p[:, :2].min(axis=1, keepdims=True) > 0.01)
    shown = (p + moved, p - moved) if len(orders) == 2 else (p,)
    tables = [pd.DataFrame(q, good.index, n) for q, n in zip(shown, orders, strict=True)]
    others = good.drop(columns=PROBABILITIES).assign(seed=0)
    pd.concat([others, *tables], axis=1).to_parquet("seeds.PARQUET")
    found = compare.compare_files(
        Path("seeds.PARQUET"), Path("good.parquet"), Path("pairs.parquet")
    )
    assert abs(found.difference) < 1e-12


def test_files_that_are_not_there_or_no_tables(files):
    Path("text.parquet").write_text("no")
    for name, complaint in {
        "none.parquet": "no such file",
        "text.parquet": "not readable as a table",
    }.items():
        with pytest.raises(UserError, match=complaint):
            compare.compare_files(Path(name), Path("poor.parquet"), Path("pairs.parquet"))
