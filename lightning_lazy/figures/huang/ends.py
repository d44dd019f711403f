"""Figure 3 of Huang, Du, Xu & Liu 2020: how flat the minima are that learning rates end at."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from lightning_lazy.figures.frames import read_config
from lightning_lazy.figures.huang.cells import (
    CASES,
    LOSSES,
    POINTS,
    caption,
    of_case,
    phase_cells,
)
from lightning_lazy.figures.style import COLORS, INK, label, new_figure, save
from lightning_lazy.theory import catapult_kernel, converging_kernel

_NTK, _HESSIAN = "ntk/top1", "curvature/hessian_top1"


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
    cells = phase_cells(folder, ("cell.loss", "cell.points"))
    cells["hessian/ntk"] = cells[_HESSIAN] / cells[_NTK]
    cells.to_csv(folder / "cells.csv", index=False)
    figure, axes = new_figure(columns=2, rows=2, width=5.0, height=3.4)
    width = read_config(Path(cells["folder"].iloc[0]))["model"]["width"]
    for one, letter, (loss, points) in zip(axes.flat, "abcd", CASES, strict=True):
        _draw_ends(one, of_case(cells, loss, points))
        if points == "degenerate":
            _draw_theory(one, loss, width)
        label(one, "learning rate η", "top eigenvalue at the end")
        one.set_title(f"({letter}) {LOSSES[loss]}, {POINTS[points]}", fontsize=10, loc="left")
        one.legend(fontsize=8, frameon=False)
    caption(figure, cells)
    return [save(figure, folder, "fig3")]


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
    axes.set_ylim(0, 1.1 * np.nanmax(ended[[_NTK, _HESSIAN]]) if len(ended) else None)


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
