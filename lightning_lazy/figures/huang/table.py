"""Table 1 of Huang, Du, Xu & Liu 2020: which losses have a catapult phase on which data."""

from pathlib import Path

import pandas as pd

from lightning_lazy.figures.huang.cells import LOSSES, POINTS, phase_cells
from lightning_lazy.figures.style import INK, new_figure, save

PAPER = {
    ("ExponentialLoss", "blobs"): "no",
    ("LogisticLoss", "blobs"): "no",
    ("SquaredLoss", "blobs"): "yes",
    **{(loss, points): "yes" for loss in LOSSES for points in ("degenerate", "non_separable")},
}
"""Whether there is a catapult phase, as the paper says."""


def table1(folder: Path) -> list[Path]:
    """Draw for every loss and kind of data which phases the learning rates of a sweep found.

    A catapult is what `CatapultMonitor` calls one. It counts as a phase where a run's kernel
    dropped or its loss rose and it came to rest.

    Args:
        folder: Folder of a sweep over ``cell`` (``loss``, ``points``, ``lr``).

    Returns:
        The path of the picture, ``figures/table1.png``; ``table1.csv`` holds the table and
        ``cells.csv`` the cells.
    """
    cells = phase_cells(folder, keep=("cell.loss", "cell.points"))
    rows = [
        _row(cells[(cells["cell.loss"] == loss) & (cells["cell.points"] == points)], loss, points)
        for points in POINTS
        for loss in LOSSES
        if len(cells[(cells["cell.loss"] == loss) & (cells["cell.points"] == points)])
    ]
    table = pd.DataFrame(rows)
    table.to_csv(folder / "table1.csv", index=False)
    figure, axes = new_figure(columns=1, width=8.6, height=0.3 * len(table) + 0.35)
    one = axes[0][0]
    one.axis("off")
    drawn = one.table(
        cellText=table.to_numpy().tolist(),
        colLabels=list(table.columns),
        colWidths=[0.18, 0.12, 0.11, 0.09, 0.5],
        cellLoc="left",
        colLoc="left",
        loc="center",
        edges="horizontal",
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(9)
    drawn.scale(1, 1.35)
    for (row, column), cell in drawn.get_celld().items():
        cell.set_edgecolor("#bbbbbb")
        cell.get_text().set_color(INK)
        if row == 0 or (column == 2 and table.iloc[row - 1]["catapult"] == "yes"):
            cell.get_text().set_weight("bold")
    return [save(figure, folder, "table1")]


def _row(cells: pd.DataFrame, loss: str, points: str) -> dict[str, str]:
    phases = [f"{cell['lr']:g}: {_phase(cell)}" for _, cell in cells.sort_values("lr").iterrows()]
    return {
        "data": POINTS[points].removesuffix(" data"),
        "loss": LOSSES[loss],
        "catapult": "yes" if (cells["verdict"] == "catapult").any() else "no",
        "paper": PAPER.get((loss, points), "–"),
        "learning rates and what they led to": ", ".join(phases),
    }


def _phase(cell: pd.Series) -> str:
    """Return the verdict, or why there is none."""
    return str(cell["reason"] if cell["verdict"] == "none" else cell["verdict"])
