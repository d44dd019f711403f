"""Figures 1 to 3 of Huang, Du, Xu & Liu 2020: linear nets on a line."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from lightning_lazy.figures.frames import read_config, read_metrics
from lightning_lazy.figures.huang.cells import LOSSES, PHASE_COLORS, POINTS, phase_cells
from lightning_lazy.figures.style import COLORS, INK, label, new_figure, save
from lightning_lazy.theory import catapult_kernel, converging_kernel

_KEEP = ("cell.loss", "cell.points")
_CASES = [
    (loss, points)
    for loss in ("ExponentialLoss", "LogisticLoss")
    for points in ("degenerate", "non_separable")
]
_LOSS, _NTK, _HESSIAN = "train/loss", "ntk/top1", "curvature/hessian_top1"
_SHOWN = {_LOSS: 2.5, _NTK: 1.15}
"""Diverging runs are drawn up to so many times their first value."""


def fig1(folder: Path) -> list[Path]:
    """Draw the loss of the linear predictor against steps (figure 1).

    The paper's conclusion: with the exponential loss it converges or explodes; with the logistic
    one it converges, or ends in a cycle below or above the first loss. The kernel can't change
    here: a catapult is a loss that rose first.

    Args:
        folder: Folder of a sweep over ``cell`` (``loss``, ``points``, ``lr``).

    Returns:
        The path of the picture, ``figures/fig1.png``; the data stand beside it in ``cells.csv``.
    """
    cells = phase_cells(folder, _KEEP)
    figure, axes = new_figure(columns=2, rows=2, width=5.0, height=3.1)
    panels = zip(axes.flat, "abcd", _CASES, strict=True)
    for one, letter, (loss, points) in panels:
        _draw_series(one, _of(cells, loss, points), _LOSS)
        label(one, "steps", "loss", f"({letter}) {LOSSES[loss]}, {POINTS[points]}")
    return [save(figure, folder, "fig1")]


def fig2(folder: Path) -> list[Path]:
    """Draw loss and top eigenvalue of the tangent kernel of a hidden layer (figure 2).

    The paper's conclusion: between the lazy and the divergent phase the loss rises, falls again and
    leaves a lower eigenvalue behind.

    Args:
        folder: Folder of a sweep over ``cell`` (``loss``, ``points``, ``lr``).

    Returns:
        The path of the picture, ``figures/fig2.png``; the data stand beside it in ``cells.csv``.
    """
    cells = phase_cells(folder, _KEEP)
    figure, axes = new_figure(columns=2, rows=4, width=5.0, height=2.8)
    for place, (loss, points) in enumerate(_CASES):
        shown = _of(cells, loss, points)
        for below, metric in enumerate((_LOSS, _NTK)):
            one = axes[2 * (place // 2) + below][place % 2]
            _draw_series(one, shown, metric, legend=below == 0)
    for one, letter in zip(axes.flat, "abcdefgh", strict=True):
        row, column = divmod("abcdefgh".index(letter), 2)
        loss, points = _CASES[2 * (row // 2) + column]
        name = "loss" if row % 2 == 0 else "λ of the tangent kernel"
        label(one, "steps", name, f"({letter}) {LOSSES[loss]}, {POINTS[points]}")
        one.set_xscale("symlog", linthresh=1)
        one.set_xlim(left=0)
    _caption(figure, cells)
    return [save(figure, folder, "fig2")]


def fig3(folder: Path) -> list[Path]:
    """Draw the top eigenvalues of kernel and Hessian at the end against η (figure 3).

    The paper's conclusion: both stay what they were in the lazy phase and drop in the catapult
    phase; on degenerate data the Hessian's is L''(0) times the kernel's (Corollary 1). Dotted: the
    largest kernel with which the minimum is stable; dashed: where logistic catapults end.

    Args:
        folder: Folder of a sweep over ``cell`` (``loss``, ``points``, ``lr``).

    Returns:
        The path of the picture, ``figures/fig3.png``; the data stand beside it in ``cells.csv``.
    """
    cells = phase_cells(folder, _KEEP)
    cells["hessian/ntk"] = cells[_HESSIAN] / cells[_NTK]
    cells.to_csv(folder / "cells.csv", index=False)
    figure, axes = new_figure(columns=2, rows=2, width=5.0, height=3.4)
    width = read_config(Path(cells["folder"].iloc[0]))["model"]["width"]
    for one, letter, (loss, points) in zip(axes.flat, "abcd", _CASES, strict=True):
        _draw_ends(one, _of(cells, loss, points))
        if points == "degenerate":
            _draw_theory(one, loss, width)
        label(one, "learning rate η", "top eigenvalue at the end")
        one.set_title(f"({letter}) {LOSSES[loss]}, {POINTS[points]}", fontsize=10, loc="left")
        one.legend(fontsize=8, frameon=False)
    _caption(figure, cells)
    return [save(figure, folder, "fig3")]


def _of(cells: pd.DataFrame, loss: str, points: str) -> pd.DataFrame:
    shown = cells[(cells["cell.loss"] == loss) & (cells["cell.points"] == points)]
    return shown.sort_values("lr")


def _draw_series(axes: Axes, cells: pd.DataFrame, metric: str, *, legend: bool = True) -> None:
    """Draw a metric against steps, a line a cell, each in the colour of its phase."""
    drawn = dict.fromkeys(PHASE_COLORS, 0)
    highest = lowest = math.nan
    for _, cell in cells.iterrows():
        rows = read_metrics(Path(cell["folder"]))[["step", metric]].dropna()
        verdict = cell["verdict"]
        # The loss is that before the update that the row is stamped with.
        axes.plot(
            rows["step"] - (metric == _LOSS),
            rows[metric],
            ls=("-", "--", ":", "-.")[drawn[verdict] % 4],
            lw=1.4,
            color=PHASE_COLORS[verdict],
            label=f"η = {cell['lr']:g}, {verdict}",
        )
        drawn[verdict] += 1
        limit = _SHOWN[metric] * rows[metric].iloc[0] if verdict == "divergent" else math.inf
        highest = np.fmax(highest, min(rows[metric].max(), limit))
        lowest = np.fmin(lowest, rows[metric].min())
    if highest > lowest:
        margin = 0.05 * (highest - lowest)
        axes.set_ylim(lowest - margin, highest + margin)
    if legend and len(cells):
        axes.legend(fontsize=7.5, framealpha=0.85, edgecolor="none", loc="upper right")


def _draw_ends(axes: Axes, cells: pd.DataFrame) -> None:
    ended = cells[cells["verdict"] != "divergent"]
    axes.plot(ended["lr"], ended[_NTK], "o-", ms=6, lw=3, color=COLORS[0], label="tangent kernel")
    axes.plot(ended["lr"], ended[_HESSIAN], "s-", ms=4, color=COLORS[1], label="Hessian")
    for phase, marker in (("catapult", "*"), ("none", "|")):
        part = ended[ended["verdict"] == phase]
        if len(part):
            axes.plot(part["lr"], part[_NTK], marker, ms=9, color=INK, label=phase)
    diverged = cells[cells["verdict"] == "divergent"]["lr"]
    if len(diverged):
        top = [0.04] * len(diverged)
        axes.plot(
            diverged, top, "x", color=INK, ms=7, label="divergent",
            transform=axes.get_xaxis_transform(),
        )  # fmt: skip
    if cells["lr"].max() > 10 * cells["lr"].min():
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
    axes.set_ylim(bottom=0)


def _draw_theory(axes: Axes, loss: str, width: int) -> None:
    name = LOSSES[loss]
    low, high = axes.get_xlim()
    rates = np.geomspace(low, high, 200)
    top = axes.get_ylim()[1]
    stable = np.array([converging_kernel(name, lr) for lr in rates])  # type: ignore[arg-type]
    axes.plot(rates, stable, ":", color=INK, lw=1, label="stable below")
    if name == "logistic":
        limit = np.array([catapult_kernel(lr, width) for lr in rates])
        axes.plot(rates[limit > 0], limit[limit > 0], "--", color=INK, lw=1, label="Θ∞, derived")
    axes.set(xlim=(low, high), ylim=(0, top))


def _caption(figure: Figure, cells: pd.DataFrame) -> None:
    config = read_config(Path(cells["folder"].iloc[0]))
    figure.suptitle(
        f"one hidden layer, m = {config['model']['width']}, seed {config['seed']}", fontsize=9
    )
