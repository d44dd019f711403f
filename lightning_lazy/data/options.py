"""Checks of a datamodule's arguments that need no data."""

import math
from collections.abc import Sequence
from numbers import Real

from lightning_lazy.errors import InputError

Number = float | Sequence[float]


def check_count(name: str, value: object, *, least: int = 1, words: Sequence[object] = ()) -> None:
    """Raise an InputError unless the argument is a whole number, or one of `words` instead."""
    if any(value is word or (isinstance(word, str) and value == word) for word in words):
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        also = "".join(f" or {'null' if word is None else word}" for word in words)
        raise InputError(
            f"expected {name} to be a whole number of at least {least}{also}, got {value!r}"
        )


def check_path(dataset: str, path: str | None) -> None:
    """Raise an InputError where a folder is needed and not given, or given and not used."""
    if dataset == "folder" and path is None:
        raise InputError(
            "expected path with dataset=folder, got none: name the folder that holds train/ and "
            "test/ (or val/)"
        )
    if dataset != "folder" and path is not None:
        raise InputError(f"expected no path with dataset={dataset}: use root, or dataset=folder")


def check_moments(normalize: str, mean: Number | None, std: Number | None) -> None:
    """Raise an InputError unless mean and std come together, usable, and are used."""
    if (mean is None) != (std is None):
        raise InputError("expected mean and std together, got one of them: give both or neither")
    if std is None:
        return
    if normalize != "standardize":
        raise InputError(f"expected no mean and std with normalize={normalize}: leave them out")
    per_channel("mean", mean or 0.0, None)
    if min(per_channel("std", std, None)) <= 0:
        raise InputError(f"expected std above 0, got {std}")


def per_channel(name: str, value: Number, channels: int | None) -> tuple[float, ...]:
    """One number a channel, from one for all or one for each.

    Args:
        name: Name of the argument.
        value: A number or a list of numbers.
        channels: How many there must be; None for however many there are.

    Returns:
        The numbers.

    Raises:
        InputError: Where a list has another length, or holds what is no finite number.
    """
    numbers = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    finite = all(isinstance(number, Real) and math.isfinite(number) for number in numbers)
    fits = len(numbers) == (channels or len(numbers)) or numbers is not value
    if not (numbers and finite and fits):
        raise InputError(
            f"expected {name} to be one number or {channels or 'more'}, one a channel, got "
            f"{value!r}"
        )
    repeated = 1 if numbers is value else channels or 1
    return tuple(float(number) for number in numbers) * repeated
