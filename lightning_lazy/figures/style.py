"""How the figures look."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

INK, GRID = "#222222", "#dddddd"
COLORS = ("#1f5fa8", "#d1603d", "#3f8f5f", "#8a5aa8", "#b08a1e", "#5a5a5a")


def new_figure(columns: int, rows: int = 1, width: float = 4.6, height: float = 3.4) -> Any:
    """Return a figure and its axes, an array of shape ``(rows, columns)``.

    The figure belongs to no window and no global state.
    """
    figure = Figure(figsize=(width * columns, height * rows), dpi=150, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for one in axes.flat:
        one.grid(color=GRID, linewidth=0.6)
        one.set_axisbelow(True)
        one.spines[["top", "right"]].set_visible(False)
        one.tick_params(colors=INK, labelsize=9)
    return figure, axes


def label(axes: Axes, x: str, y: str, title: str = "") -> None:
    """Name the axes of a plot and what it shows."""
    axes.set_xlabel(x, fontsize=10)
    axes.set_ylabel(y, fontsize=10)
    axes.set_title(title, fontsize=10, loc="left")


def seeds_text(count: int) -> str:
    """Return a number of seeds in words.

    >>> seeds_text(1), seeds_text(3)
    ('1 seed', '3 seeds')
    """
    return f"{count} seed{'' if count == 1 else 's'}"


def logarithmic(axes: Axes, which: str, places: Iterable[float] = ()) -> None:
    """Make an axis logarithmic once the data are drawn, with numbers that do not run into another.

    It stays linear where it has no positive value to show: those of nets that diverged are NaN.

    Args:
        axes: What was drawn on.
        which: ``x`` or ``y``.
        places: Values that get a tick each, if they are few.
    """
    lowest = axes.dataLim.minposx if which == "x" else axes.dataLim.minposy
    if not np.isfinite(lowest):
        return
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    ends = sorted(axis.get_view_interval())
    ticks = sorted(set(places))
    if 0 < len(ticks) <= 9:
        axis.set_major_locator(FixedLocator(ticks))
    elif ends[1] < 100 * ends[0]:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    else:
        return
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Write a figure to ``<folder>/figures/<name>.png`` and return the path."""
    path = folder / "figures" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
