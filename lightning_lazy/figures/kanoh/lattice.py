"""The lattice of cells: places, not values, are drawn, so any knob can be an axis."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lightning_lazy.figures.kanoh.cells import short

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Lattice:
    """The values of an axis, the i-th of which is drawn at i.

    Attributes:
        name: The axis.
        values: Its values, ascending where they are numbers.
    """

    name: str
    values: tuple[Any, ...]

    @property
    def positive(self) -> list[int]:
        """Places of the values that are positive numbers."""
        return [i for i, v in enumerate(self.values) if isinstance(v, int | float) and v > 0]

    @property
    def floats(self) -> Array:
        """The values; NaN in place of those that are no positive numbers."""
        found = np.full(len(self.values), np.nan)
        found[self.positive] = [float(self.values[place]) for place in self.positive]
        return found

    def place(self, points: Any) -> Array:
        """Return where points are drawn, evenly in their logarithm between the values.

        NaN beyond the outermost cells, and on axes without two positive numbers.

        Args:
            points: Positive numbers; NaN stays NaN.
        """
        points = np.asarray(points, float)
        known = self.positive
        if len(known) < 2:
            return np.full(points.shape, np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log([float(self.values[i]) for i in known])
            wanted = np.log(points)
        # As far again beyond the outermost values, to draw up to the edge of their cells.
        logs = np.array([2 * logs[0] - logs[1], *logs, 2 * logs[-1] - logs[-2]])
        places = np.array([known[0] - 1, *known, known[-1] + 1], float)
        found = np.interp(wanted, logs, places, left=np.nan, right=np.nan)
        outside = (found < known[0] - 0.5) | (found > known[-1] + 0.5)
        return np.where(outside, np.nan, found)

    def ticks(self, most: int = 7) -> tuple[list[int], list[str]]:
        """Return the places of some values and their names: powers of ten if there are enough."""
        tens = {i: round(float(np.log10(self.values[i]))) for i in self.positive}
        tens = {i: k for i, k in tens.items() if np.isclose(self.values[i], 10.0**k, rtol=1e-9)}
        if len(tens) > 2:
            exponents = list(tens.values())
            step = max(1, -(-(max(exponents) - min(exponents)) // (most - 1)))
            shown = [i for i, k in tens.items() if k % step == 0]
            return shown, [rf"$10^{{{tens[i]}}}$" for i in shown]
        shown = list(range(0, len(self.values), -(-len(self.values) // most)))
        return shown, [short(self.values[i]) for i in shown]


class Plane(NamedTuple):
    """Two axes.

    Attributes:
        x: The horizontal one.
        y: The vertical one.
    """

    x: Lattice
    y: Lattice

    def named(self, name: str) -> Lattice:
        """Return the axis of that name."""
        return self.x if self.x.name == name else self.y


def lattice(cells: pd.DataFrame, name: str) -> Lattice:
    """Return the values of an axis that cells have."""
    values = cells[name].dropna().unique().tolist()
    numbers = all(isinstance(value, int | float) for value in values)
    return Lattice(name, tuple(sorted(values) if numbers else values))


def matrix(points: pd.DataFrame, column: str, plane: Plane) -> Array:
    """Return a column on a plane, shape ``(len(y), len(x))``; NaN where there is no point.

    Args:
        points: At most one row for each x and y.
        column: A column of numbers or of marks.
        plane: The two axes.
    """
    wide = points.pivot(index=plane.y.name, columns=plane.x.name, values=column)
    wide = wide.reindex(index=list(plane.y.values), columns=list(plane.x.values))
    return wide.to_numpy(dtype=float)
