"""A budget of seconds: what is given up so that every pair has an answer when it is spent."""

import time
from collections.abc import Callable

import numpy as np

from pairpref.effort import Effort

PROBE = 16  # pairs from which the rate is measured first, if they are no longer than
_PROBE_CHARACTERS = 50_000
_SAFETY = 0.85  # of the time left that is planned for
_END = 0.98  # of all seconds, after which the file is written
_SHARE = 0.05  # of the time left that a shard may take, so that the plan can change in time


class Budget:
    """Chooses the effort of the next pairs by the seconds that earlier ones took.

    Args:
        seconds: for all, from `began` (of `time.time`).
        ladder: efforts, the most wanted first.
        work: how much models read of a pair, by effort and the lengths of some pairs.
        idle: seconds a pair costs that no model is asked about.
    """

    def __init__(
        self,
        seconds: float,
        began: float,
        ladder: list[Effort],
        work: Callable[[Effort, np.ndarray], float],
        idle: float,
    ) -> None:
        self._end, self._ladder = began + _END * seconds, ladder
        self._work, self._idle = work, idle
        self._lengths = np.zeros(0)
        self._reading = self._asking = 0.0  # seconds a character, and a unit of work
        self._probed = self._over = False

    def next(self, rows: int, characters: int) -> tuple[Effort | None, int, int]:
        """The effort for the next pairs, and how many pairs and characters they should be at most.

        Without an effort there is no time, and there will be none.

        Args:
            rows, characters: that are left.
        """
        left = self._end - time.time() - rows * self._idle
        if left <= 0 or self._over:
            self._over = True
            return None, rows, characters
        if not self._probed:
            return self._ladder[0], PROBE, _PROBE_CHARACTERS
        reading = self._reading * characters
        for effort in self._ladder:
            seconds = reading + self._asking * self._work(effort, self._lengths) * rows
            if seconds <= _SAFETY * left:
                break
        # Even the least effort may take too long: it goes on as long as there is time.
        share = _SHARE * left / max(seconds, 1e-9)
        most = max(1, int(share * rows)), max(1, int(share * characters))
        self._over = seconds / max(1, rows) > left
        return (None, rows, characters) if self._over else (effort, *most)

    def took(
        self, effort: Effort, lengths: np.ndarray, characters: int, reading: float, asking: float
    ) -> None:
        """Measure pairs of some lengths: seconds to read them and to ask the models."""
        n = len(lengths)
        if not n:
            return
        found = (reading / max(characters, 1), asking / n / max(self._work(effort, lengths), 1e-9))
        # Half of what is known is the last shard's: texts differ, and the first one warms up.
        share = 0.5 if self._probed else 1.0
        self._reading += share * (found[0] - self._reading)
        self._asking += share * (found[1] - self._asking)
        self._lengths, self._probed = lengths, True
