"""What the figures come to, in sentences, for a reader who did not build the model. No word that the intervals do not bear out."""

from pairpref.evaluation import buckets
from pairpref.evaluation.comparison import Comparison
from pairpref.reporting import versions
from pairpref.reporting.findings import Baseline, Findings, Part
from pairpref.reporting.glossary import between, spaced

_SIMULATED = "These votes are simulated, so the true probability of each is known."


def opening(found: Findings) -> list[str]:
    """How good the model is: a verdict, the figures behind it and, on simulated votes, how far it is from the best there can be."""
    headline, best = found.headline, found.baselines[-1]
    prior = next(y for y in found.baselines if y.name == "class_prior")
    if prior.against.verdict == "worse":
        verdict = "The model is worse than always answering with the shares of A, B and tie."
    elif prior.against.verdict == "not shown":
        verdict = "It is not shown that the model has learned anything: it may be no better than the shares of A, B and tie."
    elif all(baseline.against.verdict == "better" for baseline in found.baselines):
        verdict = f"The model beats every simple baseline, the best of which is {_name(best)}."
    elif best.against.verdict == "worse":
        verdict = f"The model has learned something, but it is beaten by {_name(best)}: it has not earned its cost."
    else:
        rival = next(y for y in reversed(found.baselines) if y.against.verdict != "better")
        verdict = f"The model has learned something, but is not shown to be better than {_name(rival)}: it has not earned its cost."
    sentences = [
        verdict,
        f"On {headline['n']:,.0f} votes it was not trained on, its log loss is {headline['log_loss']:.4f} (95 % interval "
        f"{between(found.ends['log_loss'], '.4f')}), against {best.log_loss:.4f} for {_name(best)} and {prior.log_loss:.4f} for "
        "always answering with the shares of A, B and tie. (Log loss is how surprised the model was by the "
        "votes, on average. Lower is better.)",
        _calibrated(found),
    ]
    if "information_captured" in headline:
        sentences.append(
            f"{_SIMULATED} Voters are not of one mind: even the truth itself has an expected log loss of "
            f"{headline['floor']:.4f}. Of the way there from the best constant answer, expected to lose {headline['prior']:.4f}, the model "
            f"goes {headline['information_captured']:.1%} (95 % interval {between(found.ends['information_captured'], '.1%')}), with an "
            f"expected log loss of {headline['expected_log_loss']:.4f}."
        )
        if found.params.get("simulate.lossy"):
            sentences.append(
                "That floor cannot be reached here: part of the text was destroyed after the vote (simulate.lossy)."
            )
    if compared := versions.now(found.versions):
        sentences.append(compared)
    sentences.append(_weakest(found))
    return [spaced(sentence) for sentence in sentences]


def _name(baseline: Baseline) -> str:
    return {
        "uniform": "a third each",
        "class_prior": "the shares of A, B and tie",
        "length_only": "a guess from the lengths of the texts",
        "tfidf": "logistic regression on single words (TF-IDF)",
        "boosting": "boosted trees on counts",
    }.get(baseline.name, baseline.name)


def _calibrated(found: Findings) -> str:
    of_after = found.errors[found.errors["stage"] == "after"].set_index("class").drop("CONFIDENCE")
    voted = [label for label in of_after.index if _said_and_happened(found, label)[1] > 0]
    worst = of_after.loc[voted, "error"].idxmax()
    row = of_after.loc[worst]
    said, happened = _said_and_happened(found, worst)
    return (
        f"Its probabilities are off by {found.headline['calibration_error']:.1%} (root mean square). The least reliable is that of "
        f"{_EVENTS[worst]}: off by {row['error']:.1%} (95 % interval {between((row['low'], row['high']), '.1%')}), said to be "
        f"{said:.1%} on average where {happened:.1%} happened."
    )


def _said_and_happened(found: Findings, label: str) -> tuple[float, float]:
    points = found.reliability[
        (found.reliability["stage"] == "after") & (found.reliability["class"] == label)
    ]
    return tuple(
        (points[name] * points["n"]).sum() / points["n"].sum() for name in ("predicted", "observed")
    )


_EVENTS = {"A": "A winning", "B": "B winning", "TIE": "a tie"}
_PARTS = {
    ("truncated", "yes"): "pairs too long for the model, which sees them cut",
    ("truncated", "no"): "pairs that fit whole",
    ("turns", "one"): "single questions",
    ("turns", "several"): "conversations of several turns",
}


def _part(part: Part) -> str:
    return _PARTS.get((part.kind, part.bucket), f"{part.bucket} pairs")


_STANDS_OUT = 3.0
"""Standard errors between the weakest and the strongest part from which it is worth a word: they are the extremes of several."""


def _weakest(found: Findings) -> str:
    kinds = {}
    for part in found.parts:
        if part.against.groups >= buckets.FEW:
            kinds.setdefault(part.kind, []).append(part)
    # Weakest first; parts of one kind share no vote, so their errors are independent.
    extremes = [
        (parts[0], parts[-1])
        for parts in kinds.values()
        if _apart(parts[0], parts[-1]) >= _STANDS_OUT
    ]
    worst, best = max(
        extremes,
        key=lambda pair: pair[0].against.difference - pair[1].against.difference,
        default=(None, None),
    )
    if worst is None:
        return "No kind of pairs is shown to be harder for it than others."
    known = "floor" in found.headline
    loss, reference = (
        ("expected log loss", "the truth's")
        if known
        else ("log loss", "that of the shares of A, B and tie")
    )

    def placed(part: Part) -> str:
        return f"{abs(part.against.difference):.4f} {'above' if part.against.difference > 0 else 'below'}"

    return (
        f"It is weakest on {_part(worst)}: there its {loss} is {placed(worst)} {reference} ({worst.against.votes:,} votes), on "
        f"{_part(best)} {placed(best)}."
    )


def _apart(worst: Part, best: Part) -> float:
    error = (worst.against.rows_error**2 + best.against.rows_error**2) ** 0.5
    return (worst.against.difference - best.against.difference) / error if error > 0 else 0.0


def baselines(found: Findings) -> str:
    """How the model compares with answers that hardly read."""
    best = found.baselines[-1]
    lead = {
        "better": f"The best of them, {_name(best)}, is beaten",
        "worse": f"The best of them, {_name(best)}, beats the model: the text model has not earned its cost",
        "not shown": f"That the model beats the best of them, {_name(best)}, is not shown: the text model has not earned its cost",
    }[best.against.verdict]
    return spaced(
        f"Each of these was fitted and judged on the same folds as the model. {lead} ({_short(best.against)}). The comparison is vote by "
        f"vote, so that luck which both had in common cancels out. {versions.luck(len(found.baselines))}"
    )


_VERDICTS = {"better": "better", "worse": "worse", "not shown": "no difference is shown"}


def _short(comparison: Comparison) -> str:
    return (
        f"{_VERDICTS[comparison.verdict]}: log loss {comparison.difference:+.4f}, 95 % interval {comparison.ci[0]:+.4f} to "
        f"{comparison.ci[1]:+.4f}"
    )


def truth(found: Findings) -> str:
    """How close predictions are to true probabilities."""
    h, ends = found.headline, found.ends
    captured = (
        f" Of the information that there is, from the best constant answer ({h['prior']:.4f}) to the truth itself ({h['floor']:.4f}), "
        f"the model has captured {h['information_captured']:.1%} (95 % interval {between(ends['information_captured'], '.1%')})."
        if "information_captured" in h
        else ""
    )
    return spaced(
        f"{_SIMULATED} Judged by them instead of by votes, which are luck, the model's log loss is {h['expected_log_loss']:.4f} (95 % "
        f"interval {between(ends['expected_log_loss'], '.4f')}).{captured} Its probabilities are off the true ones by "
        f"{h['total_variation']:.1%} on average (95 % interval {between(ends['total_variation'], '.1%')}): so much of each vote's "
        "probability stands with the wrong outcome. That is no contradiction to a small calibration error: over all votes that get 30 % it "
        "may be right on average, and still too high for one and too low for the next."
    )


def calibration(found: Findings) -> str:
    """What the reliability curves show, how much of their wiggle is chance, and what calibration was worth."""
    smallest = int(found.reliability["n"].min())
    chance = smallest**-0.5  # two standard errors of a share near one half
    reading = (
        "When the model says 30%, does it happen in 30% of cases? A point on the diagonal says yes; below it the model "
        f"promised too much. Each point stands for {smallest:,} votes or more; the bars, up to ±{chance:.2f}, are what may be chance. The "
        "calibration error is the root mean square of how far the points are off, less what chance alone would make of it."
    )
    calibrator = found.calibrator
    if calibrator.method == "none":
        return spaced(f"{reading}\n\nProbabilities were not calibrated.")
    if calibrator.temperature == 1:
        return spaced(
            f"{reading}\n\nCalibration did not help on votes that it was not fitted on. So probabilities stay as they are."
        )
    how = (
        "makes every answer more careful"
        if calibrator.temperature > 1
        else "makes every answer bolder"
    )
    bias = (
        f" And it adds {calibrator.tie:+.3f} to the logit of a tie, which makes ties {'more' if calibrator.tie > 0 else 'less'} likely."
        if calibrator.method == "temperature_tie"
        else " It changes no ranking."
    )
    pooled = (
        f" The test file gets the mean of all folds' models, which knows more than one of them and is more careful: its logits are "
        f"multiplied by {calibrator.sharpening:.3f} as well."
        if calibrator.sharpening > 1
        else ""
    )
    h, optimism = (
        found.headline,
        found.calibrate["log_loss"] - found.calibrate["log_loss_in_sample"],
    )
    return spaced(
        f"{reading}\n\nCalibration divides all logits by one temperature, {calibrator.temperature:.3f}: it {how}.{bias} Log loss went from "
        f"{h['log_loss_before']:.4f} to {h['log_loss']:.4f}, each vote judged with what was fitted without it "
        f"({_short(found.gain)}). Judged on the very votes it was fitted on it would seem better by {optimism:.4f}.{_ties(found)}"
        f"{pooled}{f' {calibrator.doubt}.' if calibrator.doubt else ''}"
    )


def _ties(found: Findings) -> str:
    """Ties are what one temperature can't set right: it has the same for all three."""
    said, happened = _said_and_happened(found, "TIE")
    chance = 2 * (happened * (1 - happened) / found.headline["n"]) ** 0.5
    if found.calibrator.method != "temperature" or abs(said - happened) <= chance:
        return ""
    return (
        f" One temperature can't set ties right: they are said to be {said:.1%} on average, and {happened:.1%} happened. "
        "-S calibrate.method=temperature_tie gives them a bias of their own."
    )


def weakness(found: Findings) -> str:
    """Where the model is weak, and what short and long mean."""
    few = int((found.buckets["groups"] < buckets.FEW).sum())
    warning = (
        f" {few} rows of the table stand on fewer than {buckets.FEW} prompts: their intervals are hints at most."
        if few
        else ""
    )
    short, medium = found.cuts
    return spaced(
        f"{_weakest(found)} A pair is short up to {short:,.0f} tokens, medium up to {medium:,.0f}, and long beyond, prompt and both "
        f"answers together. Compare down a column: across, a model that says A more often looks better on votes for A without being "
        f"better.{warning}"
    )


def order(found: Findings) -> str:
    """How much the order of the answers matters to the model."""
    first, average = found.orders["A first"], found.orders["average"]
    by = first["first_favoured"]
    taste = (
        f"being shown first {'raises' if by > 0 else 'lowers'} an answer's probability of winning by {abs(by):.4f} on average"
        if abs(by) >= 0.0005
        else "being shown first changes an answer's probability of winning by less than 0.001 on average"
    )
    used = (
        "The final answer is the average"
        if found.params.get("inference.dual_order")
        else "The final answer is asked once, A first"
    )
    return spaced(
        f"Asked once, the model's answer changes with the order in {first['flipped']:.1%} of pairs; {taste}. "
        f"Averaged over both orders, exchanging A and B exchanges "
        f"their probabilities: the largest change is {average['largest_distance']:g}. Averaging against asking once, A first: "
        f"{_short(found.averaging)}. {used}."
    )


def seeds(found: Findings) -> str:
    """How much of the figures is the luck of one training."""
    parts = []
    if len(found.folds) > 1:
        column, what = (
            ("above_truth", "expected log loss above the truth's")
            if "above_truth" in found.folds
            else ("log_loss", "log loss")
        )
        parts.append(
            f"Each fold is a training of its own, judged on votes of its own: their {what} has a standard deviation of "
            f"{found.folds[column].std(ddof=1):.4f} over {len(found.folds)} folds. The intervals on this page are for the models as "
            "they were trained, and don't hold this luck."
        )
    table, against = found.seeds.scores, found.seeds.against
    if len(table) == 1:
        parts.append(
            "-S train.seeds=[0,1,2] trains fold 0 from three seeds and tells the luck of training from that of the votes."
        )
    else:
        freedom = len(table) - 1
        parts.append(
            f"Fold 0 was trained from {len(table)} seeds. Over seeds and votes together, against {_name(found.baselines[-1])}: "
            f"{_short(against)}. This interval takes in both kinds of luck; what the seeds add to it rests on {freedom} "
            f"degree{'s' if freedom > 1 else ''} of freedom (Student's t)."
        )
    return spaced(" ".join(parts))


def test(scored: dict[str, float]) -> str:
    """What the figures of the test file mean."""
    text = "Predictions for the test file: the mean of all trained folds, calibrated."
    if "log_loss" not in scored:
        return f"{text} Nobody has given its labels, so there is nothing to score."
    if "log_loss_public" in scored and "log_loss_private" in scored:
        luck = 2 * scored["log_loss_error"] * (scored["n"] / scored["n_public"]) ** 0.5
        text += (
            " Scored as a leaderboard would: its public part is what competitors see, its private part decides. With "
            f"{scored['n_public']:,} pairs in the public part, about ±{luck:.3f} of its log loss is luck."
        )
    return text
