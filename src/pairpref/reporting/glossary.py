"""The figures in words, in the order of telling. Page, Markdown and terminal all name them from here."""

import re
from collections.abc import Mapping
from typing import NamedTuple


class Figure(NamedTuple):
    """One figure of report/headline.json: what it is called, how it is written, and what it means."""

    name: str
    form: str
    meaning: str


HEADLINE = {
    "prior": Figure(
        "Prior", ".4f", "expected log loss of always answering with the average true probabilities"
    ),
    "class_prior": Figure(
        "Class shares", ".4f", "log loss of always answering with the shares of A, B and tie"
    ),
    "length_only": Figure(
        "Lengths only",
        ".4f",
        "log loss of logistic regression on nothing but how long the texts are",
    ),
    "tfidf": Figure(
        "TF-IDF", ".4f", "log loss of logistic regression on which words A has and B has not"
    ),
    "boosting": Figure(
        "Boosted trees",
        ".4f",
        "log loss of trees on what can be counted in a pair without knowing a word",
    ),
    "log_loss_before": Figure(
        "Log loss before calibration", ".4f", "log loss of the model's probabilities as they come"
    ),
    "log_loss": Figure(
        "Log loss", ".4f", "log loss of the model's final probabilities; lower is better"
    ),
    "expected_log_loss": Figure(
        "Expected log loss",
        ".4f",
        "the same under the true probabilities, without the luck of the votes",
    ),
    "floor": Figure(
        "Floor", ".4f", "expected log loss of the true probabilities: voters are not of one mind"
    ),
    "information_captured": Figure(
        "Information captured", ".1%", "of the way from prior to floor; 100 % is perfect"
    ),
    "total_variation": Figure(
        "Off the truth by", ".1%", "of probability that is in the wrong place, on average"
    ),
    "calibration_error": Figure(
        "Calibration error",
        ".1%",
        "root mean square between probabilities said and shares that happened; 0 % is perfect",
    ),
    "brier": Figure(
        "Brier score", ".4f", "squared error of the three probabilities, 0 to 2; lower is better"
    ),
    "accuracy": Figure("Accuracy", ".1%", "votes for which the most likely answer was right"),
    "f1_macro": Figure(
        "Macro F1",
        ".3f",
        "mean over A, B and tie of precision and recall's harmonic mean; 1 is perfect",
    ),
    "n": Figure("Votes", ",.0f", "that the model was judged on, none of which it was trained on"),
}
NAMES = {key: figure.name for key, figure in HEADLINE.items()} | {"uniform": "A third each"}

TEST = {
    "n": ("pairs predicted", ",.0f"),
    "log_loss": ("log loss", ".4f"),
    "log_loss_error": ("its standard error", ".4f"),
    "log_loss_public": ("log loss of the public part", ".4f"),
    "n_public": ("pairs in the public part", ",.0f"),
    "log_loss_private": ("log loss of the private part", ".4f"),
    "n_private": ("pairs in the private part", ",.0f"),
    "brier": ("Brier score", ".4f"),
    "accuracy": ("accuracy", ".1%"),
    "f1_macro": ("macro F1", ".3f"),
    "expected_log_loss": ("expected log loss", ".4f"),
    "information_captured": ("information captured", ".1%"),
}


def headline(
    figures: Mapping[str, float], ends: Mapping[str, tuple[float, float]]
) -> list[tuple[str, str, str, str]]:
    """Name, written value, interval ("" where there is none) and meaning of those headline figures that there are."""
    return [
        (
            f.name,
            written(figures[key], f.form),
            between(ends[key], f.form) if key in ends else "",
            f.meaning,
        )
        for key, f in HEADLINE.items()
        if key in figures
    ]


def between(ends: tuple[float, float], form: str) -> str:
    """An interval as people write it."""
    return f"{written(ends[0], form)} to {written(ends[1], form)}"


def written(value: float, form: str) -> str:
    """A number as people write it."""
    return spaced(format(value, form))


def spaced(text: str) -> str:
    """Each percent sign after a space that no line breaks at."""
    return re.sub(r"\s*%", "\N{NO-BREAK SPACE}%", text)
