"""Figures 1(c), S9 and S10 of Lewkowycz & Gur-Ari 2020: AutoL2 against constant λ."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from lightning_lazy.figures.frames import read_metrics
from lightning_lazy.figures.lewkowycz.cells import accuracies, peak_cells
from lightning_lazy.figures.lewkowycz.drawing import legend, shades
from lightning_lazy.figures.style import COLORS, label, logarithmic, new_figure, save

_CONSTANT, _STEPS = "Constant", "StepDecay"
_SCHEDULES = {_CONSTANT: "constant η", _STEPS: "η falls at 0.3, 0.6 and 0.9 of the run"}


def fig1c(folder: Path) -> list[Path]:
    """Draw test accuracy over training with AutoL2 and with the best constant λ (figure 1(c)).

    The paper's conclusion: AutoL2 is faster and better without a schedule of the learning rate
    (figures 1(c) and S9), and faster only at first with one (figure S10). All three are drawn.

    Args:
        folder: Folder of a sweep over ``schedule`` and ``cell`` (``decay``, ``l2``).

    Returns:
        The paths of the pictures ``figures/fig1c.png``, ``s9.png`` and ``s10.png``; the data stand
        beside them in ``cells.csv``.
    """
    cells = _cells(folder)
    return [*_draw(folder, cells, _CONSTANT, "fig1c"), *_both(folder, cells)]


def s9(folder: Path) -> list[Path]:
    """Draw test accuracy and λ over training with AutoL2 and constant λ (figure S9).

    Args:
        folder: As `fig1c` takes it.
    """
    return _draw(folder, _cells(folder), _CONSTANT, "s9")


def s10(folder: Path) -> list[Path]:
    """Draw figure S9 with a schedule of the learning rate (figure S10).

    Args:
        folder: As `fig1c` takes it.
    """
    return _draw(folder, _cells(folder), _STEPS, "s10")


def _cells(folder: Path) -> pd.DataFrame:
    return peak_cells(folder, ("cell.decay", "schedule._target_"))


def _both(folder: Path, cells: pd.DataFrame) -> list[Path]:
    return [*_draw(folder, cells, _CONSTANT, "s9"), *_draw(folder, cells, _STEPS, "s10")]


def _draw(folder: Path, cells: pd.DataFrame, schedule: str, name: str) -> list[Path]:
    """Draw the runs with one schedule; of figure 1(c) only the best constant λ."""
    group = cells[cells["schedule._target_"].str.endswith(schedule)]
    auto, constant = (group[group["cell.decay"] == decay] for decay in ("auto", "constant"))
    if not len(group):
        return []
    if name == "fig1c":
        best = constant.groupby("l2")["best"].mean()
        constant = constant[constant["l2"].isin(best.nlargest(1).index)]
    figure, axes = new_figure(columns=2, width=5.0, height=3.7)
    values = sorted(constant["l2"].unique())
    for l2, color in zip(values, shades(len(values)), strict=True):
        _draw_runs(axes[0][0], constant[constant["l2"] == l2], color, f"λ = {l2:g}")
        axes[0][1].axhline(l2, color=color, lw=1.2)
    _draw_runs(axes[0][0], auto, COLORS[1], "AutoL2")
    for _, cell in auto.iterrows():
        rows = read_metrics(Path(cell["folder"]))[["epoch", "l2/coefficient"]].dropna()
        style = {"color": COLORS[1], "lw": 1.5, "drawstyle": "steps-post"}
        axes[0][1].plot(rows["epoch"], rows["l2/coefficient"], **style)
    label(axes[0][0], "epoch", "test accuracy")
    label(axes[0][1], "epoch", "λ")
    logarithmic(axes[0][1], "y")
    seeds = group["seed"].nunique()
    lines = "a line a seed" if seeds > 1 else "one seed"
    axes[0][0].set_title(f"{_SCHEDULES[schedule]}; {lines}", fontsize=9, loc="left")
    legend(axes[0][0])
    return [save(figure, folder, name)]


def _draw_runs(axes: Axes, cells: pd.DataFrame, color: str, name: str) -> None:
    """Draw the accuracy of each seed, and the mean of the best in the legend."""
    for number, cell in enumerate(cells["folder"]):
        curve = accuracies(Path(cell))
        text = f"{name}: best {cells['best'].mean():.3f}" if number == 0 else None
        axes.plot(curve["epoch"], curve["val/acc"], color=color, lw=1.1, label=text)
