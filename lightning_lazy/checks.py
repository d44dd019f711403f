"""Checks of arguments, each with one line that says what was expected, what came, what to do."""

import math
from collections.abc import Iterable
from numbers import Integral, Real

from lightning_lazy.errors import InputError


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Check that an option is one of ``choices``.

    Raises:
        InputError: It is not.
    """
    allowed = tuple(choices)
    if value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(allowed)}, got {value!r}; pick one")


def check_number(name: str, value: float, *, zero: bool = False) -> float:
    """Return ``value`` as a float where it is finite and positive (or zero, if ``zero``).

    Raises:
        InputError: It is not, or no number at all.
    """
    wanted = "at least 0" if zero else "above 0"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f"{name} must be a number {wanted}, got {value!r}; write it as {name}=0.1")
    number = float(value)
    if not math.isfinite(number) or number < 0 or (number == 0 and not zero):
        raise InputError(f"{name} must be finite and {wanted}, got {value!r}; change {name}")
    return number


def check_size(name: str, value: int, minimum: int = 1) -> int:
    """Return ``value`` where it is an integer of at least ``minimum``.

    Raises:
        InputError: It is not.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < minimum:
        raise InputError(
            f"{name} must be an integer of at least {minimum}, got {value!r}; pass a larger {name}"
        )
    return int(value)


def check_period(name: str, value: int | None) -> None:
    """Check a period that may be ``None``.

    Raises:
        InputError: It is neither ``None`` nor an integer of at least 1.
    """
    if value is not None:
        check_size(name, value)
