"""The headline figures in words, in the order of telling. Page, Markdown and terminal all name them from here."""

from typing import NamedTuple


class Figure(NamedTuple):
    """One figure of metrics/report.json: what it is called, how it is written, and what it means."""

    name: str
    form: str
    meaning: str


HEADLINE = {
    "prior": Figure("Prior", ".4f", "expected log loss of always answering with the average true probabilities"),
    "class_prior": Figure("Class shares", ".4f", "log loss of always answering with the shares of A, B and tie"),
    "length_only": Figure("Lengths only", ".4f", "log loss of a softmax that sees nothing but how long the texts are"),
    "log_loss_before": Figure("Log loss before calibration", ".4f", "of the model's probabilities as they come"),
    "log_loss": Figure("Log loss", ".4f", "of the model's final probabilities; lower is better"),
    "expected_log_loss": Figure(
        "Expected log loss", ".4f", "the same under the true probabilities, without the luck of the votes"
    ),
    "floor": Figure("Floor", ".4f", "expected log loss of the true probabilities: voters are not of one mind"),
    "information_captured": Figure("Information captured", ".1%", "of the way from prior to floor; 100 % is perfect"),
    "accuracy": Figure("Accuracy", ".1%", "votes for which the most likely answer was right"),
    "f1_macro": Figure("Macro F1", ".3f", "mean over A, B and tie of precision and recall's harmonic mean; 1 is perfect"),
    "n": Figure("Votes", ",.0f", "that the model was judged on, none of which it was trained on"),
}


def headline(metrics: dict[str, float]) -> list[tuple[str, str, str]]:
    """Name, written value and meaning of those headline figures that there are."""
    return [(f.name, written(metrics[key], f.form), f.meaning) for key, f in HEADLINE.items() if key in metrics]


def written(value: float, form: str) -> str:
    """A number as people write it."""
    return spaced(format(value, form))


def spaced(text: str) -> str:
    """Each percent sign after a space that no line breaks at."""
    return text.replace("%", "\N{NO-BREAK SPACE}%")
