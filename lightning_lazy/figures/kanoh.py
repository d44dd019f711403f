"""Figures of Kanoh & Sugiyama 2021."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from lightning_lazy.figures.frames import read_sweep
from lightning_lazy.figures.style import COLORS, label, new_figure, save

OPTIMIZERS = {
    "SGD": "gradient descent",
    "RMSprop": "RMSProp, original",
    "ScaledRMSprop": "RMSProp, α-folded (Algorithm 1)",
    "Adam": "Adam, original",
    "ScaledAdam": "Adam, α-folded",
}
UNTRUSTED_SHARE = 0.5
"""Cells with more parameters frozen throughout than this are marked."""


def fig6(folder: Path) -> list[Path]:
    """Draw accuracy and hidden-sign consistency against α at one learning rate (figure 6).

    The paper's conclusion: the original RMSProp is good at small α, the α-folded one at large α.
    A cross marks a diverged cell, a ring one whose updates were lost to rounding.

    Args:
        folder: Folder of a sweep over ``alpha`` and ``optimizer``, and ``seed`` where wanted.

    Returns:
        The path of the picture, ``figures/fig6.png``; the data stand beside it in ``cells.csv``.
    """
    cells = read_sweep(folder)
    cells.to_csv(folder / "cells.csv", index=False)
    figure, axes = new_figure(columns=2)
    panels = {"val/acc": "test accuracy", "lazy/sign_consistency": "hidden-sign consistency"}
    for one, (metric, name) in zip(axes[0], panels.items(), strict=True):
        for (optimizer, legend), color in zip(OPTIMIZERS.items(), COLORS, strict=False):
            group = cells[cells["optimizer"] == optimizer]
            if len(group):
                _against_alpha(one, group, metric, color, legend)
        label(one, "output scale α", name)
        one.set_xscale("log")
        one.set_ylim(0, 1.03)
    rates = ", ".join(f"{rate:g}" for rate in sorted(cells["lr"].unique()))
    axes[0][0].axhline(0.1, color="#999999", linewidth=0.8, linestyle=":")
    axes[0][0].set_title(f"η = {rates}; dotted: chance; ×: diverged", fontsize=9, loc="left")
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, fontsize=9, frameon=False, loc="outside upper center", ncols=5)
    return [save(figure, folder, "fig6")]


def _against_alpha(axes: Axes, group: pd.DataFrame, metric: str, color: str, name: str) -> None:
    """Draw the mean over seeds, with the range where there are several, and the marks."""
    by_alpha = group.groupby("alpha")[metric]
    mean = by_alpha.mean()
    axes.plot(mean.index, mean, color=color, marker="o", ms=4, label=name)
    if by_alpha.size().max() > 1:
        axes.fill_between(mean.index, by_alpha.min(), by_alpha.max(), color=color, alpha=0.2, lw=0)
    diverged = group[group["diverged"]]
    axes.plot(diverged["alpha"], diverged[metric], "x", color="black", ms=8)
    frozen = group[group["frozen_throughout"] > UNTRUSTED_SHARE]
    axes.plot(frozen["alpha"], frozen[metric], "o", ms=9, mfc="none", mec="black")
