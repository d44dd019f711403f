"""Figure 8: accuracy and consistency in one picture of bars."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from lightning_lazy.figures.kanoh.cells import optimizers_of, panels_of
from lightning_lazy.figures.kanoh.lattice import Lattice, Plane, lattice, matrix
from lightning_lazy.figures.kanoh.names import KNOBS, METRICS, OPTIMIZERS
from lightning_lazy.figures.style import save

HEIGHT, COLOR = "val/acc", "lazy/sign_consistency"


def bars_figure(folder: Path, points: pd.DataFrame) -> list[Path]:
    """Draw bars over α and η: heights are accuracies, colours consistencies (figure 8).

    Where cells diverged there is no bar. The paper's conclusion: where η and α are both small the
    accuracy is high and the hidden signs change: training is not lazy.

    Args:
        folder: Folder of the picture.
        points: As `over_seeds` gives them, over ``alpha`` and ``lr``.

    Returns:
        The path of the picture, ``figures/fig8.png``; none where no accuracy was measured.
    """
    if points[HEIGHT].isna().all():
        return []
    panels, optimizers = panels_of(points), optimizers_of(points)
    shape = (4.2 * len(optimizers), 3.9 * len(panels))
    figure = Figure(figsize=shape, dpi=150, layout="constrained")
    axes = figure.subplots(
        len(panels), len(optimizers), squeeze=False, subplot_kw={"projection": "3d"}
    )
    for row, panel in zip(axes, panels, strict=True):
        rows = points[points["panel"] == panel]
        for one, optimizer in zip(row, optimizers, strict=True):
            _draw(one, rows[rows["optimizer"] == optimizer], rows)
            one.set_title(OPTIMIZERS[optimizer] if panel == panels[0] else "", fontsize=10)
        row[0].text2D(0, 0.9, panel, fontsize=10, transform=row[0].transAxes)
    scale = ScalarMappable(Normalize(0, 1), colormaps["viridis"])
    figure.colorbar(scale, ax=axes, label=METRICS[COLOR], shrink=0.6, aspect=25, pad=0.03)
    return [save(figure, folder, "fig8")]


def _draw(axes: Any, points: pd.DataFrame, rows: pd.DataFrame) -> None:
    plane = Plane(lattice(rows, "alpha"), lattice(rows, "lr"))
    height, share = (matrix(points, name, plane) for name in (HEIGHT, COLOR))
    places = np.argwhere(~np.isnan(height))
    if len(places):
        i, j = places.T
        colors = colormaps["viridis"](np.ma.masked_invalid(share[i, j]))
        axes.bar3d(j - 0.45, i - 0.45, 0, 0.9, 0.9, height[i, j], color=colors, shade=True)
    _name_axis(axes.xaxis, plane.x)
    _name_axis(axes.yaxis, plane.y)
    axes.set_zlim(0, 1)
    axes.set_zlabel(METRICS[HEIGHT], fontsize=8, labelpad=-2)
    axes.tick_params(labelsize=7, pad=-2)
    axes.view_init(elev=38, azim=-120)


def _name_axis(axis: Any, values: Lattice) -> None:
    axis.set_ticks(*values.ticks(most=5))
    axis.set_label_text(KNOBS[values.name], fontsize=8)
    axis.labelpad = -2
