"""Figures 2, 3 and S7 of Lewkowycz & Gur-Ari 2020: time to the best test accuracy against λ."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lightning_lazy.figures.lewkowycz.cells import (
    best_within,
    exponent,
    law_cells,
    peak_cells,
)
from lightning_lazy.figures.lewkowycz.curves import draw_curves
from lightning_lazy.figures.lewkowycz.drawing import describe_seeds, legend, shades
from lightning_lazy.figures.lewkowycz.fitting import draw_fitting_times
from lightning_lazy.figures.style import COLORS, INK, label, logarithmic, new_figure, save

_KEEP = ("model.batch_norm", "budgets.lr", "budgets.epochs")


def fig2(folder: Path) -> list[Path]:
    """Draw t*, the best test accuracy, and the best within fixed budgets (figure 2(a, b, c)).

    The paper's conclusion: t* ∝ 1/(ηλ), and the best accuracy does not depend on a small λ, while
    with a fixed budget it peaks. Hollow: cut before its time, t* is a lower bound.

    Args:
        folder: Folder of a sweep over ``lr``, ``l2`` and maybe ``seed``, whose configuration holds
            ``budgets``: ``lr`` and ``epochs`` of the right panel.

    Returns:
        The paths of the pictures ``figures/fig2.png``, ``s1.png`` and ``s6.png``; the data stand
        beside them in ``cells.csv``.
    """
    cells = peak_cells(folder, _KEEP)
    return [
        _draw(folder, "fig2", {"fully connected": cells}),
        draw_fitting_times(folder, cells, "s1"),
        draw_curves(folder, {"fully connected": _at_budget_lr(cells)}, "s6"),
    ]


def fig2_wrn(folder: Path) -> list[Path]:
    """Draw the same of a wide residual net (figure 2(d, e, f)).

    Args:
        folder: As `fig2` takes it.

    Returns:
        The paths of the pictures ``figures/fig2_wrn.png`` and ``s6.png``.
    """
    cells = peak_cells(folder, _KEEP)
    return [
        _draw(folder, "fig2_wrn", {"wide residual net": cells}),
        draw_curves(folder, {"wide residual net": _at_budget_lr(cells)}, "s6"),
    ]


def fig3(folder: Path) -> list[Path]:
    """Draw the same of a convolutional net without and with BatchNorm, a row each (figure 3).

    Args:
        folder: Folder of a sweep over ``l2``, ``model.batch_norm`` and maybe ``seed``.

    Returns:
        The paths of the pictures ``figures/fig3.png`` and ``s6.png``.
    """
    cells = peak_cells(folder, _KEEP)
    normalised = cells["model.batch_norm"].astype(bool)
    nets = {"CNN": cells[~normalised], "CNN with BatchNorm": cells[normalised]}
    nets = {name: group for name, group in nets.items() if len(group)}
    return [
        _draw(folder, "fig3", nets),
        draw_curves(folder, {net: _at_budget_lr(group) for net, group in nets.items()}),
    ]


def s7(folder: Path) -> list[Path]:
    """Draw the same of a narrow net, for which the law fails (figure S7).

    The paper's conclusion: t* ∝ 1/λ above the best λ only; below it is that of λ = 0, and the best
    accuracy falls.

    Args:
        folder: Folder of a sweep over ``l2`` and maybe ``seed``.

    Returns:
        The path of the picture ``figures/s7.png``.
    """
    cells = peak_cells(folder, _KEEP)
    return [_draw(folder, "s7", {"narrow, fully connected": cells})]


def _draw(folder: Path, name: str, nets: dict[str, pd.DataFrame]) -> Path:
    """Draw three panels for every net, a row each."""
    figure, axes = new_figure(columns=3, rows=len(nets), width=4.9, height=3.7)
    letters = iter("abcdef")
    for row, (net, cells) in zip(axes, nets.items(), strict=True):
        draw_times(row[0], cells)
        draw_best(row[1], cells)
        _draw_budgets(row[2], _at_budget_lr(cells))
        titles = (
            _cuts(cells),
            f"{net}; {describe_seeds(cells)}",
            f"η = {cells['budgets.lr'].iloc[0]:g}",
        )
        for one, title in zip(row, titles, strict=True):
            one.set_title(f"({next(letters)}) {title}", fontsize=9, loc="left")
    return save(figure, folder, name)


def draw_times(axes: Axes, cells: pd.DataFrame) -> None:
    """Draw t* against 1/λ, a line a learning rate, with the exponents of the fits."""
    rates = sorted(cells["lr"].unique())
    fitted = law_cells(cells)
    for lr, color in zip(rates, shades(len(rates)), strict=True):
        group = cells[(cells["lr"] == lr) & (cells["l2"] > 0) & ~cells["diverged"]]
        power = exponent(fitted[fitted["lr"] == lr])
        name = f"η = {lr:g}" + ("" if np.isnan(power) else f", exponent {power:.2f}")
        mean = np.exp(np.log(group["t*"]).groupby(1 / group["l2"]).mean())
        axes.plot(mean.index, mean, color=color, lw=1.2, label=name)
        for kept, face in ((~group["cut"], color), (group["cut"], "none")):
            axes.plot(1 / group["l2"][kept], group["t*"][kept], "o", ms=4, mfc=face, mec=color)
    _draw_guides(axes, cells, fitted)
    label(axes, "1/λ", "t*: epochs to the best accuracy")
    logarithmic(axes, "x")
    logarithmic(axes, "y")
    legend(axes)


def _draw_guides(axes: Axes, cells: pd.DataFrame, fitted: pd.DataFrame) -> None:
    """Draw the law with its mean coefficient, and at a single η the t* of λ = 0."""
    rates = sorted(cells["lr"].unique())
    product = (fitted["lr"] * fitted["l2"] * fitted["t*"]).mean()
    if len(rates) == 1 and (cells["l2"] == 0).any():
        free = cells["t*"][cells["l2"] == 0].mean()
        axes.axhline(free, color=INK, lw=1, ls="--", label="λ = 0")
    for lr in rates if len(fitted) else ():
        inverse = 1 / cells["l2"][(cells["lr"] == lr) & (cells["l2"] > 0)]
        ends = pd.Series([inverse.min(), inverse.max()])
        name = f"{product:.2g}/(ηλ)" if lr == rates[0] else None
        axes.plot(ends, product / lr * ends, ":", color=INK, lw=0.9, label=name)


def draw_best(axes: Axes, cells: pd.DataFrame) -> None:
    """Draw the best test accuracy against λ, and as a line that of λ = 0."""
    rates = sorted(cells["lr"].unique())
    for lr, color in zip(rates, shades(len(rates)), strict=True):
        group = cells[(cells["lr"] == lr) & (cells["l2"] > 0)]
        _against_l2(axes, group, group["best"], color, f"η = {lr:g}")
        cut = group[group["cut"]]
        axes.plot(cut["l2"], cut["best"], "o", ms=7, mfc="none", mec=color)
        diverged = group[group["diverged"]]
        axes.plot(diverged["l2"], diverged["best"], "x", ms=7, color=INK)
    free = cells[cells["l2"] == 0]
    if len(free):
        best = free.groupby("lr")["best"].mean().max()
        axes.axhline(best, color=INK, lw=1, ls="--", label="λ = 0, best η")
    label(axes, "λ", "best test accuracy")
    logarithmic(axes, "x")
    legend(axes)


def _at_budget_lr(cells: pd.DataFrame) -> pd.DataFrame:
    return cells[np.isclose(cells["lr"], cells["budgets.lr"].astype(float))]


def _draw_budgets(axes: Axes, cells: pd.DataFrame) -> None:
    """Draw the best test accuracy within each budget against λ."""
    regular = cells[cells["l2"] > 0]
    budgets = regular["budgets.epochs"].iloc[0] if len(regular) else []
    for budget, color in zip(sorted(budgets), COLORS, strict=False):
        best = [best_within(Path(cell), budget) for cell in regular["folder"]]
        values = pd.Series(best, index=regular.index)
        _against_l2(axes, regular, values, color, f"{budget:g} epochs")
    _against_l2(axes, regular, regular["best"], INK, "as long as in (a)")
    label(axes, "λ", "best test accuracy within a budget")
    logarithmic(axes, "x")
    legend(axes)


def _against_l2(axes: Axes, cells: pd.DataFrame, values: pd.Series, color: str, name: str) -> None:
    """Draw the mean over seeds, with the range where there are several."""
    groups = values.groupby(cells["l2"])
    mean = groups.mean()
    axes.plot(mean.index, mean, "o-", ms=3.5, lw=1.2, color=color, label=name)
    if len(mean) and groups.size().max() > 1:
        axes.fill_between(mean.index, groups.min(), groups.max(), color=color, alpha=0.15, lw=0)


def _cuts(cells: pd.DataFrame) -> str:
    """Say how many points were cut, and what the marks are."""
    cut = int(cells["cut"].sum())
    if not cut:
        return "no point cut"
    updates = cells["steps"][cells["cut"]].max()
    return f"hollow, ringed: cut at {updates:,} updates ({cut} of {len(cells)} runs)"
