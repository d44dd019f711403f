"""What is extracted from a phase diagram: edges of divergence, best values, bands of good ones."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from lightning_lazy.figures.kanoh.cells import optimizers_of, panels_of, scored_by
from lightning_lazy.figures.kanoh.names import (
    CURVED,
    KNOBS,
    OPTIMIZER_COLORS,
    OPTIMIZERS,
    best_of_score,
    lazy_bound,
    symbol,
)
from lightning_lazy.figures.kanoh.power_law import PowerLaw
from lightning_lazy.figures.kanoh.regions import GOOD, Regions, find_regions, law_text
from lightning_lazy.figures.style import INK, label, logarithmic, new_figure, save

Found = dict[tuple[str, str], Regions]


def regions_figure(folder: Path, points: pd.DataFrame, x: str, y: str, name: str) -> list[Path]:
    """Draw edges of divergence with their power laws, best values, and widths of good bands.

    Left: between which cells of the one knob training begins to diverge, against the other knob,
    the fitted power law, and where η (λ_max + l2) = 2. Middle: the best value. Right: over how many
    decades the training accuracy is at least 0.95. The data stand beside it in ``lines.csv``, the
    power laws in ``laws.csv``.

    Args:
        folder: Folder of the picture.
        points: As `over_seeds` gives them.
        x: The horizontal axis.
        y: The vertical axis.
        name: Name of the picture.

    Returns:
        The path of the picture; none where there is nothing to draw.
    """
    found = {
        (str(panel), str(optimizer)): find_regions(own, x, y)
        for (panel, optimizer), own in points.groupby(["panel", "optimizer"], sort=False)
    }
    _write(folder, found)
    panels = panels_of(points)
    first = next(iter(found.values()))
    if not all(pd.api.types.is_numeric_dtype(points[knob]) for knob in (x, y)):
        return []
    figure, axes = new_figure(columns=3, rows=len(panels), width=4.3, height=4.4)
    for row, panel in zip(axes, panels, strict=True):
        for optimizer in optimizers_of(points):
            if (panel, optimizer) in found:
                _draw(row, found[panel, optimizer], optimizer)
        if first.along == "lr" and any(name in CURVED for name in optimizers_of(points)):
            _draw_lazy_bound(row[0], points[points["panel"] == panel], first.against)
        _finish(row, first, panel, best_of_score(scored_by(points)))
    handles, texts = axes[0][1].get_legend_handles_labels()
    figure.legend(handles, texts, fontsize=9, frameon=False, loc="outside upper center", ncols=4)
    return [save(figure, folder, name)]


def _draw(row: Any, regions: Regions, optimizer: str) -> None:
    """Draw what an optimizer's points say."""
    left, middle, right = row
    lines, color = regions.lines, OPTIMIZER_COLORS[optimizer]
    edges = lines.dropna(subset=["critical"])
    if len(edges):
        bars = (edges["critical"] - edges["low"], edges["high"] - edges["critical"])
        where = edges[regions.against]
        left.errorbar(where, edges["critical"], bars, fmt=".", color=color, lw=1)
        if regions.law is not None:
            ends = [regions.law.start, regions.law.end]
            left.plot(ends, regions.law(ends), color=color, lw=1.2, label=law_text(regions))
    shown = lines.dropna(subset=["best"])
    name = OPTIMIZERS[optimizer]
    middle.plot(
        shown[regions.against], shown["best"].astype(float), "o-", ms=4, color=color, label=name
    )
    right.plot(lines[regions.against], lines["decades"], "o-", ms=4, color=color)


def _draw_lazy_bound(axes: Axes, points: pd.DataFrame, against: str) -> None:
    sharpness = points.groupby(against)["sharpness"].mean()
    sharpness = sharpness[sharpness > 0]
    name = lazy_bound(bool((points["l2"] > 0).any()))
    if len(sharpness):
        axes.plot(sharpness.index, 2 / sharpness, color=INK, ls="--", lw=1.2, label=name)


def _finish(row: Any, first: Regions, panel: str, best: str) -> None:
    """Name the axes."""
    along, against = (KNOBS.get(name, name) for name in (first.along, first.against))
    left, middle, right = row
    label(left, against, f"{panel}\n{along}", "edge of divergence")
    label(middle, against, along, f"at the {best}")
    mark = f"${symbol(first.along)}$"
    title = f"band of good {mark}: training accuracy ≥ {GOOD}"
    label(right, against, f"width of the band, in decades of {mark}", title)
    right.set_ylim(bottom=0)
    for one in row:
        _scale(one, first.lines[first.against])
    for one in (left, middle):
        logarithmic(one, "y")
    if left.get_legend_handles_labels()[1]:
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2)}
        left.legend(fontsize=8, frameon=False, **below)


def _scale(axes: Axes, values: "pd.Series[float]") -> None:
    """Make the horizontal axis logarithmic, with room for all values; linear below if one is 0."""
    low, high = float(values[values > 0].min()), float(values.max())
    if (values > 0).all():
        axes.set_xlim(low / 2, high * 2)
        axes.set_xscale("log")
        logarithmic(axes, "x")
    elif high > 0:
        axes.set_xscale("symlog", linthresh=low)
        axes.set_xlim(-low / 2, high * 2)


def _write(folder: Path, found: Found) -> None:
    """Write the tables ``lines.csv`` and ``laws.csv``."""
    lines, laws = [], []
    for (panel, optimizer), regions in found.items():
        own = {"panel": panel, "optimizer": optimizer}
        lines.append(regions.lines.assign(**own))
        if (law := regions.law) is not None:
            laws.append(
                {
                    **own, "along": regions.along, "against": regions.against,
                    **asdict(law),
                }
            )  # fmt: skip
    columns = ["panel", "optimizer", "along", "against", *(one.name for one in fields(PowerLaw))]
    pd.concat(lines, ignore_index=True).to_csv(folder / "lines.csv", index=False)
    pd.DataFrame(laws, columns=columns).to_csv(folder / "laws.csv", index=False)
