"""Checks of arguments: each function returns the checked value or raises UsageError."""

import numbers
from collections.abc import Collection
from typing import Any, TypeVar

import numpy as np

from lsnc_core.errors import UsageError

Kind = TypeVar("Kind")


def as_floats(x: Any, name: str) -> np.ndarray:
    """A number or an array of numbers as float64.

    Args: x; name, what the message calls it. Raises: UsageError, for anything else.
    """
    try:
        if np.asarray(x).dtype.kind in "fiub" or isinstance(x, numbers.Real):
            return np.asarray(x, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        pass  # ragged, on no CPU, with a gradient, too large
    raise UsageError(f"{name} must be a real number or an array of them, not {x!r}.")


def as_one_float(x: Any, name: str) -> float:
    """One finite number. Args, raises: as `as_floats`."""
    number = as_floats(x, name)
    if number.ndim or not np.isfinite(number):
        raise UsageError(f"{name} must be one finite number, not {x!r}.")
    return float(number)


def as_one_shape(**arrays: np.ndarray) -> list[np.ndarray]:
    """Arrays broadcast to one shape. Args: arrays by name. Raises: UsageError."""
    try:
        return list(np.broadcast_arrays(*arrays.values()))
    except ValueError:
        shapes = " and ".join(str(array.shape) for array in arrays.values())
        raise UsageError(
            f"The shapes of {' and '.join(arrays)} must broadcast, but they are {shapes}."
        ) from None


def check_choice(x: Any, choices: Collection[str], name: str) -> None:
    """Refuse what is not one of the texts. Raises: UsageError."""
    if not isinstance(x, str) or x not in choices:
        raise UsageError(f"{name} must be one of {', '.join(choices)}, not {x!r}.")


def check_kind(x: Any, kind: type[Kind], name: str) -> None:
    """Refuse what is not of a class. Raises: UsageError."""
    if not isinstance(x, kind):
        raise UsageError(f"The {name} must be a {kind.__name__}, not {x!r}.")
