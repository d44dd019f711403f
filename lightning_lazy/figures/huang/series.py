"""Figures 1 and 2 of Huang, Du, Xu & Liu 2020: linear nets on a line, step by step."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lightning_lazy.figures.frames import read_metrics
from lightning_lazy.figures.huang.cells import (
    CASES,
    LOSSES,
    PHASE_COLORS,
    POINTS,
    caption,
    of_case,
    phase_cells,
)
from lightning_lazy.figures.style import INK, label, new_figure, save
from lightning_lazy.theory import (
    critical_lr,
    falling_step,
    mean_loss,
    output_at,
    rising_step,
    two_cycle,
)

_KEEP = ("cell.loss", "cell.points")
_LOSS, _NTK = "train/loss", "ntk/top1"
_SHOWN = {_LOSS: 2.5, _NTK: 1.15}
"""Diverging runs are drawn up to so many times their first value."""
_NON_SEPARABLE = [1.0, 2.0], [1.0, -1.0]
"""Inputs and labels."""


def fig1(folder: Path) -> list[Path]:
    """Draw the loss of the linear predictor against steps (figure 1).

    The paper's conclusion: with the exponential loss it converges or explodes; with the logistic
    one it converges, or ends in a cycle below or above the first loss. The kernel can't change
    here: a catapult is a loss that rose first. Above the learning rates stand the thresholds of
    Theorem 1, or of Proposition 1; dotted is the loss on the logistic loss's cycle.

    Args:
        folder: Folder of a sweep over ``cell`` (``loss``, ``points``, ``lr``).

    Returns:
        The path of the picture, ``figures/fig1.png``; the data stand beside it in ``cells.csv``.
    """
    cells = phase_cells(folder, _KEEP)
    figure, axes = new_figure(columns=2, rows=2, width=5.6, height=3.1)
    panels = zip(axes.flat, "abcd", CASES, strict=True)
    for one, letter, (loss, points) in panels:
        shown = of_case(cells, loss, points)
        label(one, "steps", "loss", f"({letter}) {LOSSES[loss]}, {POINTS[points]}")
        if len(shown):
            _draw_series(one, shown, _LOSS)
            cycling = shown["lr"][(shown["lr"] > 8) & (points == "degenerate")]
            for number, lr in enumerate(cycling):
                on_cycle = mean_loss("logistic", two_cycle(lr))
                name = "_" if number else "on the cycle, predicted"
                one.axhline(on_cycle, color=INK, ls=":", lw=1, label=name)
            first = float(read_metrics(Path(shown["folder"].iloc[0]))[_LOSS].dropna().iloc[0])
            _legend(one, _thresholds(LOSSES[loss], points, first))
    caption(figure, cells)
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
    figure, axes = new_figure(columns=2, rows=4, width=5.6, height=2.8)
    for place, (loss, points) in enumerate(CASES):
        shown = of_case(cells, loss, points)
        for below, metric in enumerate((_LOSS, _NTK)):
            one = axes[2 * (place // 2) + below][place % 2]
            _draw_series(one, shown, metric)
        if len(shown):
            _legend(axes[2 * (place // 2)][place % 2])
    for one, letter in zip(axes.flat, "abcdefgh", strict=True):
        row, column = divmod("abcdefgh".index(letter), 2)
        loss, points = CASES[2 * (row // 2) + column]
        name = "loss" if row % 2 == 0 else "λ of the tangent kernel"
        label(one, "steps", name, f"({letter}) {LOSSES[loss]}, {POINTS[points]}")
    caption(figure, cells)
    return [save(figure, folder, "fig2")]


def _thresholds(loss: Any, points: str, first_loss: float) -> str:
    """Return what theory says of learning rates of the linear predictor."""
    if points == "degenerate":
        critical = f"{critical_lr(loss, output_at(loss, first_loss)):.3g}"
        return "$\\eta_c$ = " + (critical if loss == "exponential" else f"8 and {critical}")
    x, y = _NON_SEPARABLE
    falling = falling_step(loss, np.array(x)[:, None], first_loss)
    rising = rising_step(loss, x, y)
    rises = f"\nrises: η > {rising:.2g}" if math.isfinite(rising) else ""
    return f"never rises: η < {falling:.2g}{rises}"


def _legend(axes: Axes, title: str | None = None) -> None:
    axes.legend(
        title=title, fontsize=8, title_fontsize=8, frameon=False, alignment="left",
        loc="upper left", bbox_to_anchor=(1.0, 1.0),
    )  # fmt: skip


def _draw_series(axes: Axes, cells: pd.DataFrame, metric: str) -> None:
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
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(left=0)
    if highest > lowest:
        margin = 0.05 * (highest - lowest)
        axes.set_ylim(lowest - margin, highest + margin)
