"""Lines that say how far a long prediction is, and how much time is left."""

import time
from collections.abc import Callable

_EVERY = 10.0  # seconds between two lines


class Progress:
    """Of pairs that are predicted in parts.

    Args:
        done: pairs that are finished already.
        total: of them all.
        say: called with a line every few seconds.
    """

    def __init__(self, done: int, total: int, say: Callable[[str], object]) -> None:
        self._first = self._done = done
        self.total, self._say = total, say
        self._began = self._told = time.monotonic()
        self._steps = self._of_part = 0.0

    def begin(self, pairs: int, steps: float) -> None:
        """Begin a part, of about so many steps."""
        self._steps, self._of_part = 0.0, pairs / max(1.0, steps)

    def step(self, steps: int) -> None:
        """So many more are done."""
        self._steps += steps
        now = time.monotonic()
        if now - self._told < _EVERY:
            return
        self._told = now
        done = min(self._done + self._steps * self._of_part, float(self.total))
        rate = max(done - self._first, 1e-9) / (now - self._began)
        self._say(
            f"{done:,.0f} of {self.total:,} pairs, {rate:,.3g}/s, "
            f"{in_words((self.total - done) / rate)} left"
        )

    def finish(self, pairs: int) -> None:
        """A part of so many pairs is done."""
        self._done += pairs
        self._steps = 0.0


def in_words(seconds: float) -> str:
    """Such as 12 s, 5 min, 2 h 05 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
