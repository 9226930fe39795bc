"""Prompts and answers before any vote: templates filled by made-up models of different skill.

All choices go through `random.Random.random()`, whose sequence Python guarantees, and plain
arithmetic: the same seed gives the same text on any machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from pairpref.data.arena import lexicon
from pairpref.params import SimulateParams


@dataclass(frozen=True)
class Model:
    """A made-up model."""

    name: str
    on_topic: float  # share of its words
    good: float  # share of its judging words
    verbosity: float


MODELS = (
    Model("alder-1", 0.30, 0.40, 0.8),
    Model("birch-1", 0.40, 0.45, 1.3),
    Model("cedar-2", 0.45, 0.55, 0.9),
    Model("dogwood-2", 0.55, 0.45, 1.2),
    Model("elm-3", 0.55, 0.60, 1.0),
    Model("fir-3", 0.65, 0.55, 0.8),
    Model("ginkgo-4", 0.70, 0.65, 1.1),
    Model("hazel-4", 0.75, 0.60, 0.9),
)

# Clauses of an answer, as quantiles 0, 1/8 … 1 of the usual length; interpolated between them.
_CLAUSES = (1, 1.5, 2, 2.5, 3, 3.5, 4, 5.5, 8)
_LONG = 4
_POPULAR = 200


def pick(rng: Random, options: Sequence[str]) -> str:
    return options[int(rng.random() * len(options))]


def topic(rng: Random) -> str:
    return pick(rng, tuple(lexicon.TOPICS))


def prompt(rng: Random, on: str, turns: int) -> list[str]:
    """The user's turns, all on one topic, each with some of its words."""
    asked = []
    for turn in range(turns):
        template = pick(rng, lexicon.FOLLOW_UPS if turn else lexicon.PROMPT_TEMPLATES)
        left = list(lexicon.TOPICS[on])
        words = [left.pop(int(rng.random() * len(left))) for _ in range(template.count("{}"))]
        asked.append(template.format(*words))
    return asked


def popular(seed: int, rng: Random) -> Random:
    """The source of one of the popular prompts, the first ones far more often."""
    u = rng.random()
    return Random(f"{seed}:popular:{int(_POPULAR * u * u)}")


def near_repeat(rng: Random, text: str) -> str:
    """The same prompt with other case, punctuation or white space."""
    other_case = [text.lower(), text.upper()]
    spaced = ["  " + text.replace(" ", "  "), text.replace(",", " ,")]
    return pick(rng, [*other_case, text.rstrip(".?") + "!!", *spaced])


def answer(
    rng: Random, on: str, asked: list[str], model: Model, params: SimulateParams
) -> Sequence[str | None]:
    """One answer to each turn of `asked`. Luck spreads each answer widely around the skill."""
    u = rng.random()
    if u < params.null_answers + params.empty_answers:
        return [None if u < params.null_answers else ""] * len(asked)

    def lucky(skill: float) -> float:
        return min(1.0, max(0.0, skill + 1.1 * (rng.random() - rng.random())))

    distractor = pick(rng, tuple(t for t in lexicon.TOPICS if t != on))
    model = replace(model, on_topic=lucky(model.on_topic), good=lucky(model.good))
    return [_turn(rng, (on, distractor), model, turn, params) for turn in asked]


def _turn(
    rng: Random, topics: tuple[str, str], model: Model, asked: str, params: SimulateParams
) -> str:
    u = rng.random() * (len(_CLAUSES) - 1)
    low = int(u)
    clauses = (_CLAUSES[low] + (u - low) * (_CLAUSES[low + 1] - _CLAUSES[low])) * model.verbosity
    is_long = rng.random() < params.long_answers
    late = is_long and rng.random() < params.late_evidence
    clauses *= _LONG if is_long else 1
    count = max(1, int(clauses + 0.5))
    style = rng.random()
    parts: list[str] = []
    if rng.random() < 0.3:
        words = asked.replace("?", " ").replace(",", " ").replace(".", " ").split()
        echo = [word for word in words if word in lexicon.WORD_TOPIC]
        parts.append(pick(rng, lexicon.OPENINGS).format(pick(rng, echo) if echo else "that"))
    # With late evidence all but the last third is on any topic, and judges nothing.
    idle = replace(model, on_topic=0.5, good=0.5)
    for i in range(count):
        template = pick(rng, lexicon.ITEMS if style < 0.2 else lexicon.CLAUSES)
        if style > 0.95 and i == count - 1:
            template = pick(rng, lexicon.CODE)
        parts.append(_clause(rng, template, topics, idle if late and i < 2 * count // 3 else model))
    if style < 0.2:
        return "\n".join(parts)
    return " ".join(
        p if p.endswith((":", ".", "```")) else p[0].upper() + p[1:] + "." for p in parts
    )


def _clause(rng: Random, template: str, topics: tuple[str, str], model: Model) -> str:
    text = template
    while "{t}" in text:
        source = topics[0] if rng.random() < model.on_topic else topics[1]
        text = text.replace("{t}", pick(rng, lexicon.TOPICS[source]), 1)
    while "{q}" in text:
        words = lexicon.GOOD if rng.random() < model.good else lexicon.BAD
        text = text.replace("{q}", pick(rng, words), 1)
    return text
