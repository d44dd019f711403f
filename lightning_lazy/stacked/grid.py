"""The cells of a phase diagram: every combination of the values of its axes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, get_args

from lightning_lazy.checks import check_choice, check_number, check_size
from lightning_lazy.errors import InputError

OptimizerName = Literal["sgd", "momentum", "rmsprop", "adam", "scaled_rmsprop", "scaled_adam"]
"""Optimizers by the names of their files in ``conf/optimizer``."""

Knobs = tuple[tuple[str, Any], ...]
"""Keyword arguments of a net, as (name, value)."""

_DEFAULTS: dict[str, Any] = {"optimizer": "sgd", "seed": 0, "l2": 0.0, "alpha": 1.0, "lr": 1.0}


@dataclass(frozen=True)
class Cell:
    """One training run of a grid.

    Attributes:
        index: Place in the whole grid, from 0.
        optimizer: Name of the optimizer.
        seed: Of the initial weights.
        l2: Coefficient of ½·l2·‖θ‖².
        alpha: Output scale α.
        lr: Learning rate η.
        knobs: Keyword arguments of the net that are axes of the grid.
    """

    index: int
    optimizer: OptimizerName
    seed: int
    l2: float
    alpha: float
    lr: float
    knobs: Knobs = ()

    @property
    def kind(self) -> tuple[OptimizerName, Knobs]:
        """What cells have in common that can be trained in one stack."""
        return self.optimizer, self.knobs

    @property
    def start(self) -> tuple[int, Knobs]:
        """What decides about the net at initialisation."""
        return self.seed, self.knobs

    @property
    def columns(self) -> dict[str, Any]:
        """The cell as columns of a table."""
        own = {name: getattr(self, name) for name in ("optimizer", "lr", "alpha", "l2", "seed")}
        return {"cell": self.index, **own, **dict(self.knobs)}


class Grid:
    """All combinations of the values of some axes, cut into shards where wanted.

    The learning rate varies fastest, then α, l2, seed, optimizer and the knobs of the net.

    Args:
        axes: Values by name: a list, a single value, or ``low:high:count``, so many values at equal
            ratios with both ends, such as ``1e-4:1e4:9``; integers if all are whole. Names are
            ``lr``, ``alpha``, ``l2``, ``seed`` and ``optimizer``, which have the values of a plain
            run if they are left out; any other name is a keyword argument of the net, such as
            ``width``.

    Attributes:
        axes: The values of all axes, in the order of the cells.
        cells: The cells.

    Raises:
        InputError: A value is out of range or comes twice, or an axis has none.
    """

    def __init__(self, axes: Mapping[str, Any]) -> None:
        knobs = [name for name in axes if name not in _DEFAULTS]
        given = {name: axes.get(name, _DEFAULTS.get(name)) for name in [*knobs, *_DEFAULTS]}
        self.axes = {name: _values(name, value) for name, value in given.items()}
        self.cells = []
        for index, values in enumerate(product(*self.axes.values())):
            own = dict(zip(self.axes, values, strict=True))
            arguments = tuple((name, own.pop(name)) for name in knobs)
            self.cells.append(Cell(index, **own, knobs=arguments))

    def shard(self, text: str) -> list[Cell]:
        """Return the cells of a shard: of ``i/n`` the i-th of every n, so that all get a mixture.

        Args:
            text: ``i/n`` with i from 1 to n.

        Raises:
            InputError: It is none.
        """
        number, count = parse_shard(text)
        return self.cells[number - 1 :: count]


def parse_shard(text: str) -> tuple[int, int]:
    """Return i and n of ``i/n``.

    Raises:
        InputError: It is not of that form, or i is not between 1 and n.

    Examples:
        >>> parse_shard("2/8")
        (2, 8)
    """
    parts = str(text).split("/")
    if len(parts) != 2 or not all(part.strip().isdigit() for part in parts):
        raise InputError(f"shard must be i/n such as 1/4, got {text!r}; write it as shard=1/4")
    number, count = map(int, parts)
    if not 1 <= number <= count:
        raise InputError(
            f"shard must be i/n with i from 1 to n, got {text!r}; the last one is {count}/{count}"
        )
    return number, count


def _values(name: str, given: Any) -> list[Any]:
    """Return the checked values of an axis."""
    if isinstance(given, str):
        values = _spaced(name, given) if ":" in given else [given]
    else:
        values = list(given) if isinstance(given, Sequence) else [given]
    if not values:
        raise InputError(f"axes.{name} must have a value, got an empty list; leave the axis out")
    values = [_checked(name, value) for value in values]
    twice = [value for place, value in enumerate(values) if value in values[:place]]
    if twice:
        raise InputError(f"axes.{name} has the value {twice[0]!r} twice; drop one")
    return values


def _spaced(name: str, text: str) -> list[Any]:
    """Return values at equal ratios, rounded to 12 digits so that every machine has the same."""
    try:
        low, high, count = text.split(":")
        ends, last = (float(low), float(high)), int(count) - 1
    except ValueError as error:
        raise InputError(
            f"axes.{name} must be low:high:count such as 1e-4:1e4:9, got {text!r}; or give a list"
        ) from error
    for end in ends:
        check_number(f"axes.{name}", end)
    check_size(f"the count of axes.{name}", last + 1, minimum=2)
    ratio = ends[1] / ends[0]
    values = [float(f"{ends[0] * ratio ** (place / last):.12g}") for place in range(last + 1)]
    whole = all(value.is_integer() for value in values)  # as widths and seeds must be
    return list(map(int, values)) if whole else values


def _checked(name: str, value: Any) -> Any:
    if name == "optimizer":
        check_choice("axes.optimizer", value, get_args(OptimizerName))
        return value
    if name == "seed":
        return check_size("axes.seed", value, minimum=0)
    if name not in _DEFAULTS:
        if not isinstance(value, int | float | str | None):
            raise InputError(
                f"axes.{name} must have numbers, words, true or false, got {value!r}; give the "
                "net an argument of that kind"
            )
        return value
    number = check_number(f"axes.{name}", value, zero=name == "l2")
    if name == "alpha" and not 1e-150 <= number <= 1e150:
        raise InputError(f"axes.alpha must be between 1e-150 and 1e150, got {value}; change it")
    return number
