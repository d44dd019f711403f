"""Lines and marks over a heat map, and the legend that names them."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from lightning_lazy.figures.kanoh.lattice import Plane
from lightning_lazy.figures.kanoh.names import lazy_bound
from lightning_lazy.figures.kanoh.regions import Regions
from lightning_lazy.figures.style import COLORS, INK

MISSING = "#cfcfcf"
DARK, BRIGHT = (to_hex(colormaps["viridis"](end)) for end in (0.0, 1.0))
_OUTLINE = [withStroke(linewidth=3, foreground="white")]
_FIT: dict[str, Any] = {"color": COLORS[1], "lw": 1.6, "path_effects": _OUTLINE}
_LAZY: dict[str, Any] = {"color": "black", "lw": 1.4, "ls": "--", "path_effects": _OUTLINE}
_BEST: dict[str, Any] = {"marker": "*", "ms": 11, "color": "white", "mec": "black", "ls": "none"}


def draw_regions(axes: Axes, regions: Regions, plane: Plane) -> set[str]:
    """Draw the power law of the edge of divergence and the best point.

    Args:
        axes: A map of the plane.
        regions: What its points say.
        plane: The two axes.

    Returns:
        The marks that are there, for `legend`.
    """
    marks = set()
    along, against = plane.named(regions.along), plane.named(regions.against)
    if regions.law is not None:
        law, values = regions.law, against.floats
        inside = (values >= law.start) & (values <= law.end)
        _draw_line(axes, plane, regions.along, np.where(inside, law(values), np.nan))
        marks.add("law")
    if regions.best is not None:
        place = {
            along.name: along.values.index(regions.best["best"]),
            against.name: against.values.index(regions.best[against.name]),
        }
        axes.plot(place[plane.x.name], place[plane.y.name], **_BEST)
        marks.add("best")
    return marks


def draw_lazy_bound(axes: Axes, points: pd.DataFrame, plane: Plane) -> set[str]:
    """Draw where η (λ_max + l2) = 2, on a plane of which η is an axis.

    Args:
        axes: A map of the plane.
        points: Rows of `over_seeds` of a panel; all its optimizers start with the same λ_max.
        plane: The two axes.

    Returns:
        The marks that are there, for `legend`.
    """
    against = plane.y if plane.x.name == "lr" else plane.x
    sharpness = points.groupby(against.name)["sharpness"].mean()
    sharpness = sharpness[sharpness > 0].reindex(list(against.values))
    if sharpness.isna().all():
        return set()
    _draw_line(axes, plane, "lr", 2 / sharpness.to_numpy(float), _LAZY)
    return {"lazy"}


def legend(figure: Figure, marks: set[str], has_l2: bool) -> None:
    """Name the marks below the maps.

    Args:
        figure: The maps.
        marks: Those that there are.
        has_l2: Whether there is an L2 term.
    """
    entries: dict[str, tuple[Artist, str]] = {
        "diverged": (Patch(facecolor="white", edgecolor=INK), "diverged"),
        "untrusted": (_hatched(figure), "updates lost to rounding"),
        "missing": (Patch(color=MISSING), "missing"),
        "lazy": (Line2D([], [], **_LAZY), f"{lazy_bound(has_l2)} at the start"),
        "law": (Line2D([], [], **_FIT), "fit of the edge of divergence"),
        "best": (Line2D([], [], **_BEST), "best"),
    }
    shown = [entry for mark, entry in entries.items() if mark in marks]
    handles, texts = [handle for handle, _ in shown], [text for _, text in shown]
    columns = 6 if figure.get_figwidth() > 8 else 2
    figure.legend(
        handles, texts, fontsize=9, frameon=False, loc="outside lower center", ncols=columns
    )


def _hatched(figure: Figure) -> Patch:
    """Return a patch that is hatched as the first hatched cells of the maps, dark or bright."""
    inks = (
        to_hex(np.asarray(cells.get_edgecolor()).reshape(-1, 4)[0])
        for axes in figure.axes
        for cells in axes.collections
        if cells.get_hatch() and len(cells.get_paths())
    )
    ink = next(inks, to_hex("black"))
    face = BRIGHT if ink == to_hex("black") else DARK
    return Patch(facecolor=face, hatch="////", edgecolor=ink, linewidth=0)


def _draw_line(
    axes: Axes, plane: Plane, along: str, values: Any, style: dict[str, Any] = _FIT
) -> None:
    """Draw values of the knob ``along`` at every value of the other one."""
    places = plane.named(along).place(values)
    steps = np.arange(len(places))
    axes.plot(*((places, steps) if along == plane.x.name else (steps, places)), **style)
