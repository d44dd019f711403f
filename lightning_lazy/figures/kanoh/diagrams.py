"""Phase diagrams of grids: the figures of the paper, and any pair of knobs."""

from pathlib import Path

import pandas as pd

from lightning_lazy.errors import InputError
from lightning_lazy.figures.kanoh.bars import bars_figure
from lightning_lazy.figures.kanoh.cells import (
    Folders,
    listed,
    over_seeds,
    read_diagram,
    with_panels,
)
from lightning_lazy.figures.kanoh.effective_rate import effective_rate_figure
from lightning_lazy.figures.kanoh.extracted import regions_figure
from lightning_lazy.figures.kanoh.maps import map_figure
from lightning_lazy.figures.kanoh.names import file_name
from lightning_lazy.figures.kanoh.slices import best_rate_figure, rates_figure, slice_at_one
from lightning_lazy.figures.style import save
from lightning_lazy.stacked.files import TABLE

_NUMBERS = {
    "mnist": ("fig3", "fig10"),
    "fashion_mnist": ("fig4", "fig11"),
    "cifar10": ("fig5", "fig12"),
}
"""The paper's figures of test and training accuracy, by data set."""


def paper_figures(folder: Folders) -> list[Path]:
    """Draw figures 1 to 12 of the paper from grids over η and α, and what is extracted from them.

    ``fig1_2``: effective learning rates; ``fig3`` to ``fig5`` and ``fig10`` to ``fig12``: test and
    training accuracy on MNIST, Fashion-MNIST and CIFAR-10, ``accuracy_<data>`` and
    ``train_accuracy_<data>`` on other data; ``fig6``: the slice at η = 1; ``fig7``: consistency of
    hidden signs; ``fig8``: bars; ``fig9``: at the best η; ``slices``: at several η; ``boundary``:
    the edge of divergence, the best η and the width of the band of good ones. Data stand in
    ``diagram.csv``, ``lines.csv`` and ``laws.csv``.

    Args:
        folder: Folder of a grid or of a sweep of grids; or several folders, whose shards are put
            together: pictures go to the first one.

    Returns:
        The paths of the pictures.
    """
    target = listed(folder)[0]
    if not _has_begun(folder):
        return []
    cells = _read(folder, target, "alpha", "lr")
    points = over_seeds(cells, "alpha", "lr")
    return [
        *effective_rate_figure(target, points),
        *_accuracy_maps(target, points),
        *slice_at_one(target, cells),
        *_map(target, points, ("alpha", "lr"), "lazy/sign_consistency", "fig7"),
        *bars_figure(target, points),
        *best_rate_figure(target, points),
        *rates_figure(target, points),
        *regions_figure(target, points, "alpha", "lr", "boundary"),
    ]


def phase_diagram(
    folder: Folders, x: str = "lr", y: str = "alpha", metric: str = "val/acc"
) -> list[Path]:
    """Draw a metric of a grid over any two of its axes, and what is extracted from it.

    A row is a data set (or another thing that grids differ in) with one value of each other axis, a
    column an optimizer; points are means over seeds.

    Args:
        folder: As `paper_figures` takes it.
        x: The horizontal axis, such as ``lr``, ``alpha``, ``l2`` or a knob of the net.
        y: The vertical axis.
        metric: A column of the table of cells.

    Returns:
        The paths of the pictures, ``figures/<metric>_<x>_<y>.png`` and
        ``figures/boundary_<x>_<y>.png``; data stand in ``diagram.csv``, ``lines.csv`` and
        ``laws.csv``.

    Raises:
        InputError: x, y or the metric is none, or there are too many other axes.
    """
    target = listed(folder)[0]
    if not _has_begun(folder):
        return []
    points = over_seeds(_read(folder, target, x, y), x, y)
    if metric not in points or not pd.api.types.is_numeric_dtype(points[metric]):
        known = ", ".join(name for name in map(str, points) if "/" in name)
        raise InputError(f"metric must be a column of the table of cells ({known}), got {metric!r}")
    name = file_name(f"{metric}_{x}_{y}")
    return [
        *_map(target, points, (x, y), metric, name),
        *regions_figure(target, points, x, y, file_name(f"boundary_{x}_{y}")),
    ]


def _has_begun(folder: Folders) -> bool:
    """Return whether a cell is finished; say so where none is, as where the first one failed."""
    found = any(next(one.rglob(TABLE), None) for one in listed(folder))
    if not found:
        print(f"missing: no cell of {', '.join(map(str, listed(folder)))} has ended")
    return found


def _read(folder: Folders, target: Path, x: str, y: str) -> pd.DataFrame:
    cells = with_panels(read_diagram(folder), x, y)
    cells.to_csv(target / "diagram.csv", index=False)
    return cells


def _accuracy_maps(folder: Path, points: pd.DataFrame) -> list[Path]:
    """Draw test and training accuracy, two pictures for each panel."""
    paths = []
    panels = points[["data", "panel"]].drop_duplicates()
    for panel, data in zip(panels["panel"], panels["data"], strict=True):
        own = file_name(panel)
        names = (f"accuracy_{own}", f"train_accuracy_{own}")
        if (panels["data"] == data).sum() == 1:
            names = _NUMBERS.get(data, names)
        for metric, name in zip(("val/acc", "train/acc"), names, strict=True):
            chosen = points[points["panel"] == panel]
            paths += _map(folder, chosen, ("alpha", "lr"), metric, name)
    return paths


def _map(
    folder: Path, points: pd.DataFrame, knobs: tuple[str, str], metric: str, name: str
) -> list[Path]:
    """Draw a map; none of a metric that was not measured anywhere."""
    if points[metric].isna().all():
        return []
    return [save(map_figure(points, *knobs, metric), folder, name)]
