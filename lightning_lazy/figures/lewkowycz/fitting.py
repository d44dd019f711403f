"""Figures S1 and S5 of Lewkowycz & Gur-Ari 2020: where the training accuracy reaches 1."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lightning_lazy.figures.frames import read_metrics
from lightning_lazy.figures.lewkowycz.cells import peak_cells
from lightning_lazy.figures.lewkowycz.drawing import legend, shades
from lightning_lazy.figures.style import INK, label, logarithmic, new_figure, save

_ACCURACIES = {"acc then": "test accuracy at training accuracy 1", "best": "best test accuracy"}


def s1(folder: Path) -> list[Path]:
    """Draw the time at which the training accuracy is first 1 against η (figure S1).

    The paper's conclusion: it hardly depends on λ and is ∝ 1/η for small η.

    Args:
        folder: Folder of a sweep over ``lr``, ``l2`` and maybe ``seed``.

    Returns:
        The path of the picture, ``figures/s1.png``; the data stand beside it in ``cells.csv``.
    """
    return [draw_fitting_times(folder, peak_cells(folder), "s1")]


def draw_fitting_times(folder: Path, cells: pd.DataFrame, name: str) -> Path:
    """Draw figure S1 of cells that `peak_cells` gave, and write ``figures/<name>.png``."""
    figure, axes = new_figure(columns=1, width=5.6, height=4.0)
    one = axes[0][0]
    _per_l2(one, cells, "fitted at")
    reached = cells["fitted at"].notna()
    if reached.any():
        scale = (cells["lr"] * cells["fitted at"])[cells["lr"] == cells["lr"][reached].min()].mean()
        rates = np.array(sorted(cells["lr"].unique()))
        one.plot(rates, scale / rates, color=INK, lw=0.9, ls=":", label="∝ 1/η")
    logarithmic(one, "x", cells["lr"])
    label(one, "learning rate η", "epochs to training accuracy 1")
    cut = int((cells["cut"] & ~reached).sum())
    title = f"left out: {int((~reached).sum())} of {len(cells)} runs that never reach it, {cut} cut"
    one.set_title(title, fontsize=9, loc="left")
    logarithmic(one, "y")
    legend(one)
    return save(figure, folder, name)


def s5(folder: Path) -> list[Path]:
    """Draw test accuracies and losses with the squared loss and L2 (figure S5).

    (a) Test accuracy where the training accuracy is first 1, (b) the best test accuracy, both
    against η; (c) the training loss over time at the middle η, its minimum marked. The paper's
    conclusion: large η, which go through a catapult, do better at training accuracy 1, but not when
    trained on with an L2 term; the loss has a minimum at a time ∝ 1/λ.

    Args:
        folder: Folder of a sweep over ``lr``, ``l2`` and maybe ``seed``.

    Returns:
        The path of the picture, ``figures/s5.png``; the data stand beside it in ``cells.csv``.
    """
    cells = peak_cells(folder)
    figure, axes = new_figure(columns=3, width=4.9, height=3.7)
    left, middle, right = axes[0]
    for one, metric in zip((left, middle), _ACCURACIES, strict=True):
        _draw_accuracies(one, cells, metric)
    middle.sharey(left)
    left.set_ylim(auto=True)
    cut = cells[cells["cut"] & ~cells["diverged"]]
    middle.plot(cut["lr"], cut["best"], "o", ms=8, mfc="none", mec=INK)
    rate = _middle(cells)
    _draw_losses(right, cells[(cells["lr"] == rate) & (cells["seed"] == cells["seed"].min())])
    missing = int((cells["fitted at"].isna() & ~cells["diverged"]).sum())
    ring = f"rings: cut ({len(cut)} of {len(cells)} runs)" if len(cut) else "no run cut"
    titles = (
        f"(a) ×: diverged; left out: {missing} runs never reach it",
        f"(b) {ring}",
        f"(c) η = {rate:g}; dots: minima",
    )
    for one, title in zip(axes[0], titles, strict=True):
        one.set_title(title, fontsize=9, loc="left")
        legend(one)
    return [save(figure, folder, "s5")]


def _draw_accuracies(axes: Axes, cells: pd.DataFrame, metric: str) -> None:
    """Draw a test accuracy against η; crosses at the bottom mark what diverged."""
    _per_l2(axes, cells[~cells["diverged"]], metric)
    rates = cells["lr"][cells["diverged"]].unique()
    place = axes.get_xaxis_transform()
    axes.plot(rates, [0.03] * len(rates), "x", color=INK, ms=6, transform=place)
    logarithmic(axes, "x", cells["lr"])
    label(axes, "learning rate η", _ACCURACIES[metric])


def _per_l2(axes: Axes, cells: pd.DataFrame, metric: str) -> None:
    """Draw the mean of a metric over seeds against η, a line for every λ."""
    values = sorted(cells["l2"].unique())
    for l2, color in zip(values, shades(len(values)), strict=True):
        mean = cells[cells["l2"] == l2].groupby("lr")[metric].mean().dropna()
        if len(mean):
            axes.plot(mean.index, mean, "o-", ms=4, lw=1.2, color=color, label=f"λ = {l2:g}")


def _draw_losses(axes: Axes, cells: pd.DataFrame) -> None:
    values = sorted(cells["l2"].unique())
    for l2, color in zip(values, shades(len(values)), strict=True):
        cell = cells[cells["l2"] == l2].iloc[0]
        rows = read_metrics(Path(cell["folder"]))[["epoch", "train/loss"]].dropna()
        name = f"λ = {l2:g}" + (", cut" if cell["cut"] else "")
        axes.plot(rows["epoch"], rows["train/loss"], color=color, lw=1.2, label=name)
        if l2 > 0 and len(rows):
            lowest = rows.iloc[rows["train/loss"].argmin()]
            axes.plot(lowest["epoch"], lowest["train/loss"], "o", ms=5, color=color)
    label(axes, "epoch", "training loss without L2 term")
    logarithmic(axes, "x")
    logarithmic(axes, "y")


def _middle(cells: pd.DataFrame) -> float:
    """Return the median of the learning rates that did not diverge."""
    rates = sorted(cells[~cells["diverged"]]["lr"].unique()) or sorted(cells["lr"].unique())
    return float(rates[len(rates) // 2])
