"""Figures 1(b), 4, S2, S3 and S4 of Lewkowycz & Gur-Ari 2020: the λ for a budget of epochs."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from lightning_lazy.figures.lewkowycz.cells import accuracies, best_within, peak_cells
from lightning_lazy.figures.lewkowycz.drawing import legend
from lightning_lazy.figures.lewkowycz.peak_times import draw_best, draw_times
from lightning_lazy.figures.style import COLORS, INK, label, logarithmic, new_figure, save

NEAR_BEST = 0.001
"""The bars of figure 4(b) span the λ whose accuracy is within this of the best."""


@dataclass
class Tuning:
    """What a sweep over λ says about budgets.

    Attributes:
        cells: The sweep's cells.
        table: Best test accuracies, mean over seeds; a row a λ, a column a budget in epochs.
        c: t*·λ of the runs at large λ, mean over seeds, in epochs.
        predicted: For each budget T the accuracy of the runs with λ = c/T, mean over seeds.
    """

    cells: pd.DataFrame
    table: pd.DataFrame
    c: float
    predicted: pd.Series

    @property
    def grid(self) -> pd.DataFrame:
        """The cells of the sweep over λ proper."""
        return self.cells[self.cells["cell.part"] == "grid"]


def fig4(folder: Path) -> list[Path]:
    """Draw how c is measured, and tuned λ against the prediction c/T (figure 4).

    (a) Test accuracy of the short run at large λ against t·λ; (b) the best λ for budgets of T
    epochs, bars: those within 0.001 of the best accuracy. The paper's conclusion: c/T is within an
    order of magnitude of the best λ. From the same runs come figure 1(b), S2, S3 and S4.

    Args:
        folder: Folder of a sweep over ``cell`` (``part``, ``l2``, ``budget``) and maybe ``seed``.

    Returns:
        The paths of the pictures ``figures/fig4.png``, ``fig1b.png``, ``s2.png``, ``s3.png`` and
        ``s4.png``; the data stand beside them in ``cells.csv`` and ``budgets.csv``.
    """
    tuning = read_tuning(folder)
    figure, axes = new_figure(columns=2, width=4.9, height=3.6)
    _draw_measurement(axes[0][0], tuning)
    _draw_tuned(axes[0][1], tuning)
    return [
        save(figure, folder, "fig4"),
        _fig1b(folder, tuning),
        _s2(folder, tuning.grid),
        _budget_panels(folder, tuning, tuning.c, "s3"),
        _budget_panels(folder, tuning, 2 * tuning.c, "s4"),
    ]


def fig1b(folder: Path) -> list[Path]:
    """Draw the best test accuracy against the budget, for tuned and predicted λ (figure 1(b)).

    The paper's conclusion: the predicted λ is within 0.4% of the accuracy of the tuned one.

    Args:
        folder: As `fig4` takes it.
    """
    return [_fig1b(folder, read_tuning(folder))]


def s2(folder: Path) -> list[Path]:
    """Draw t* and the best accuracy against λ with momentum and augmentation (figure S2).

    Args:
        folder: As `fig4` takes it.
    """
    return [_s2(folder, read_tuning(folder).grid)]


def s3(folder: Path) -> list[Path]:
    """Draw accuracy against λ for each budget, with the predicted λ (figure S3).

    Args:
        folder: As `fig4` takes it.
    """
    tuning = read_tuning(folder)
    return [_budget_panels(folder, tuning, tuning.c, "s3")]


def s4(folder: Path) -> list[Path]:
    """Draw figure S3 with a c twice as large, as it is at small λ (figure S4).

    Args:
        folder: As `fig4` takes it.
    """
    tuning = read_tuning(folder)
    return [_budget_panels(folder, tuning, 2 * tuning.c, "s4")]


def read_tuning(folder: Path) -> Tuning:
    """Return what the cells of the sweep say; store ``cells.csv`` and ``budgets.csv``."""
    cells = peak_cells(folder, ("lr", "l2", "cell.part", "cell.budget"))
    part = cells["cell.part"]
    grid, measured, predicted = (cells[part == name] for name in ("grid", "measure", "predict"))
    budgets = sorted(predicted["cell.budget"].astype(float).unique())
    table = pd.DataFrame(
        {
            budget: pd.Series(
                [best_within(Path(cell), budget) for cell in grid["folder"]], grid.index
            )
            .groupby(grid["l2"])
            .mean()
            for budget in budgets
        }
    )
    table.to_csv(folder / "budgets.csv", index_label="l2")
    c = float((measured["t*"] * measured["l2"]).mean())
    by_budget = predicted.groupby(predicted["cell.budget"].astype(float))["best"].mean()
    return Tuning(cells, table, c, by_budget)


def _draw_measurement(axes: Axes, tuning: Tuning) -> None:
    measured = tuning.cells[tuning.cells["cell.part"] == "measure"]
    for _, cell in measured.iterrows():
        curve = accuracies(Path(cell["folder"]))
        axes.plot(curve["epoch"] * cell["l2"], curve["val/acc"], "o-", ms=3, color=COLORS[0])
    axes.axvline(tuning.c, color=INK, ls="--", lw=1)
    strengths = ", ".join(f"{l2:g}" for l2 in measured["l2"].unique())
    label(axes, "t·λ (epochs)", "test accuracy")
    axes.set_title(f"(a) λ = {strengths}: c = t*·λ = {tuning.c:.2g}", fontsize=9, loc="left")


def _draw_tuned(axes: Axes, tuning: Tuning) -> None:
    table = tuning.table.dropna(axis=1, how="all")  # nothing was measured within a short budget
    budgets = table.columns.to_numpy(dtype=float)
    best = table.idxmax().to_numpy(dtype=float)
    near = [column[column >= column.max() - NEAR_BEST].index for _, column in table.items()]
    below = best - [float(one.min()) for one in near]
    above = [float(one.max()) for one in near] - best
    bars = (below, above)
    axes.errorbar(budgets, best, bars, fmt="o", ms=5, capsize=3, color=COLORS[0], label="tuned")
    axes.plot(budgets, tuning.c / budgets, "--", color=COLORS[1], label="c/T")
    label(axes, "budget T (epochs)", "λ")
    axes.set_title("(b) bars: within 0.001 of the best accuracy", fontsize=9, loc="left")
    logarithmic(axes, "x")
    logarithmic(axes, "y")
    legend(axes)


def _fig1b(folder: Path, tuning: Tuning) -> Path:
    figure, axes = new_figure(columns=1, width=5.4, height=3.8)
    one, best = axes[0][0], tuning.table.max()
    one.plot(best.index, best, "o-", color=COLORS[0], label="tuned λ")
    one.plot(tuning.predicted.index, tuning.predicted, "s--", color=COLORS[1], label="predicted λ")
    used = tuning.cells[tuning.cells["cell.part"] == "predict"]
    used_c = (used["l2"] * used["cell.budget"].astype(float)).mean()
    label(one, "budget T (epochs)", "best test accuracy")
    title = f"λ = c/T with c = {used_c:.2g} (measured in this sweep: {tuning.c:.2g})"
    one.set_title(title, fontsize=9, loc="left")
    logarithmic(one, "x")
    legend(one)
    return save(figure, folder, "fig1b")


def _s2(folder: Path, grid: pd.DataFrame) -> Path:
    figure, axes = new_figure(columns=2, width=4.9, height=3.6)
    draw_times(axes[0][0], grid)
    draw_best(axes[0][1], grid)
    cut = int(grid["cut"].sum())
    axes[0][0].set_title(f"hollow: cut ({cut} of {len(grid)} runs)", fontsize=9, loc="left")
    return save(figure, folder, "s2")


def _budget_panels(folder: Path, tuning: Tuning, c: float, name: str) -> Path:
    budgets = [float(budget) for budget in tuning.table.columns]
    columns = min(max(len(budgets), 1), 4)
    rows = max(-(-len(budgets) // columns), 1)
    figure, axes = new_figure(columns=columns, rows=rows, width=3.4, height=2.9)
    for one in list(axes.flat)[len(budgets) :]:
        one.set_visible(False)
    for one, budget in zip(axes.flat, budgets, strict=False):
        column = tuning.table[budget]
        one.plot(column.index, column, "o-", ms=4, color=COLORS[0])
        one.axvline(c / budget, color=COLORS[1], ls="--", lw=1.2)
        logarithmic(one, "x")
        label(one, "λ", "best test accuracy")
        one.set_title(f"T = {budget:g}, dashed: {c:.2g}/T", fontsize=9, loc="left")
    return save(figure, folder, name)
