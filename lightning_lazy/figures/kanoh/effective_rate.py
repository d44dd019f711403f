"""Figures 1 and 2: the effective learning rate of adaptive optimizers against α."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes

from lightning_lazy.figures.kanoh.cells import optimizers_of, panels_of, short, some_rates
from lightning_lazy.figures.kanoh.names import FOLDED, KNOBS, OPTIMIZERS
from lightning_lazy.figures.style import COLORS, INK, label, logarithmic, new_figure, save

MOST_RATES = 5


def effective_factor(alpha: object, root: float, eps: float, folded: bool) -> np.ndarray:
    r"""Return the effective learning rate divided by η.

    With v the second moment of αG, which does not depend on α in lazy training, it is
    :math:`1/(\sqrt v/\alpha + \varepsilon)` for the original optimizer: ∝ α up to
    :math:`\alpha^* = \sqrt v/\varepsilon` and constant beyond; and
    :math:`1/(\sqrt v + \varepsilon)` for the α-folded one.

    Args:
        alpha: Output scales.
        root: √v.
        eps: ε.
        folded: Which of the two.
    """
    scale = np.asarray(alpha, float)
    return 1 / (root / (np.ones_like(scale) if folded else scale) + eps)


def second_moment_root(points: pd.DataFrame, folded: bool) -> float:
    """Return the √v that the laziest cell of an optimizer has ended with.

    That is the one with the largest α among those with the smallest η, whose gradients have hardly
    changed. Of the original optimizer α must not be so large that ε hides √v.

    Args:
        points: Rows of `over_seeds`, of one optimizer.
        folded: Whether it is an α-folded one.

    Returns:
        √v; NaN where no cell tells it.
    """
    slow = points[points["lr"] == points["lr"].min()].sort_values("alpha")
    root = slow["lr"] / slow["effective_lr"] - slow["eps"]
    clear = root > 1e-6 * slow["eps"]
    root = root if folded else root * slow["alpha"]
    return float(root[clear].iloc[-1]) if clear.any() else np.nan


def effective_rate_figure(folder: Path, points: pd.DataFrame) -> list[Path]:
    """Draw the effective learning rate against α: measured, and by the formula (figures 1 and 2).

    Dots: the median over the parameters of 1/(√v + ε) after the last step. Line: the formula with
    one √v, which the α-folded optimizer has measured in its laziest cell. Dotted: α* = √v/ε. The
    paper's conclusion: with the original RMSProp the effective rate depends on α, and beyond α* it
    is not adapted at all; with the α-folded one neither is so.

    Args:
        folder: Folder of the picture.
        points: As `over_seeds` gives them, over ``alpha`` and ``lr``.

    Returns:
        The path of the picture, ``figures/fig1_2.png``; none where no optimizer is adaptive.
    """
    adaptive = [name for pair in FOLDED.items() for name in pair]
    optimizers = [name for name in optimizers_of(points) if name in adaptive]
    if not optimizers:
        return []
    panels = panels_of(points)
    figure, axes = new_figure(len(optimizers), len(panels), width=4.0, height=3.3)
    for row, panel in zip(axes, panels, strict=True):
        own = points[points["panel"] == panel]
        for one, optimizer in zip(row, optimizers, strict=True):
            _draw(one, own, optimizer)
            name = OPTIMIZERS[optimizer] if panel == panels[0] else ""
            label(one, KNOBS["alpha"], "", name)
        _share_range([one for one in row if np.isfinite(one.dataLim.minposy)])
        row[0].set_ylabel(f"{panel}\neffective rate / η", fontsize=10)
    handles, names = axes[0][0].get_legend_handles_labels()
    figure.legend(
        handles, names, fontsize=8, frameon=False, loc="outside lower center", ncols=len(names)
    )
    return [save(figure, folder, "fig1_2")]


def _draw(axes: Axes, points: pd.DataFrame, optimizer: str) -> None:
    own = points[(points["optimizer"] == optimizer) & (points["effective_lr"] > 0)]
    rates = some_rates(points, MOST_RATES)
    colors = colormaps["viridis"](np.linspace(0.85, 0, len(rates)))
    for rate, color in zip(rates, colors, strict=True):
        line = own[own["lr"] == rate]
        factor = line["effective_lr"] / line["lr"]
        axes.plot(line["alpha"], factor, "o", ms=4, color=color, label=f"η = {short(rate)}")
    if len(own):
        _draw_formula(axes, points, own, optimizer)
    logarithmic(axes, "x")
    logarithmic(axes, "y")


def _share_range(row: list[Axes]) -> None:
    limits = [one.get_ylim() for one in row]
    for one in row:
        one.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))


def _draw_formula(axes: Axes, points: pd.DataFrame, own: pd.DataFrame, optimizer: str) -> None:
    """Draw the formula with the √v of the α-folded optimizer, without that with the own one."""
    folded = optimizer in FOLDED.values()
    partner = points[points["optimizer"] == FOLDED.get(optimizer, optimizer)]
    root = second_moment_root(partner, True) if len(partner) else second_moment_root(own, False)
    if not np.isfinite(root):
        return
    eps = float(own["eps"].iloc[0])
    alpha = np.geomspace(own["alpha"].min(), own["alpha"].max(), 200)
    factor = effective_factor(alpha, root, eps, folded)
    axes.plot(alpha, factor, color=COLORS[1], zorder=3, label="formula")
    if alpha[0] < root / eps < alpha[-1]:
        axes.axvline(root / eps, color=INK, lw=1, ls=":", label="α*")
