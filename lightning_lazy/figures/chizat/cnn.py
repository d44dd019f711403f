"""Figure 3 of Chizat, Oyallon & Bach 2019: convolutional networks on CIFAR-10."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lightning_lazy.figures.frames import read_sweep
from lightning_lazy.figures.style import COLORS, label, new_figure, save, seeds_text

BASELINES = {
    "random features": 0.842,
    "prior features": 0.823,
    "linearised CNN (Arora et al.)": 0.774,
}
"""Test accuracies of linear methods on CIFAR-10 that the paper quotes (figure 3b and §3.2)."""

_GREY = "grey: published, on all of CIFAR-10"

PAPER = {
    ("VGG", "standard"): (0.999, 0.897),
    ("ResNet", "standard"): (0.994, 0.910),
    ("VGG", "linearised"): (0.610, 0.617),
    ("ResNet", "linearised"): (0.550, 0.567),
}
"""Train and test accuracy of the wide nets in the paper's figure 3(b)."""

_STABILITY = "lazy/activation_stability"
_UNTRUSTED_SHARE = 0.5


def fig3a(folder: Path) -> list[Path]:
    """Draw accuracy and stability of activations against α, with the linearised model as limit.

    Points are means over seeds, bands their range. A cross marks a diverged cell, a ring one most
    of whose updates were lost to rounding.

    Args:
        folder: Folder of a sweep over ``cell`` (``alpha``, ``linearize``) and ``seed``.

    Returns:
        The path of the picture, ``figures/fig3a.png``; the data stand beside it in ``cells.csv``.
    """
    cells = read_sweep(folder)
    cells.to_csv(folder / "cells.csv", index=False)
    linear = cells.get("linearize", pd.Series(False, cells.index)).astype(bool)
    scaled = cells[~linear]
    figure, axes = new_figure(columns=2)
    for metric, name, color in (
        ("train/acc", "training", COLORS[0]),
        ("val/acc", "test", COLORS[1]),
    ):
        _curve(axes[0][0], scaled, metric, name, color)
        if linear.any():
            mean = cells[linear][metric].mean()
            axes[0][0].axhline(mean, color=color, ls="--", lw=1, label=f"{name}, linearised")
    for metric, name, color in (
        (_STABILITY, "share of all units", COLORS[2]),
        (f"{_STABILITY}_layers", "mean over layers", COLORS[3]),
    ):
        _curve(axes[0][1], scaled, metric, name, color)
    _draw_baselines(axes[0][0])
    label(axes[0][0], "output scale α", "accuracy")
    label(axes[0][1], "output scale α", "stability of activations")
    axes[0][0].set_ylim(0, 1.02)
    for one in axes[0]:
        one.set_xscale("log")
    axes[0][1].legend(fontsize=8, frameon=False)
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, names, fontsize=8, frameon=False, loc="outside lower center", ncols=4)
    count = cells["seed"].nunique()
    seeds = seeds_text(count) + (", mean and range" if count > 1 else "")
    marks = ["×: diverged"] if cells["diverged"].any() else []
    axes[0][0].set_title("; ".join([seeds, *marks, _GREY]), fontsize=9, loc="left")
    return [save(figure, folder, "fig3a")]


def fig3a_lr(folder: Path) -> list[Path]:
    """Draw the test accuracy against the initial learning rate, a curve for every α.

    Args:
        folder: Folder of a sweep over ``cell`` (``alpha``), ``lr`` and ``seed``.

    Returns:
        The path of the picture, ``figures/fig3a_lr.png``; the data stand beside it.
    """
    cells = read_sweep(folder)
    cells.to_csv(folder / "cells.csv", index=False)
    figure, axes = new_figure(columns=1)
    for alpha, color in zip(sorted(cells["alpha"].unique()), _shades(cells), strict=True):
        group = cells[cells["alpha"] == alpha]
        _curve(axes[0][0], group, "val/acc", f"α = {alpha:g}", color, x="lr")
    label(axes[0][0], "initial learning rate η₀", "test accuracy", "×: diverged")
    axes[0][0].set_xscale("log")
    axes[0][0].set_ylim(bottom=0)
    axes[0][0].legend(fontsize=8, frameon=False)
    return [save(figure, folder, "fig3a_lr")]


def fig3b(folder: Path) -> list[Path]:
    """Draw train and test accuracy of wide nets, standard and linearised, beside the paper's.

    Args:
        folder: Folder of a sweep over ``arm``.

    Returns:
        The path of the picture, ``figures/fig3b.png``; the data stand beside it in ``cells.csv``.
    """
    cells = read_sweep(folder)
    cells["net"] = cells["model._target_"].str.rpartition(".")[2]
    cells["mode"] = np.where(cells["alpha"] > 1, "linearised", "standard")
    cells.to_csv(folder / "cells.csv", index=False)
    means = cells.groupby(["net", "mode"])[["train/acc", "val/acc", _STABILITY]].mean()
    figure, axes = new_figure(columns=1, width=7.5)
    one, names = axes[0][0], []
    for place, (net, mode) in enumerate(PAPER):
        names.append(f"{net}, {mode}")
        if (net, mode) not in means.index:
            continue
        row = means.loc[[(net, mode)]].iloc[0]
        names[-1] += f"\nstability {row[_STABILITY]:.4f}"
        for side, metric in enumerate(("train/acc", "val/acc")):
            x = place + (-0.19, 0.19)[side]
            one.bar(
                x, row[metric], width=0.36, color=COLORS[side], label=("training", "test")[side]
            )
    for place, paper in enumerate(PAPER.values()):
        one.plot((place - 0.19, place + 0.19), paper, "D", mfc="white", mec="black", label="paper")
    _draw_baselines(one)
    one.set_xticks(range(len(names)), names, fontsize=8)
    one.set_ylim(0, 1.02)
    label(one, "", "accuracy", _GREY)
    handles, texts = one.get_legend_handles_labels()
    shown = dict(zip(texts, handles, strict=True))
    figure.legend(
        shown.values(), shown.keys(), fontsize=8, frameon=False, loc="outside right center"
    )
    return [save(figure, folder, "fig3b")]


def _curve(
    axes: Axes, cells: pd.DataFrame, metric: str, name: str, color: str, *, x: str = "alpha"
) -> None:
    """Draw the mean over seeds with the range, and mark cells that are not to be trusted."""
    groups = cells.groupby(x)[metric]
    mean = groups.mean()
    axes.plot(mean.index, mean, color=color, marker="o", ms=4, label=name)
    if groups.size().max() > 1:
        axes.fill_between(mean.index, groups.min(), groups.max(), color=color, alpha=0.2, lw=0)
    diverged = cells[cells["diverged"]]
    axes.plot(diverged[x], diverged[metric].fillna(0), "x", color="black", ms=8)
    frozen = cells[cells["frozen_throughout"] > _UNTRUSTED_SHARE]
    axes.plot(frozen[x], frozen[metric], "o", ms=9, mfc="none", mec="black")


def _draw_baselines(axes: Axes) -> None:
    for (name, value), style in zip(BASELINES.items(), (":", "-.", (0, (1, 3))), strict=True):
        axes.axhline(value, color="#888888", lw=0.9, ls=style, label=f"{name}, {value:.1%}")


def _shades(cells: pd.DataFrame) -> list[str]:
    """Return colours from dark to light, one for every α."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    places = np.linspace(0.0, 0.85, cells["alpha"].nunique())
    return [to_hex(colormaps["viridis"](place)) for place in places]
