"""Figure 4 of Huang, Du, Xu & Liu 2020: cars against dogs."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from lightning_lazy.figures.frames import read_config
from lightning_lazy.figures.huang.cells import phase_cells
from lightning_lazy.figures.style import COLORS, GRID, INK, label, new_figure, save

_NETS = {"one_hidden": "one hidden layer", "two_hidden": "two hidden layers, bias"}
_STOPS = {"steps": "fixed steps", "time": "fixed time η·t", "annealed": "annealed"}
_HESSIAN = "curvature/hessian_top1"
_TEST_IMAGES = 2000
"""Cars and dogs in the test split of CIFAR-10."""


def fig4(folder: Path) -> list[Path]:
    """Draw test accuracy and final curvature against the learning rate (figure 4).

    Bars: the standard error that the number of test images sets.

    The paper's conclusion: learning rates of the catapult range end at flatter minima and
    generalise better, at fixed steps and, annealed, at fixed physical time.

    Args:
        folder: Folder of a sweep over ``cell`` (``net``, ``stop``, ``lr``), and maybe ``seed``.

    Returns:
        The path of the picture, ``figures/fig4.png``; the data stand beside it in ``cells.csv``.
    """
    cells = phase_cells(folder, keep=("cell.net", "cell.stop"))
    cells["first rise"] = 8 / cells["kernel_start"]
    cells.to_csv(folder / "cells.csv", index=False)
    nets = [net for net in _NETS if net in set(cells["cell.net"])]
    figure, axes = new_figure(columns=3, rows=len(nets), width=4.2, height=3.1)
    letters = iter("abcdef")
    for row, net in zip(axes, nets, strict=True):
        of_net = cells[cells["cell.net"] == net]
        for one, stops in zip(row, (("steps",), ("time", "annealed"), tuple(_STOPS)), strict=True):
            curvature = len(stops) == len(_STOPS)
            for stop in stops:
                shown = of_net[of_net["cell.stop"] == stop]
                if len(shown):
                    _draw_curve(one, shown, _HESSIAN if curvature else "val/acc", stop)
            rise = of_net["first rise"].median()
            one.axvline(rise, color=GRID, lw=2, zorder=0, label="η = 8/λ₀: the loss rises")
            name = "final top Hessian eigenvalue" if curvature else "test accuracy"
            what = "" if curvature else ", " + " or ".join(_STOPS[stop] for stop in stops)
            label(one, "learning rate η", name, f"({next(letters)}) {_NETS[net]}{what}")
            one.set_xscale("log")
            rates = sorted(of_net["lr"].unique())
            one.set_xticks(rates, [f"{lr:g}" for lr in rates], minor=False)
            one.minorticks_off()
            if curvature:
                one.set_yscale("log")
                one.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                one.yaxis.set_major_formatter("{x:g}")
                one.yaxis.set_minor_formatter(NullFormatter())
    handles, names = axes[0][-1].get_legend_handles_labels()
    place = "outside lower center"
    figure.legend(handles, names, fontsize=9, frameon=False, loc=place, ncols=len(names))
    return [save(figure, folder, "fig4")]


def _draw_curve(axes: Axes, cells: pd.DataFrame, metric: str, stop: str) -> None:
    """Draw the mean over seeds; crosses at the bottom mark learning rates that diverged."""
    place = list(_STOPS).index(stop)
    color, aside = COLORS[place], 1.02 ** (place - 1)  # so that bars stand side by side
    images = read_config(Path(cells["folder"].iloc[0]))["data"]["n_val"] or _TEST_IMAGES
    diverged = cells["diverged"]
    groups = cells[~diverged].groupby("lr")[metric]
    mean = groups.mean()
    bars = None if metric == _HESSIAN else np.sqrt(mean * (1 - mean) / images)
    axes.errorbar(
        mean.index * aside, mean, bars, fmt="o-", ms=4, lw=1.4, color=color, label=_STOPS[stop]
    )
    if len(mean) and groups.size().max() > 1:
        axes.fill_between(
            mean.index * aside, groups.min(), groups.max(), color=color, alpha=0.2, lw=0
        )
    rates = cells[diverged]["lr"]
    if len(rates):
        height = axes.get_xaxis_transform()
        axes.plot(rates, [0.03] * len(rates), "x", color=INK, ms=6, transform=height)
