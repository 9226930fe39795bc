import re

import numpy as np
import pandas as pd
import pytest
from plotly.offline import get_plotlyjs

from pairpref.evaluation.calibration import Calibrator
from pairpref.evaluation.reliability import reliability
from pairpref.reporting import page, words
from pairpref.reporting.examples import shortened, surprising
from pairpref.reporting.sections import Findings, sections
from pairpref.reporting.tables import Table, markdown

NASTY = '<script>alert("x")</script><img src=x onerror=alert(1)> {{ 7*7 }} & </pre></details>'
HEADLINE = {
    "class_prior": 1.09,
    "length_only": 1.05,
    "log_loss_before": 0.97,
    "log_loss": 0.95,
    "accuracy": 0.5,
    "f1_macro": 0.4,
    "n": 60,
}
KNOWN = {"prior": 1.09, "floor": 0.8, "expected_log_loss": 0.94, "information_captured": 0.517}


def findings(**changes) -> Findings:
    rng = np.random.default_rng(0)
    p, labels = rng.dirichlet([1, 1, 1], size=60), rng.integers(0, 3, 60)
    texts = {name: [NASTY] * 60 for name in ("prompt", "response_a", "response_b")}
    votes = pd.DataFrame({"id": range(60), "label": labels, **texts})
    usual = {
        "headline": HEADLINE | KNOWN,
        "curves": pd.DataFrame(
            {"epoch": [1, 2], **dict.fromkeys(["train_loss", "validation_loss", "log_loss", "accuracy", "f1_macro"], 0.5)}
        ),
        "reliability": pd.concat([reliability(labels, p, 5).assign(stage=stage) for stage in ("before", "after")]),
        "confusion": np.array([[9, 1, 2], [3, 8, 4], [5, 6, 22]]),
        "calibrator": Calibrator("temperature", 1.2, 60),
        "clean": {"rows": 61, "quarantined": 1},
        "test": {"n": 20, "log_loss_public": 1.01},
        "surprises": surprising(votes, p, p),
        "params": {"data.train": NASTY, "train.epochs": 3},
    }
    return Findings(**(usual | changes))


def rendered(found: Findings) -> str:
    return page.html(words.opening(found.headline), sections(found))


def without_plotly(html: str) -> str:
    return html.replace(get_plotlyjs(), "")


@pytest.mark.fault(19)
def test_text_stays_text():
    html = without_plotly(rendered(findings()))
    assert "<script>alert" not in html and "<img" not in html and "49" not in re.findall(r"<pre[^>]*>(.*?)</pre>", html, re.S)[0]
    assert "&lt;script&gt;alert" in html
    assert html.count("<script") == 3


def test_the_page_needs_nothing_from_elsewhere():
    html = rendered(findings())
    assert html.count(get_plotlyjs()) == 1
    loads = re.findall(r"""(?:src|href|action)\s*=\s*["']?([^"'\s>]+)|url\(([^)]*)\)|(@import)""", without_plotly(html))
    assert [load for load in loads if load != ("run.md", "", "") and load[0] != "x"] == []
    assert len(html) < 8_000_000


def test_every_id_is_used_once_and_every_figure_has_its_place():
    found = findings()
    ids = re.findall(r'\bid="([^"]+)"', without_plotly(rendered(found)))
    assert len(ids) == len(set(ids))
    assert {f"figure-{name}" for section in sections(found) for name in section.figures} <= set(ids)


def test_the_same_findings_give_the_same_bytes():
    assert rendered(findings()) == rendered(findings())


def test_sections_without_anything_to_show_are_left_out():
    nothing = findings(
        headline=HEADLINE, reliability=pd.DataFrame(columns=["stage", "n"]), confusion=None, surprises=[], test={"n": 0}
    )
    shown = [section.id for section in sections(nothing)]
    assert shown == ["headline", "training", "clean", "params"]
    rendered(nothing)


def test_uncalibrated_curves_are_drawn_once():
    curves = {s.id: s for s in sections(findings(calibrator=Calibrator("none", 1.0, 60)))}["reliability"]
    assert [trace.name for trace in curves.figures["reliability-tie"].data] == ["as reported", "perfect"]
    assert "not calibrated" in curves.text


@pytest.mark.parametrize(
    ("loss", "verdict"),
    [(1.10, "learned nothing of use"), (1.09, "learned nothing of use"), (1.07, "knows a little"), (0.95, "has learned")],
)
def test_the_opening_says_how_good_the_model_is(loss, verdict):
    assert verdict in words.opening(HEADLINE | {"log_loss": loss})[0]


def test_the_opening_speaks_of_truth_only_where_it_is_known():
    assert len(words.opening(HEADLINE)) == 2
    assert "52\N{NO-BREAK SPACE}%" in words.opening(HEADLINE | KNOWN)[2]
    assert "cannot be reached" in words.opening(HEADLINE | KNOWN, lossy=True)[3]


def test_markdown_takes_cells_literally():
    table = Table(("key", "value", "meaning"), [("a|b", "1_000", "<script>\n*bold* [link](x)")], ("meaning",))
    head, rule, row = markdown(table).splitlines()
    assert rule == "| --- | ---: | --- |"
    assert row == r"| a\|b | 1\_000 | &lt;script&gt; \*bold\* \[link\](x) |"


def test_markdown_and_page_show_the_same_tables():
    found = findings()
    text = page.markdown(words.opening(found.headline), sections(found))
    assert "| Log loss | 0.9500 |" in text and "| quarantined | 1 |" in text and "| A | 9 | 1 | 2 |" in text
    assert "<script>" not in text


def test_long_texts_are_shortened_and_missing_ones_named():
    assert shortened("x" * 700) == "x" * 600 + " … (100 more characters)"
    assert shortened("") == "(empty)"


def test_the_most_surprising_vote_comes_first():
    votes = pd.DataFrame({"id": [1, 2, 3], "label": [0, 1, 2], "prompt": list("abc"), "response_a": "", "response_b": ""})
    p = np.array([[0.8, 0.1, 0.1], [0.98, 0.01, 0.01], [0.5, 0.3, 0.2]])
    worst, next_worst = surprising(votes, p, None, count=2)
    assert worst.texts[0] == ("Prompt", "b") and next_worst.texts[0] == ("Prompt", "c")
    assert worst.title.startswith("Voted B, which the model gave 1.0\N{NO-BREAK SPACE}%; it held A most likely")
