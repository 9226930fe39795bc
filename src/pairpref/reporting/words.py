"""What the figures come to, in sentences, for a reader who did not build the model."""

from pairpref.evaluation.calibration import Calibrator
from pairpref.reporting.glossary import spaced


def opening(headline: dict[str, float], lossy: bool = False) -> list[str]:
    """How good the model is: a verdict, the figures behind it and, on simulated votes, how far it is from the best there can be.

    Args:
        headline: as in metrics/report.json, with log_loss, class_prior, length_only and n at least.
        lossy: whether part of the simulated text was destroyed after the vote.
    """
    loss, prior, lengths = (headline[key] for key in ("log_loss", "class_prior", "length_only"))
    if loss >= prior:
        verdict = "The model has learned nothing of use: it is no better than always answering with the shares of A, B and tie."
    elif loss >= lengths:
        verdict = (
            "The model knows a little: it is better than always answering with the shares of A, B and tie, but no better than a "
            "guess from the lengths of the texts."
        )
    else:
        verdict = (
            "The model has learned from what the texts say: it beats both the shares of A, B and tie and a guess from the "
            "lengths of the texts."
        )
    figures = (
        f"On {headline['n']:,.0f} votes it was not trained on, its log loss is {loss:.4f}, against {prior:.4f} for the shares "
        f"and {lengths:.4f} for the lengths. (Log loss is how surprised the model was by the votes, on average. Lower is better.)"
    )
    sentences = [verdict, figures]
    if "information_captured" in headline:
        sentences.append(
            "These votes are simulated, so the true probability of each is known. Voters are not of one mind: even the truth "
            f"itself has an expected log loss of {headline['floor']:.4f}. Of the way there from the best constant answer "
            f"({headline['prior']:.4f}), the model goes {headline['information_captured']:.0%}."
        )
        if lossy:
            sentences.append("That floor cannot be reached here: part of the text was destroyed after the vote (simulate.lossy).")
    return [spaced(sentence) for sentence in sentences]


def calibration(calibrator: Calibrator, headline: dict[str, float], smallest_bin: int) -> str:
    """What the reliability curves show, and how much of their wiggle is chance.

    Args:
        smallest_bin: fewest votes behind any point of the curves.
    """
    chance = smallest_bin**-0.5  # two standard errors of a share near one half
    reading = (
        "When the model says 30%, does it happen in 30% of cases? A point on the diagonal says yes; below it the model "
        f"promised too much. Each point stands for {smallest_bin:,} votes or more, so up to about ±{chance:.2f} may be chance."
    )
    reading = spaced(reading)
    if calibrator.method == "none":
        return f"{reading} Probabilities were not calibrated."
    t = calibrator.temperature
    change = "more careful" if t > 1 else "bolder"
    before, after = headline["log_loss_before"], headline["log_loss"]
    return (
        f"{reading} Calibration divides all logits by one temperature, {t:.3f}: it makes every answer {change} and changes no "
        f"ranking. Log loss went from {before:.4f} to {after:.4f}, each vote judged with a temperature fitted without it."
    )
