"""Errors of training in one line: memory that ran out, and what a published backbone raises."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch

from pairpref.errors import UserError
from pairpref.params import BUILT_IN
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
        reason = one_line(error) or type(error).__name__
        raise UserError(f"Out of memory ({reason}) with {advice()}.") from None


@contextmanager
def naming_cause(backbone: str, arguments: Iterable[str]) -> Iterator[None]:
    """Turn what a published backbone raises after its dry run into one line, and so what Trainer
    raises for the user's arguments.

    Args:
        arguments: names in train.arguments.

    Raises:
        UserError: it can't be trained.
    """
    try:
        yield
    except (UserError, OSError):
        raise
    except Exception as error:  # a backbone of any family may raise anything
        reason = f"({type(error).__name__}: {one_line(error)})"
        if named := ", ".join(arguments):
            raise UserError(
                f"model.backbone {backbone!r} can't be trained with train.arguments {named} "
                f"{reason}. Change them, or leave them out."
            ) from error
        if backbone in BUILT_IN:
            raise
        raise UserError(
            f"model.backbone {backbone!r} can't be trained and saved {reason}. "
            "Choose another model.backbone."
        ) from error


def exhausted(error: Exception) -> bool:
    """Whether memory ran out; torch's allocator of the CPU raises a plain RuntimeError."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    said = ("can't allocate memory", "out of memory")
    return isinstance(error, RuntimeError) and any(words in str(error) for words in said)
