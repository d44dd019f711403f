"""Where a line of cells begins to diverge, where it is best, and how wide it is good."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

Side = Literal["above", "below"]


class Edge(NamedTuple):
    """Where cells begin to diverge.

    Attributes:
        value: Geometric mean of ``low`` and ``high``.
        low: The cell below the edge.
        high: The cell above it.
        exceptions: Cells on the wrong side of it.
    """

    value: float
    low: float
    high: float
    exceptions: int


def edge_of_divergence(
    values: Sequence[float], diverged: Sequence[bool], side: Side = "above"
) -> Edge | None:
    """Return where the cells of a line begin to diverge.

    It is the cut between two neighbouring cells that the fewest cells contradict, by having
    diverged on its quiet side or not having diverged on the other one; of several such cuts the one
    that leaves most cells on the side of divergence. In a line without exceptions that is the only
    cut there is, between the last quiet cell and the first that diverged.

    Args:
        values: The knob, positive, in any order.
        diverged: Which cells have diverged.
        side: Whether cells diverge ``above`` or ``below`` the edge.

    Returns:
        The edge, or ``None`` where no cut is better than none: the edge, if there is one, lies
        outside of the line.
    """
    order = np.argsort(values)
    line, wild = np.asarray(values, float)[order], np.asarray(diverged, bool)[order]
    if side == "below":
        line, wild = line[::-1], wild[::-1]
    # Of a cut in front of cell k: diverged cells before it, quiet ones from it on.
    wrong = np.concatenate([[0], np.cumsum(wild)]) + np.concatenate(
        [np.cumsum(~wild[::-1])[::-1], [0]]
    )
    cut = int(wrong.argmin())
    if cut in (0, len(line)) or wrong[cut] == wrong[-1]:
        return None
    low, high = sorted((float(line[cut - 1]), float(line[cut])))
    return Edge((low * high) ** 0.5, low, high, int(wrong[cut]))


class Best(NamedTuple):
    """The best cell of a line.

    Attributes:
        value: The knob there.
        score: Its score.
    """

    value: float
    score: float


def best_of(values: Sequence[Any], scores: Sequence[float]) -> Best | None:
    """Return the cell with the highest score; of several that with the smallest value.

    Args:
        values: The knob.
        scores: NaN in cells that do not count.

    Returns:
        The best cell; ``None`` where none counts.
    """
    cells = [(v, s) for v, s in zip(values, scores, strict=True) if not np.isnan(s)]
    if not cells:
        return None
    top = max(score for _, score in cells)
    return Best(min(value for value, score in cells if score == top), float(top))


def band_width(values: Sequence[float], good: Sequence[bool]) -> float:
    """Return over how many decades cells of a line are good.

    A cell reaches to the geometric means with its neighbours, an outer one as far out as in.

    Args:
        values: The knob, positive, in any order; two at least.
        good: Which cells are good.
    """
    order = np.argsort(values)
    logs = np.log10(np.asarray(values, float)[order])
    middle = (logs[1:] + logs[:-1]) / 2
    edges = [2 * logs[0] - middle[0], *middle, 2 * logs[-1] - middle[-1]]
    return float(np.diff(edges)[np.asarray(good, bool)[order]].sum())
