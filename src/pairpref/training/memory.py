"""Out of memory, in one line."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from pairpref.errors import UserError
from pairpref.text.published import one_line


@contextmanager
def explained(advice: Callable[[], str]) -> Iterator[None]:
    """Turn running out of memory into one line.

    Args:
        advice: gives what was computed, and which param to change.

    Raises:
        UserError: memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not exhausted(error):
            raise
        raise UserError(
            f"Out of memory ({one_line(error) or type(error).__name__}) with {advice()}."
        ) from None


def exhausted(error: Exception) -> bool:
    """Whether memory ran out; torch's allocator of the CPU raises a plain RuntimeError."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or (
        isinstance(error, RuntimeError)
        and ("can't allocate memory" in str(error) or "out of memory" in str(error))
    )
