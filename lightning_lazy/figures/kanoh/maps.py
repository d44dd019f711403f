"""Heat maps over two knobs."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PatchCollection
from matplotlib.colors import LogNorm, Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lightning_lazy.figures.kanoh.cells import optimizers_of, panels_of
from lightning_lazy.figures.kanoh.lattice import Plane, lattice, matrix
from lightning_lazy.figures.kanoh.names import CURVED, KNOBS, METRICS, OPTIMIZERS, SHARES
from lightning_lazy.figures.kanoh.overlays import MISSING, draw_lazy_bound, draw_regions, legend
from lightning_lazy.figures.kanoh.regions import find_regions, law_text
from lightning_lazy.figures.style import label, new_figure


def map_figure(points: pd.DataFrame, x: str, y: str, metric: str) -> Figure:
    """Return a figure of a metric over two knobs: a row for each panel, a column an optimizer.

    White: diverged; grey: not there; hatched: most updates were lost to rounding. Dashed: where the
    learning rate times the largest eigenvalue of the Hessian at the start (plus l2) is 2, beyond
    which gradient descent on the linearised model diverges. Solid: the power law fitted to the edge
    of divergence. A star marks the best point.

    Args:
        points: As `over_seeds` gives them.
        x: The horizontal axis.
        y: The vertical axis.
        metric: A column.
    """
    panels, optimizers = panels_of(points), optimizers_of(points)
    figure, axes = new_figure(len(optimizers), len(panels), width=3.5, height=3.4)
    norm = _norm(points[metric], metric)
    marks: set[str] = set()
    for row, panel in zip(axes, panels, strict=True):
        rows = points[points["panel"] == panel]
        plane = Plane(lattice(rows, x), lattice(rows, y))
        for one, optimizer in zip(row, optimizers, strict=True):
            own = rows[rows["optimizer"] == optimizer]
            marks |= draw_cells(one, own, plane, metric, norm)
            regions = find_regions(own, x, y)
            marks |= draw_regions(one, regions, plane)
            if optimizer in CURVED and "lr" in (x, y):
                marks |= draw_lazy_bound(one, rows, plane)
            name = OPTIMIZERS[optimizer] if panel == panels[0] else ""
            label(one, KNOBS.get(x, x), "")
            law = regions.law and f"edge: {law_text(regions)}"
            one.set_title("\n".join(text for text in (name, law) if text), fontsize=9)
        row[0].set_ylabel(f"{panel}\n{KNOBS.get(y, y)}", fontsize=10)
    scale = ScalarMappable(norm, colormaps["viridis"])
    figure.colorbar(scale, ax=axes, label=METRICS.get(metric, metric), shrink=0.9, aspect=30)
    legend(figure, marks, bool((points["l2"] > 0).any()))
    return figure


def draw_cells(
    axes: Axes, points: pd.DataFrame, plane: Plane, metric: str, norm: Normalize
) -> set[str]:
    """Draw the cells of one optimizer.

    Args:
        axes: What is drawn on.
        points: Rows of `over_seeds`, of one panel and one optimizer.
        plane: The two axes.
        metric: A column.
        norm: Scale of the colours.

    Returns:
        The marks that are there, for `legend`.
    """
    values = matrix(points, metric, plane)
    diverged, untrusted = (matrix(points, mark, plane) == 1 for mark in ("diverged", "untrusted"))
    colors = colormaps["viridis"](norm(np.ma.masked_invalid(values)))
    colors[np.isnan(values)] = to_rgba(MISSING)
    colors[diverged] = to_rgba("white")
    axes.imshow(colors, origin="lower", aspect="auto", interpolation="nearest")
    bright = colors[..., :3].mean(-1) > 0.5
    for which, ink in ((bright, "black"), (~bright, "white")):
        _hatch(axes, untrusted & ~diverged & which, ink)
    axes.grid(False)
    axes.spines[:].set_visible(True)
    axes.set_xlim(-0.5, len(plane.x.values) - 0.5)
    axes.set_ylim(-0.5, len(plane.y.values) - 0.5)
    axes.set_xticks(*plane.x.ticks())
    axes.set_yticks(*plane.y.ticks())
    found = {
        "diverged": diverged.any(),
        "untrusted": (untrusted & ~diverged).any(),
        "missing": (np.isnan(values) & ~diverged).any(),
    }
    return {mark for mark, there in found.items() if there}


def _hatch(axes: Axes, cells: Any, ink: str) -> None:
    rectangles = [Rectangle((j - 0.5, i - 0.5), 1, 1) for i, j in np.argwhere(cells)]
    style: dict[str, Any] = {"facecolor": "none", "edgecolor": ink, "linewidth": 0}
    axes.add_collection(PatchCollection(rectangles, hatch="////", **style))


def _norm(values: "pd.Series[float]", metric: str) -> Normalize:
    """Return the scale of colours; a logarithmic one where values span more than two decades."""
    if metric in SHARES:
        return Normalize(0, 1)
    finite = values[np.isfinite(values)]
    if finite.empty:
        return Normalize(0, 1)
    low, high = float(finite.min()), float(finite.max())
    return LogNorm(low, high) if low > 0 and high > 100 * low else Normalize(low, high)
