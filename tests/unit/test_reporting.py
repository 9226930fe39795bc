"""The page and report.md say what was found, no more, and show strangers' texts as text."""

import html as html_text
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from plotly.offline import get_plotlyjs

from pairpref.evaluation import buckets, examples
from pairpref.evaluation.baselines import BASELINES
from pairpref.evaluation.calibration import Calibrator
from pairpref.evaluation.metrics import losses
from pairpref.evaluation.report import EvaluationReport, Votes, evaluate
from pairpref.evaluation.truth import entropy
from pairpref.reporting import figures, page, tables
from pairpref.versions import catalog
from pairpref.versions.results import VersionResults

NASTY = '<script>alert("x")</script><img src=x onerror=alert(1)> {{ 7*7 }} & </pre></details>'
ALL = (
    "run headline baselines truth reliability buckets confusion order training luck test versions "
    "examples clean params"
).split()
WITHOUT_TRUTH = [name for name in ALL if name not in ("truth", "order", "test")]
TEST = {
    "n": 20,
    "log_loss": 1.0,
    "log_loss_error": 0.1,
    "log_loss_public": 1.01,
    "n_public": 5,
    "log_loss_private": 0.9,
}
CURVES = ("train_loss", "validation_loss", "log_loss", "accuracy", "f1_macro")
PARAMS = {
    "data.train": NASTY,
    "train.epochs": 3,
    "inference.dual_order": True,
    "model.backbone": "small",
    "data.folds": 3,
}
DEFAULTS = PARAMS | {"data.train": "votes.csv"}
ROOT = Path(__file__).parents[2]


@cache
def judged(
    skill: float = 1.0, n: int = 400, seeds: int = 1, known: bool = True, blind: bool = False
) -> EvaluationReport:
    """A model that knows the truth to a degree: 1 all of it, 0 the shares alone, below 0 A for B.

    Args:
        blind: it knows nothing but the shares of long pairs.
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
    baselines = {
        "uniform": np.full((n, 3), 1 / 3),
        "class_prior": shares,
        "length_only": 0.7 * shares + 0.3 * p,
    }
    return evaluate(
        votes,
        baselines,
        pd.concat([of_seed.assign(seed=seed) for seed in range(seeds)]),
        5,
        training=pd.DataFrame({"epoch": [1, 2], **dict.fromkeys(CURVES, 0.5)}),
        calibrator=Calibrator("temperature", 1.2, n=n),
        calibration={"log_loss": 0.9, "log_loss_in_sample": 0.89},
        clean={"rows": n + 1, "kept": n, "quarantined": 1, "prompts": n // 2},
        test=TEST if known else {"n": 0},
    )


def report() -> EvaluationReport:
    return judged()


@cache
def no_versions() -> VersionResults:
    return VersionResults.load(catalog.load(ROOT / catalog.CATALOG), root=Path("nowhere"))


def content(
    of: EvaluationReport,
    params: dict = PARAMS,
    defaults: dict = DEFAULTS,
    drawn: Callable[[EvaluationReport], dict] = figures.figures,
) -> page.Content:
    return page.Content(of, no_versions(), params, tables.tables(of, params, defaults), drawn(of))


def text_of(of: EvaluationReport, params: dict = PARAMS, defaults: dict = DEFAULTS) -> str:
    """report.md as a reader sees it: nothing escaped, a space for each space; it has no figures."""
    without = content(of, params, defaults, lambda of: {})
    text = html_text.unescape(page.markdown(without))
    return re.sub(r"\\(.)", r"\1", text).replace("\N{NO-BREAK SPACE}", " ")


def section(of: EvaluationReport, title: str, **more: dict) -> str:
    return text_of(of, **more).split(f"## {title}\n")[1].split("\n## ")[0]


def opening(of: EvaluationReport, **more: dict) -> str:
    return text_of(of, **more).split("\n## ")[0]


@cache
def rendered() -> str:
    return page.html(content(report()))


def without_plotly(html: str) -> str:
    return html.replace(get_plotlyjs(), "")


@pytest.mark.fault(19)
def test_text_stays_text():
    html = without_plotly(rendered())
    assert "<script>alert" not in html and "<img" not in html
    assert "49" not in re.findall(r"<pre[^>]*>(.*?)</pre>", html, re.S)[0]
    assert "&lt;script&gt;alert" in html and "&amp;lt;" not in html
    assert html.count("<script") == 3
    markdown = page.markdown(content(report()))
    assert "<script" not in markdown and "&lt;script&gt;alert" in markdown


def test_the_page_needs_nothing_from_elsewhere():
    assert rendered().count(get_plotlyjs()) == 1
    loads = re.findall(
        r"""(?:src|href|action)\s*=\s*["']?([^"'\s>]+)|url\(([^)]*)\)|(@import)""",
        without_plotly(rendered()),
    )
    own = [("run.md", "", ""), ("x", "", "")]
    assert [load for load in loads if load not in own and load[0][:1] != "#"] == []
    assert len(rendered()) < 8_000_000


def test_every_id_is_used_once_and_every_figure_has_its_place():
    html = without_plotly(rendered())
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert {f"figure-{name}" for name in content(report()).figures} <= set(ids)
    links = re.findall(r'href="#([^"]+)"', html)
    assert links == re.findall(r'<section id="([^"]+)"', html)


def test_the_same_report_gives_the_same_bytes():
    again = content(judged.__wrapped__())
    assert page.html(again) == rendered()
    assert page.markdown(again) == page.markdown(content(report()))


def test_sections_without_anything_to_show_are_left_out():
    for of, expected in ((report(), ALL), (judged(known=False), WITHOUT_TRUTH)):
        assert re.findall(r'<section id="([^"]+)"', page.html(content(of))) == expected


def test_uncalibrated_curves_are_drawn_once():
    uncalibrated = replace(report(), calibrator=Calibrator("none", n=60))
    drawn = figures.figures(uncalibrated)["reliability-tie"]
    assert [trace.name for trace in drawn.data] == ["as reported", "perfect"]
    assert len(tables.tables(uncalibrated, PARAMS, DEFAULTS)["reliability"]) == 4
    assert "Probabilities were not calibrated" in text_of(uncalibrated)


@pytest.mark.parametrize(
    ("skill", "verdict"),
    [
        (-0.5, "The model is worse than always answering with the shares of A, B and tie."),
        (0.0, "not significantly better than always answering with the shares of A, B and tie."),
        (0.1, "it is worse than the best baseline, logistic regression on lengths."),
        (0.3, "it is not significantly better than logistic regression on lengths."),
        (1.0, "The model beats every baseline, the best of which is logistic regression on len"),
    ],
)
def test_the_opening_says_no_more_than_the_intervals_bear_out(skill, verdict):
    assert verdict in opening(judged(skill, 1500))


@pytest.mark.parametrize(
    ("skill", "verdict"),
    [
        (0.1, "logistic regression on lengths, beats the model (worse: log loss +"),
        (0.3, "not significantly better than the best of them, logistic regression on lengths (no"),
        (1.0, "The model beats the best of them, logistic regression on lengths (better: log loss"),
    ],
)
def test_the_baselines_are_compared_as_in_the_opening(skill, verdict):
    assert verdict in section(judged(skill, 1500), "Does it beat simple answers?")


def test_the_opening_speaks_of_truth_only_where_it_is_known():
    assert "truth" not in opening(judged(known=False))
    assert "the model goes 100.0 % of the way from prior to floor" in opening(report())
    lossy = PARAMS | {"simulate.lossy": 0.1}
    assert "The floor cannot be reached" in opening(report(), params=lossy)
    assert "The floor cannot be reached" not in opening(report())


def test_the_weakest_part_is_the_one_furthest_from_the_truth():
    found = judged(n=900, blind=True)
    assert {part.bucket for part in found.parts} == {"short", "medium", "long", "one", "several"}
    assert found.parts[0].bucket == "long"
    assert found.parts[-1].against.difference == pytest.approx(0)
    assert "weakest on long pairs: there its expected log loss is 0." in opening(found)


def test_no_part_is_called_weak_where_none_is():
    for seeds in (1, 2):
        found = judged(0.7, n=900, seeds=seeds, known=False)
        assert "No kind of pairs is significantly harder" in opening(found)


def test_where_the_truth_is_not_known_the_weakest_part_gains_least_over_the_shares():
    found = judged(n=900, blind=True, known=False)
    assert found.parts[0].bucket == "long" and found.parts[-1].against.difference < -0.2
    said = "gains least on long pairs: there its log loss is 0.0000 (above|below) that of the class"
    assert re.search(said, opening(found))


def test_only_what_differs_from_the_default_is_named():
    changed = tables.tables(report(), PARAMS, DEFAULTS)["changed"]
    assert changed.to_numpy().tolist() == [["data.train", NASTY, "votes.csv"]]
    assert "These parameters differ" in text_of(report())
    same = section(report(), "What was run", params=DEFAULTS)
    assert "All parameters are the default's." in same and "| parameter" not in same


def test_whether_it_repeats_to_the_bit_is_told():
    exact = content(report())
    assert "gives the same bits" in page.markdown(exact)
    assert "last bits may differ" in page.markdown(replace(exact, exact=False))


def test_order_is_told_as_it_is():
    """A tenth of each answer's probability goes to what comes first."""
    orders = report().orders
    assert orders["A first"]["first_favoured"] == pytest.approx(0.1)
    assert orders["average"]["largest_distance"] == 0
    said = section(report(), "Does it matter which answer comes first?")
    assert "raises an answer's probability of winning by 0.1000" in said
    assert "The final answer is the average." in said


def with_features(low: float, named: int = 2) -> EvaluationReport:
    """Of two members; the last doubling of votes brought -0.02, by an interval from `low`."""
    found, row = report(), {"target": "tie", "feature": "prompt: non_ascii"}
    row |= {"home": 0.0202, "home_error": 0.0024, "away": -0.0069, "away_error": 0.0016}
    high = 0.02 if low < -0.05 else -0.01
    last = {
        "difference": -0.02,
        "ci": [low, high],
        "verdict": "not shown" if high > 0 else "better",
    }
    members = {name: {"winner": 0.4, "tie": 0.5} for name in ("classifier", "features.trees")}
    both = [replace(found.baselines[-1], name=name) for name in members]
    counted = {
        "learning": {"votes": [500, 999, 2001], "log_loss": [1.06, 1.04, 1.02], "last": last},
        "shortcuts": {
            "comparisons": 303,
            "by_chance": 0.2,
            "count": 2 * named,
            "named": [row] * named,
        },
    }
    calibration = found.calibration | {"members": members} | counted
    return replace(found, members=both, calibration=calibration)


def test_what_more_votes_would_bring_is_told():
    title = "What does each member add?"
    said = section(with_features(-0.03), title)
    assert "as many votes again would lower it by at most about 0.0200" in said
    assert "| 2,001 | 1.0200 |" in said
    said = section(with_features(-0.06), title)
    assert "it is open" in said and "by more than 0.0600" in said


def test_features_that_may_be_shortcuts_are_listed():
    title = "What does each member add?"
    said = " ".join(section(with_features(-0.03), title).split())
    assert "4 of 303 comparisons, and for 0.2 of them when" in said and "the first 2 of" in said
    assert "| prompt: non ascii | a tie | 2.0 % ± 0.2 % | -0.7 % ± 0.2 % |" in said
    none = section(with_features(-0.03, named=0), title)
    assert "0 of 303" in none and "counts.py" not in none and "non ascii" not in none
    assert "303 comparisons" in page.html(content(with_features(-0.03, named=0)))


def test_calibration_says_what_few_votes_bear_and_what_all_models_together_get():
    title = "Can the probabilities be taken at their word?"
    said = section(report(), title)
    assert "leave the calibration open" not in said and "also multiplied by" not in said
    doubtful = Calibrator("temperature", 1.2, n=12, temperature_error=0.5, sharpening=1.1)
    said = section(replace(report(), calibrator=doubtful), title)
    assert "12 votes leave the calibration open: temperature 0.45 to 3.20" in said
    assert "also multiplied by 1.100" in said


def test_ties_that_one_temperature_cannot_correct_are_named():
    assert not report().ties_off and "cannot correct ties" not in text_of(report())
    off = replace(report(), ties_off=True)
    assert "cannot correct ties" in text_of(off)
    biased = replace(off, calibrator=Calibrator("temperature_tie", 1.2, 0.1))
    assert "cannot correct ties" not in text_of(biased)


def test_a_table_of_verdicts_says_what_chance_makes_of_it():
    said = "Of 3 comparisons, about 0.1 would be called better by chance, and as many worse"
    assert said in section(report(), "Does it beat simple answers?")
    assert "less than 0.1" in page.sentence("chance", 1, 0.025)
    assert "Of 9 comparisons, about 0.2 would" in page.sentence("chance", 9, 0.225)


def test_several_seeds_say_what_their_t_rests_on():
    several, title = judged(seeds=3), "Was it luck?"
    assert "2 degrees of freedom" in section(several, title)
    assert "over 3 folds" in section(several, title)
    assert "train.seeds" in section(report(), title)
    shown = tables.tables(several, PARAMS, DEFAULTS)
    assert shown["folds"].iloc[:, 0].tolist() == ["0", "1", "2"]
    assert shown["seeds"].iloc[:, 0].tolist() == ["0", "1", "2", "mean ± std"]


def test_a_bucket_of_few_prompts_says_so():
    few = judged(n=150)
    rows = tables.tables(few, PARAMS, DEFAULTS)["buckets"]
    marked = rows["n"].str.endswith("*").sum()
    assert marked
    assert f"In {marked} rows, marked *, there are fewer than 30" in text_of(few)


def test_markdown_takes_cells_literally():
    table = pd.DataFrame(
        [("a|b", "1_000", "<script>\n*bold* [link](x)")], columns=["key", "value", "meaning"]
    )
    whole = content(report())
    shown = replace(whole, tables=whole.tables | {"clean": table})
    lines = page.markdown(shown).splitlines()
    row = lines.index(r"| a\|b | 1\_000 | &lt;script&gt; \*bold\* \[link\](x) |")
    assert lines[row - 1] == "| --- | ---: | --- |"


def test_markdown_and_page_show_the_same_tables():
    lines = page.markdown(content(report())).splitlines()
    shown = content(report()).tables
    # One seed, so nothing to compare it with.
    for table in (table for name, table in shown.items() if name != "seeds"):
        for row in (table.columns, *table.itertuples(index=False)):
            assert f"| {' | '.join(map(page.literal, row))} |" in lines
        assert all(f">{html_text.escape(column)}</th>" in rendered() for column in table)


def test_a_new_baseline_is_shown_without_more_ado():
    added = replace(report().baselines[0], name="word_count")
    figures = {"word_count": added.log_loss, **report().figures}
    new = replace(report(), baselines=[added, *report().baselines], figures=figures)
    for heading in ("Does it beat simple answers?", "In figures"):
        assert "| word count |" in section(new, heading)


def test_every_baseline_has_its_names_and_no_other_figures():
    words = page.words()
    assert list(BASELINES) == list(words.baselines)
    assert not BASELINES.keys() & words.figures.keys()


def test_a_percent_sign_follows_one_space():
    assert page.num(0.02, ".0%") == "2\N{NO-BREAK SPACE}%"
    assert page.ci((0.02, 0.035), ".1%") == "2.0\N{NO-BREAK SPACE}% to 3.5\N{NO-BREAK SPACE}%"


def test_long_texts_are_shortened_and_missing_ones_named():
    assert page.shortened("x" * 700) == "x" * 600 + " … (100 more characters)"
    assert page.shortened("x" * 600) == "x" * 600 and page.shortened("") == "(empty)"


def test_votes_to_look_at():
    texts = {"prompt": list("abc"), "response_a": "", "response_b": None}
    frame = pd.DataFrame({"id": [1, 2, 3], "label": [0, 1, 2]} | texts)
    p = np.array([[0.8, 0.1, 0.1], [0.98, 0.01, 0.01], [0.5, 0.3, 0.2]])
    loss = losses(frame["label"].to_numpy(), p)
    worst, second, _ = examples.largest(loss, frame, p, None)
    assert worst.texts == {"prompt": "b", "response_a": ""} and second.texts["prompt"] == "c"
    assert page.sentence("example", worst) == (
        "Voted B, to which the model gave 1.0 %; its most likely answer was A, at 98 %."
    )
    known = examples.largest(loss, frame, p, truth=p)[0]
    assert page.sentence("example", known).endswith("The true probability of B was 1.0 %.")
    hardest = examples.largest(entropy(p), frame, p, None)
    assert [example.texts["prompt"] for example in hardest] == ["c", "a", "b"]
