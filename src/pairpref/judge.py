"""The judge as a library.

from pairpref import Judge

judge = Judge.load("models")
judge.predict("Why is the sky blue?", "Rayleigh scattering.", "It reflects the sea.")
judge.rank("Why is the sky blue?", ["Rayleigh scattering.", "No idea.", "It reflects the sea."])
print(judge.explain("Why is the sky blue?", "Rayleigh scattering.", "It reflects the sea."))
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations, islice, starmap
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any, Self, TypeVar, get_args, overload

import numpy as np
import pandas as pd

from pairpref import bundle as bundles
from pairpref.answers import Explanation, Prediction, explain
from pairpref.data import given
from pairpref.data.clean import Clean, clean_row, texts
from pairpref.data.given import Text
from pairpref.data.votes import Row
from pairpref.effort import WHOLE, Effort
from pairpref.errors import UserError
from pairpref.evaluation.ranking import Ranking, bradley_terry
from pairpref.pairs import PROBABILITIES
from pairpref.params import CleanParams, Precision
from pairpref.text.published import one_line

if TYPE_CHECKING:
    from pairpref.training.members import Members, Pairs

_STREAM = 256  # pairs of an iterator that are read at a time
SHARD_ROWS = 10_000  # pairs that are predicted at a time, unless their texts are long:
SHARD_CHARACTERS = 32_000_000

R = TypeVar("R")


class Judge:
    """Calibrated probabilities of what a person prefers, by the models of a finished pipeline.

    A pair's probabilities are its own: whatever is asked beside it changes them by less than 1e-6
    (in float32). Swapped answers get swapped probabilities, unless the pipeline was calibrated to
    one order. Several threads may share a judge; they are answered one after another.
    """

    def __init__(self, members: "Members") -> None:
        """Called by `load`."""
        self.members, self._lock = members, RLock()
        config = members.config
        try:
            self.switches = CleanParams(**config.clean, near_duplicate=1, max_bad_share=1)
            self.prior = np.array(config.prior, dtype=np.float64)  # of A, B and tie
            if self.prior.shape != (3,) or not (min(self.prior) >= 0 < sum(self.prior) < np.inf):
                raise ValueError(f"prior {config.prior}")
        except (TypeError, ValueError) as error:
            raise UserError(f"{members.bundle}: damaged, {one_line(error)}. Train again.") from None
        self.prior /= self.prior.sum()
        self.usual = bundles.plain(members.bundle)

    @classmethod
    def load(
        cls, path: Path | str, precision: Precision = "auto", say: Callable[[str], object] = print
    ) -> Self:
        """Check a bundle and load its models.

        Args:
            path: a pipeline's `models`, or a bundle's folder.
            precision: as `predict.precision`.
            say: told of what could not be done as asked, such as fused attention.

        Raises:
            UserError: there is no whole bundle.
        """
        if precision not in get_args(Precision):
            raise UserError(f"precision {precision!r}: expected one of {get_args(Precision)}.")
        models = bundles.models_of(path)
        folders = bundles.check(models)
        # Seconds to import: a wrong path need not wait for it.
        from pairpref.training.members import Members

        return cls(Members(models, folders, precision, say))

    @overload
    def predict(self, prompt: str, a: str, b: str) -> Prediction: ...
    @overload
    def predict(self, prompt: Iterator[tuple]) -> Iterator[Prediction]: ...
    @overload
    def predict(self, prompt: Any, a: Any = None, b: Any = None) -> Any: ...
    def predict(self, prompt: Any, a: Any = None, b: Any = None) -> Any:
        """How likely a person prefers A, prefers B, or calls it a tie.

        Args:
            prompt: one of
                a text: a string, or messages such as [{"role": "user", "content": "Hi"}];
                None, if a and b are whole conversations;
                many texts: a list, an array or a Series, as long as a and b;
                a DataFrame in any form of docs/votes.md, without a and b;
                an iterator of (prompt, a, b), without a and b.
            a, b: the answers: texts, or many of them.

        Returns:
            Of one pair a `Prediction`, of many an array (n, 3): A, B, tie. Of a DataFrame one with
            p_a, p_b, p_tie and the same index. Of an iterator an iterator of predictions, which
            reads 256 pairs at a time.

        Raises:
            UserError: a pair can't be used, or there are more prompts than answers.
        """
        if isinstance(prompt, pd.DataFrame):
            rows = given.of_frame(prompt, self.usual)
            return pd.DataFrame(self._of_rows(rows), columns=PROBABILITIES, index=prompt.index)
        if isinstance(prompt, Iterator):
            return self._of_iterator(prompt)
        if a is None and b is None:
            raise UserError(
                "expected a prompt and two answers, a DataFrame, or an iterator of (prompt, a, b); "
                f"got one {type(prompt).__name__}. For a file: pairpref predict --input FILE."
            )
        if not any(map(given.is_many, (prompt, a, b))):
            return Prediction(*self._of_rows([given.pair(prompt, a, b)])[0].tolist())
        prompts = [None] * len(a) if prompt is None and given.is_many(a) else prompt
        if not all(map(given.is_many, (prompts, a, b))) or len({*map(len, (prompts, a, b))}) > 1:
            sizes = (len(x) if given.is_many(x) else "one" for x in (prompts, a, b))
            raise UserError(
                "expected as many prompts as answers; got {} prompts, {} A and {} B.".format(*sizes)
            )
        many = zip(prompts, a, b, strict=True)
        return self._of_rows(given.pair(*one, i) for i, one in enumerate(many, 1))

    def rank(self, prompt: Text, answers: Iterable[Text]) -> Ranking:
        """Order several answers to one prompt by all their pairs; see `evaluation.ranking`.

        Raises:
            UserError: there is no answer, or one that can't be used.
        """
        answers = answers if isinstance(answers, str) else list(answers)
        if isinstance(answers, str) or not answers:
            raise UserError(f"expected a list of answers to rank; got {answers!r:.80}.")
        k = len(answers)
        beats = np.full((k, k), 0.5)
        pairs = [*combinations(range(k), 2)]
        rows = (given.pair(prompt, answers[i], answers[j], n) for n, (i, j) in enumerate(pairs, 1))
        for (i, j), (a, b, _) in zip(pairs, self._of_rows(rows), strict=True):
            beats[i, j], beats[j, i] = (1 + a - b) / 2, (1 + b - a) / 2
        return bradley_terry(beats)

    def explain(self, prompt: Text | None, a: Text, b: Text) -> Explanation:
        """What the answer to one pair is made of: orders, members, features, what was read."""
        pair = self.read([clean_row(given.pair(prompt, a, b), self.switches)])
        with self._lock:
            return explain(self.members, pair)

    def read(self, rows: Sequence[Clean], run: Callable[..., Iterable] = starmap) -> "Pairs":
        """Tokenise and count cleaned rows; see `Members.read`."""
        with self._lock:
            return self.members.read(texts(rows), run)

    def answer(self, pairs: "Pairs", effort: Effort = WHOLE, **options: Any) -> np.ndarray:
        """p of what was read, shape (n, 3); the options are those of `Members.answer`."""
        with self._lock:
            p = self.members.answer(pairs, effort, **options)
        return p / p.sum(axis=1, keepdims=True)

    def _of_rows(self, rows: Iterable[Row]) -> np.ndarray:
        rows, parts = iter(rows), [np.zeros((0, len(PROBABILITIES)))]
        while shard := take(rows):
            parts.append(self.answer(self.read([clean_row(row, self.switches) for row in shard])))
        return np.concatenate(parts)

    def _of_iterator(self, pairs: Iterator[tuple]) -> Iterator[Prediction]:
        rows = (given.of_item(item, number) for number, item in enumerate(pairs, 1))
        while chunk := list(islice(rows, _STREAM)):
            for p in self._of_rows(chunk):
                yield Prediction(*p.tolist())


def take(rows: Iterator[R], most: int = SHARD_ROWS, characters: int = SHARD_CHARACTERS) -> list[R]:
    """The next rows: at most `most`, and of `characters` or little more; none at the end."""
    shard: list[R] = []
    for row in rows:
        shard.append(row)
        characters -= row.characters if isinstance(row, Row) else 0
        if len(shard) >= most or characters <= 0:
            break
    return shard
