"""Figure S8 of Lewkowycz & Gur-Ari 2020: ResNet-50 on ImageNet."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_lazy.figures.lewkowycz.cells import peak_cells
from lightning_lazy.figures.lewkowycz.drawing import legend, shades
from lightning_lazy.figures.style import label, logarithmic, new_figure, save


def s8(folder: Path) -> list[Path]:
    """Draw the best accuracy over η and λ, and against the length of training (figure S8).

    (a) A map over η and λ at a fixed length; (b) a line for every λ against the length, over which
    the schedule is stretched. The paper's conclusion: accuracy depends on η·λ, and a
    smaller λ does not make up for it by longer training.

    Args:
        folder: Folder of a sweep over ``cell`` (``panel``, ``lr``, ``l2``, ``stretch``).

    Returns:
        The path of the picture, ``figures/s8.png``; the data stand beside it in ``cells.csv``.
    """
    cells = peak_cells(folder, ("cell.panel", "cell.lr"))
    panels = cells["cell.panel"]
    figure, axes = new_figure(columns=2, width=5.4, height=4.0)
    _draw_map(figure, axes[0][0], cells[panels == "map"])
    lengths = cells[panels == "length"]
    same = cells["cell.lr"].isin(lengths["cell.lr"]) & cells["l2"].isin(lengths["l2"])
    _draw_lengths(axes[0][1], cells[same])
    return [save(figure, folder, "s8")]


def _draw_map(figure: Figure, axes: Axes, cells: pd.DataFrame) -> None:
    """Draw the accuracy as a colour and a number in every field; empty where there is no cell."""
    table = cells.pivot_table(index="l2", columns="cell.lr", values="best")
    axes.grid(False)
    axes.set_title("(a) best test accuracy", fontsize=9, loc="left")
    if not len(table):
        return
    drawn = axes.imshow(table.to_numpy(), origin="lower", aspect="auto", cmap="viridis")
    figure.colorbar(drawn, ax=axes)
    middle = (table.max().max() + table.min().min()) / 2
    for (row, column), value in np.ndenumerate(table.to_numpy(dtype=float)):
        if not np.isnan(value):
            color = "black" if value > middle else "white"
            axes.text(column, row, f"{value:.3f}", ha="center", color=color, fontsize=7)
    axes.set_xticks(range(len(table.columns)), [f"{lr:g}" for lr in table.columns])
    axes.set_yticks(range(len(table.index)), [f"{l2:g}" for l2 in table.index])
    label(axes, "learning rate η", "λ", axes.get_title(loc="left"))


def _draw_lengths(axes: Axes, cells: pd.DataFrame) -> None:
    values = sorted(cells["l2"].unique())
    for l2, color in zip(values, shades(len(values)), strict=True):
        best = cells[cells["l2"] == l2].groupby("length")["best"].mean()
        axes.plot(best.index, best, "o-", ms=4, color=color, label=f"λ = {l2:g}")
    rates = ", ".join(f"{lr:g}" for lr in sorted(cells["cell.lr"].unique()))
    label(axes, "epochs of training", "best test accuracy")
    axes.set_title(f"(b) η = {rates}, schedule stretched", fontsize=9, loc="left")
    logarithmic(axes, "x", cells["length"])
    legend(axes)
