"""A made-up arena whose true vote probabilities are known, to measure the pipeline with.

What is shown (`authors`), the vote (`judge`) and the damage to the file (`damage`) happen in this
order, so the truth is exact whatever the damage.
"""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random

from pairpref.data.arena import authors, damage, judge
from pairpref.pairs import PROBABILITIES, TEXTS, WINNERS
from pairpref.params import SimulateParams

PUBLIC_SHARE = 0.26


@dataclass(frozen=True)
class Vote:
    """One simulated row, with the true probabilities of its vote."""

    id: int
    models: tuple[str, str]
    shown: tuple[Sequence[str | None], ...]  # turns of prompt, A and B as the voter sees them
    stored: tuple[list, ...]  # the same as they are stored
    p: tuple[float, float, float]
    label: int
    public: bool


def vote(row: int, params: SimulateParams) -> Vote:
    """Row number `row` of an endless arena; each row is drawn from its own seed."""
    rng = Random(f"{params.seed}:{row}")
    source, near = rng, False
    if rng.random() < params.repeated_prompts:
        source, near = authors.popular(params.seed, rng), rng.random() < params.near_repeats
    topic = authors.topic(source)
    turns = 1 if source.random() >= params.several_turns else 2 + int(source.random() * 2)
    prompt = authors.prompt(source, topic, turns)
    if near:
        prompt[0] = authors.near_repeat(rng, prompt[0])
    first = int(rng.random() * len(authors.MODELS))
    others = len(authors.MODELS) - 1
    second = (first + 1 + int(rng.random() * others)) % (others + 1)
    models = sorted((first, second), reverse=rng.random() < params.better_first)
    a, b = (authors.MODELS[i] for i in models)
    of_a, of_b = (authors.answer(rng, topic, prompt, model, params) for model in (a, b))
    p = judge.vote_probabilities(prompt, of_a, of_b, params.judge)
    u = rng.random()
    label = 0 if u < p[0] else 1 if u < p[0] + p[1] else 2
    # Kaggle's ids are large and in no order; the row keeps them unique.
    identifier = int(rng.random() * 2**22) * 2**20 + row
    public = rng.random() < PUBLIC_SHARE
    shown = prompt, of_a, of_b
    stored = tuple(damage.stored(rng, turns, params) for turns in shown)
    return Vote(identifier, (a.name, b.name), shown, stored, p, label, public)


def write(
    votes: Iterable[Vote], train_rows: int, train: Path, test: Path, truth: Path, solution: Path
) -> None:
    """Write the arena's four files, a row at a time; the first `train_rows` votes go to `train`.

    Args:
        train, test: Kaggle's columns (test without models and winners).
        truth: id, p_a, p_b, p_tie of every row of both.
        solution: id, the three winner columns and Kaggle's Usage, of the test rows.
    """
    with ExitStack() as stack:

        def writer(path: Path, *header: str) -> Callable[[list], object]:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(path, "w", encoding="utf-8", newline=""))
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(header)
            return rows.writerow

        to_train = writer(train, "id", "model_a", "model_b", *TEXTS, *WINNERS)
        to_test = writer(test, "id", *TEXTS)
        to_truth = writer(truth, "id", *PROBABILITIES)
        to_solution = writer(solution, "id", *WINNERS, "Usage")
        for row, v in enumerate(votes):
            texts = [json.dumps(turns) for turns in v.stored]
            winners = [int(v.label == label) for label in range(3)]
            to_truth([v.id, *(f"{p:.6f}" for p in v.p)])
            if row < train_rows:
                to_train([v.id, *v.models, *texts, *winners])
            else:
                to_test([v.id, *texts])
                to_solution([v.id, *winners, "Public" if v.public else "Private"])
