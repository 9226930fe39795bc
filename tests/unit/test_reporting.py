import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from plotly.offline import get_plotlyjs

from pairpref.evaluation import buckets
from pairpref.evaluation.calibration import Calibrator
from pairpref.reporting import glossary, page, versions, words
from pairpref.reporting.examples import hardest, shortened, surprising
from pairpref.reporting.findings import Findings, Votes, find
from pairpref.reporting.sections import sections
from pairpref.reporting.tables import Table, markdown
from pairpref.versions import catalog
from pairpref.versions.results import VersionResults

NASTY = '<script>alert("x")</script><img src=x onerror=alert(1)> {{ 7*7 }} & </pre></details>'
KNOWN = "run headline baselines truth reliability buckets confusion order training luck test versions examples clean params".split()
UNKNOWN = [name for name in KNOWN if name not in ("truth", "order", "test")]
TEST = {
    "n": 20,
    "log_loss": 1.0,
    "log_loss_error": 0.1,
    "log_loss_public": 1.01,
    "n_public": 5,
    "log_loss_private": 0.9,
}
CURVES = ("train_loss", "validation_loss", "log_loss", "accuracy", "f1_macro")


def judged(
    skill: float = 1.0, n: int = 400, seeds: int = 1, known: bool = True, blind: bool = False
) -> Findings:
    """Findings about a model that knows the truth to a degree, from 0, the shares alone, to 1; below 0 it takes A for B.

    Args:
        blind: it knows of long pairs nothing but the shares.
    """
    rng = np.random.default_rng(0)
    logits = 1.5 * rng.normal(size=(n, 3))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (rng.random((n, 1)) > p.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    shares = np.tile(p.mean(axis=0), (n, 1))
    model = abs(skill) * (p if skill > 0 else p[:, [1, 0, 2]]) + (1 - abs(skill)) * shares
    lengths = rng.integers(10, 100, n)
    if blind:
        model[lengths > 70] = shares[0]
    texts = dict.fromkeys(["prompt", "response_a", "response_b"], NASTY)
    frame = pd.DataFrame({"id": np.arange(n).astype(str), "label": labels} | texts)
    first_favoured = np.stack([0.9 * model + 0.1 * np.eye(3)[first] for first in (0, 1)])
    votes = Votes(
        frame=frame,
        groups=np.arange(n) // 2,
        folds=np.arange(n) // 2 % 3,
        before=model,
        after=model,
        orders=first_favoured if known else None,
        truth=p if known else None,
        kinds={
            "length": buckets.by_length(lengths, (40, 70)),
            "turns": np.where(lengths > 95, "several", "one"),
        },
        cuts=(40, 70),
    )
    of_seed = frame[["id", "label"]].join(pd.DataFrame(model, columns=["p_a", "p_b", "p_tie"]))
    params = {
        "data.train": NASTY,
        "train.epochs": 3,
        "inference.dual_order": True,
        "model.backbone": "small",
        "data.folds": 3,
    }
    return find(
        votes,
        {
            "uniform": np.full((n, 3), 1 / 3),
            "class_prior": shares,
            "length_only": 0.7 * shares + 0.3 * p,
        },
        pd.concat([of_seed.assign(seed=seed) for seed in range(seeds)]),
        5,
        curves=pd.DataFrame({"epoch": [1, 2], **dict.fromkeys(CURVES, 0.5)}),
        calibrator=Calibrator("temperature", 1.2, n=n),
        calibrate={"log_loss": 0.9, "log_loss_in_sample": 0.89},
        clean={"rows": n + 1, "kept": n, "quarantined": 1, "prompts": n // 2},
        test=TEST if known else {"n": 0},
        params=params,
        defaults=params | {"data.train": "votes.csv"},
        versions=VersionResults.load(
            catalog.load(Path(__file__).parents[2] / "versions/catalog.yaml"), root=Path("nowhere")
        ),
    )


@cache
def findings() -> Findings:
    return judged()


def rendered(found: Findings) -> str:
    return page.html(words.opening(found), sections(found))


def by_id(found: Findings) -> dict:
    return {section.id: section for section in sections(found)}


def without_plotly(html: str) -> str:
    return html.replace(get_plotlyjs(), "")


@pytest.mark.fault(19)
def test_text_stays_text():
    html = without_plotly(rendered(findings()))
    assert (
        "<script>alert" not in html
        and "<img" not in html
        and "49" not in re.findall(r"<pre[^>]*>(.*?)</pre>", html, re.S)[0]
    )
    assert "&lt;script&gt;alert" in html
    assert html.count("<script") == 3


def test_the_page_needs_nothing_from_elsewhere():
    html = rendered(findings())
    assert html.count(get_plotlyjs()) == 1
    loads = re.findall(
        r"""(?:src|href|action)\s*=\s*["']?([^"'\s>]+)|url\(([^)]*)\)|(@import)""",
        without_plotly(html),
    )
    assert [
        load
        for load in loads
        if load != ("run.md", "", "") and load[0] != "x" and load[0][:1] != "#"
    ] == []
    assert len(html) < 8_000_000


def test_every_id_is_used_once_and_every_figure_has_its_place():
    ids = re.findall(r'\bid="([^"]+)"', without_plotly(rendered(findings())))
    assert len(ids) == len(set(ids))
    assert {
        f"figure-{name}" for section in sections(findings()) for name in section.figures
    } <= set(ids)


def test_the_same_findings_give_the_same_bytes():
    assert rendered(judged()) == rendered(judged())


def test_sections_without_anything_to_show_are_left_out():
    assert list(by_id(findings())) == KNOWN
    assert list(by_id(judged(known=False))) == UNKNOWN


def test_uncalibrated_curves_are_drawn_once():
    section = by_id(replace(findings(), calibrator=Calibrator("none", n=60)))["reliability"]
    assert [trace.name for trace in section.figures["reliability-tie"].data] == [
        "as reported",
        "perfect",
    ]
    assert "not calibrated" in section.text and len(section.tables[0].rows) == 4


@pytest.mark.parametrize(
    ("skill", "verdict"),
    [
        (-0.5, "worse than always answering with the shares"),
        (0.0, "not shown that the model has learned anything"),
        (0.1, "it is beaten by a guess from the lengths"),
        (0.3, "is not shown to be better"),
        (1.0, "beats every simple baseline"),
    ],
)
def test_the_opening_says_no_more_than_the_intervals_bear_out(skill, verdict):
    assert verdict in words.opening(judged(skill, 1500))[0]


def test_the_opening_speaks_of_truth_only_where_it_is_known():
    assert "truth" not in " ".join(words.opening(judged(known=False)))
    assert "the model goes 100.0\N{NO-BREAK SPACE}%" in " ".join(words.opening(findings()))
    lossy = replace(findings(), params=findings().params | {"simulate.lossy": 0.1})
    assert "cannot be reached" in " ".join(words.opening(lossy))


def test_the_weakest_part_is_the_one_furthest_from_the_truth():
    found = judged(n=900, blind=True)
    assert {part.bucket for part in found.parts} == {"short", "medium", "long", "one", "several"}
    assert found.parts[0].bucket == "long" and found.parts[-1].against.difference == pytest.approx(
        0
    )
    assert "weakest on long pairs: there its expected log loss is 0." in " ".join(
        words.opening(found)
    )


def test_no_part_is_called_weak_where_none_is():
    for seeds in (1, 2):
        assert "No kind of pairs is shown to be harder" in " ".join(
            words.opening(judged(0.7, n=900, seeds=seeds, known=False))
        )


def test_where_the_truth_is_not_known_the_weakest_part_gains_least_over_the_shares():
    found = judged(n=900, blind=True, known=False)
    assert found.parts[0].bucket == "long" and found.parts[-1].against.difference < -0.2
    assert re.search(
        "weakest on long pairs: there its log loss is 0.0000 (above|below) that of the shares",
        words.opening(found)[-1],
    )


def test_only_what_differs_from_the_default_is_named():
    section = by_id(findings())["run"]
    assert section.tables[0].rows == [("data.train", NASTY, "votes.csv")]
    same = by_id(replace(findings(), params=findings().defaults))["run"]
    assert "All parameters are the default's" in same.text and not same.tables


def test_order_is_told_as_it_is():
    """A tenth of each answer's probability is a taste for what comes first."""
    found = findings()
    assert found.orders["A first"]["first_favoured"] == pytest.approx(0.1)
    assert found.orders["average"]["largest_distance"] == 0
    assert "raises an answer's probability of winning by 0.1000" in words.order(found)


def test_calibration_says_what_few_votes_bear_and_what_all_models_together_get():
    assert "leave the calibration open" not in words.calibration(
        findings()
    ) and "multiplied by" not in words.calibration(findings())
    few = replace(
        findings(),
        calibrator=Calibrator("temperature", 1.2, n=12, temperature_error=0.5, sharpening=1.1),
    )
    assert "12 votes leave the calibration open: temperature 0.45 to 3.20" in words.calibration(few)
    assert "multiplied by 1.100" in words.calibration(few)


def test_a_table_of_verdicts_says_what_luck_makes_of_it():
    assert (
        "Of 3 comparisons, luck alone would call about 0.1 better and as many worse"
        in words.baselines(findings())
    )
    assert "less than 0.1" in versions.luck(1) and "about 0.2" in versions.luck(9)


def test_several_seeds_say_what_their_t_rests_on():
    found = judged(seeds=3)
    assert "2 degrees of freedom" in words.seeds(found) and "train.seeds" in words.seeds(findings())
    by_fold, by_seed = by_id(found)["luck"].tables
    assert [row[0] for row in by_fold.rows] == ["0", "1", "2"] and "over 3 folds" in words.seeds(
        found
    )
    assert [row[0] for row in by_seed.rows] == ["0", "1", "2", "mean ± std"]


def test_a_bucket_of_few_prompts_says_so():
    section = by_id(judged(n=150))["buckets"]
    few = [row for row in section.tables[0].rows if row[2].endswith("(few)")]
    assert few and f"{len(few)} rows of the table stand on fewer than 30 prompts" in section.text


def test_markdown_takes_cells_literally():
    table = Table(
        ("key", "value", "meaning"), [("a|b", "1_000", "<script>\n*bold* [link](x)")], ("meaning",)
    )
    head, rule, row = markdown(table).splitlines()
    assert rule == "| --- | ---: | --- |"
    assert row == r"| a\|b | 1\_000 | &lt;script&gt; \*bold\* \[link\](x) |"


def test_markdown_and_page_show_the_same_tables():
    found = findings()
    text, html = page.markdown(words.opening(found), sections(found)), rendered(found)
    for section in sections(found):
        for table in section.tables:
            assert markdown(table).rstrip("\n") in text
            assert all(column in html for column in table.columns)
    assert "<script>" not in text


def test_a_percent_sign_stands_after_one_space():
    assert (
        glossary.spaced(glossary.spaced("2% or 3 %"))
        == "2\N{NO-BREAK SPACE}% or 3\N{NO-BREAK SPACE}%"
    )


def test_long_texts_are_shortened_and_missing_ones_named():
    assert shortened("x" * 700) == "x" * 600 + " … (100 more characters)"
    assert shortened("") == "(empty)"


def test_votes_to_look_at():
    votes = pd.DataFrame(
        {
            "id": [1, 2, 3],
            "label": [0, 1, 2],
            "prompt": list("abc"),
            "response_a": "",
            "response_b": "",
        }
    )
    p = np.array([[0.8, 0.1, 0.1], [0.98, 0.01, 0.01], [0.5, 0.3, 0.2]])
    worst, next_worst = surprising(votes, p, None, count=2)
    assert worst.texts[0] == ("Prompt", "b") and next_worst.texts[0] == ("Prompt", "c")
    assert worst.title.startswith(
        "Voted B, which the model gave 1.0\N{NO-BREAK SPACE}%; it held A most likely"
    )
    assert [example.texts[0][1] for example in hardest(votes, p, None)] == ["c", "a", "b"]
