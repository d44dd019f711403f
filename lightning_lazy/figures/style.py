"""How the figures look."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

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


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Write a figure to ``<folder>/figures/<name>.png`` and return the path."""
    path = folder / "figures" / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path
