"""Slices over α: figure 6, figure 9, and at several learning rates."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes

from lightning_lazy.figures.frames import read_sweep
from lightning_lazy.figures.kanoh.cells import (
    UNTRUSTED_SHARE,
    optimizers_of,
    panels_of,
    scored_by,
    short,
    some_rates,
)
from lightning_lazy.figures.kanoh.names import (
    CLASSES,
    KNOBS,
    METRICS,
    OPTIMIZER_COLORS,
    OPTIMIZERS,
    best_of_score,
)
from lightning_lazy.figures.style import label, logarithmic, new_figure, save

_SHOWN = ("val/acc", "lazy/sign_consistency")
MOST_RATES = 8


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
    cells["optimizer"] = cells["optimizer"].map(lambda name: CLASSES.get(name, name))
    return [slice_figure(folder, cells.assign(panel=""))]


def slice_at_one(folder: Path, cells: pd.DataFrame) -> list[Path]:
    """Draw figure 6 from the cells of a grid at the learning rate that is nearest to 1.

    Args:
        folder: Folder of the picture.
        cells: As `with_panels` gives them, over ``alpha`` and ``lr``.

    Returns:
        The path of the picture, ``figures/fig6.png``.
    """
    rates = cells["lr"].unique()
    nearest = rates[np.abs(np.log(rates)).argmin()]
    return [slice_figure(folder, cells[cells["lr"] == nearest])]


def slice_figure(folder: Path, cells: pd.DataFrame) -> Path:
    """Draw accuracy and hidden-sign consistency of cells at one learning rate against α.

    Args:
        folder: Folder of the picture.
        cells: Rows with ``panel``, ``optimizer``, ``alpha``, ``lr``, the two metrics, ``diverged``
            and ``frozen_throughout``.
    """
    panels = panels_of(cells)
    figure, axes = new_figure(columns=2, rows=len(panels))
    for row, panel in zip(axes, panels, strict=True):
        own = cells[cells["panel"] == panel]
        for one, metric in zip(row, _SHOWN, strict=True):
            for optimizer, name in OPTIMIZERS.items():
                group = own[own["optimizer"] == optimizer]
                if len(group):
                    _against_alpha(one, group, metric, OPTIMIZER_COLORS[optimizer], name)
            label(one, KNOBS["alpha"], METRICS[metric])
            logarithmic(one, "x")
            one.set_ylim(0, 1.03)
        row[0].axhline(0.1, color="#999999", linewidth=0.8, linestyle=":")
        row[1].set_title(panel, fontsize=9, loc="right")
    rates = ", ".join(f"{rate:g}" for rate in sorted(cells["lr"].unique()))
    axes[0][0].set_title(f"η = {rates}; dotted: chance; ×: diverged", fontsize=9, loc="left")
    handles, names = axes[0][0].get_legend_handles_labels()
    columns = min(len(names), 3)
    figure.legend(
        handles, names, fontsize=9, frameon=False, loc="outside upper center", ncols=columns
    )
    return save(figure, folder, "fig6")


def best_rate_figure(folder: Path, points: pd.DataFrame) -> list[Path]:
    """Draw consistency and accuracy against α, at the best learning rate for each α (figure 9).

    The paper's conclusion: at small α the hidden signs change more with an adaptive optimizer.

    Args:
        folder: Folder of the picture.
        points: As `over_seeds` gives them, over ``alpha`` and ``lr``.

    Returns:
        The path of the picture, ``figures/fig9.png``; none where no point has a score.
    """
    best = best_rates(points)
    if best.empty:
        return []
    panels = panels_of(points)
    figure, axes = new_figure(columns=3, rows=len(panels), width=4.0)
    shown = {
        "lazy/sign_consistency": METRICS["lazy/sign_consistency"],
        "val/acc": METRICS["val/acc"],
        "lr": "best learning rate η",
    }
    for row, panel in zip(axes, panels, strict=True):
        for one, (metric, name) in zip(row, shown.items(), strict=True):
            for optimizer in optimizers_of(points):
                line = best[(best["panel"] == panel) & (best["optimizer"] == optimizer)]
                color, text = OPTIMIZER_COLORS[optimizer], OPTIMIZERS[optimizer]
                one.plot(line["alpha"], line[metric], "o-", ms=4, color=color, label=text)
            logarithmic(one, "x")
            label(one, KNOBS["alpha"], name)
            if metric == "lr":
                logarithmic(one, "y")
            else:
                one.set_ylim(0, 1.03)
        row[2].set_title(panel, fontsize=9, loc="right")
    title = f"at the η of the {best_of_score(scored_by(points))}"
    axes[0][0].set_title(title, fontsize=9, loc="left")
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, fontsize=9, frameon=False, loc="outside upper center", ncols=4)
    return [save(figure, folder, "fig9")]


def best_rates(points: pd.DataFrame) -> pd.DataFrame:
    """Return for each panel, optimizer and α the point of the highest score, the slowest of equals.

    Args:
        points: As `over_seeds` gives them, over ``alpha`` and ``lr``.
    """
    scored = points[points["score"].notna()].sort_values("lr", kind="stable")
    keys = ["panel", "optimizer", "alpha"]
    return scored.loc[scored.groupby(keys)["score"].idxmax()].sort_values(keys)


def rates_figure(folder: Path, points: pd.DataFrame) -> list[Path]:
    """Draw the test accuracy against α at several learning rates.

    Section 5 of the paper: that the accuracy is best just before divergence and falls sharply as α
    grows, as Chizat, Oyallon & Bach 2019 saw it, belongs to one small η; at larger ones it does
    not fall so.

    Args:
        folder: Folder of the picture.
        points: As `over_seeds` gives them, over ``alpha`` and ``lr``.

    Returns:
        The path of the picture, ``figures/slices.png``.
    """
    panels, optimizers = panels_of(points), optimizers_of(points)
    rates = some_rates(points, MOST_RATES)
    colors = colormaps["plasma"](np.linspace(0, 0.88, len(rates)))
    figure, axes = new_figure(len(optimizers), len(panels), width=3.6, height=3.1)
    for row, panel in zip(axes, panels, strict=True):
        for one, optimizer in zip(row, optimizers, strict=True):
            chosen = (points["panel"] == panel) & (points["optimizer"] == optimizer)
            _draw_rates(one, points[chosen], rates, colors)
            name = OPTIMIZERS[optimizer] if panel == panels[0] else ""
            label(one, KNOBS["alpha"], "", name)
        row[0].set_ylabel(f"{panel}\n{METRICS['val/acc']}", fontsize=10)
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, fontsize=8, frameon=False, loc="outside right center")
    return [save(figure, folder, "slices")]


def _draw_rates(axes: Axes, points: pd.DataFrame, rates: list[float], colors: Any) -> None:
    """Draw a line for each learning rate; where cells diverged there is none."""
    for rate, color in zip(rates, colors, strict=True):
        line = points[points["lr"] == rate].sort_values("alpha")
        acc = line["val/acc"].where(~line["diverged"])
        axes.plot(line["alpha"], acc, "o-", ms=3, lw=1.2, color=color, label=f"η = {short(rate)}")
    logarithmic(axes, "x")
    axes.set_ylim(0, 1.03)


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
