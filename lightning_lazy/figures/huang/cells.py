"""The cells of a sweep as the figures of this paper need them."""

import json
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from lightning_lazy.figures.frames import read_config, read_sweep
from lightning_lazy.figures.style import COLORS

LOSSES = {"ExponentialLoss": "exponential", "LogisticLoss": "logistic", "SquaredLoss": "squared"}
POINTS = {
    "degenerate": "degenerate data",
    "non_separable": "non-separable data",
    "blobs": "separable data",
    "flipped_blobs": "blobs, flipped labels",
}
PHASE_COLORS = {
    "lazy": COLORS[0],
    "catapult": COLORS[1],
    "divergent": "#8b1a1a",
    "none": COLORS[5],
}


CASES = [
    (loss, points)
    for loss in ("ExponentialLoss", "LogisticLoss")
    for points in ("degenerate", "non_separable")
]
"""What figures 1 to 3 show: two losses on two kinds of data."""


def phase_cells(folder: Path, keep: tuple[str, ...] = ()) -> pd.DataFrame:
    """Return the cells of a sweep with their phases, and store them as ``cells.csv``.

    Further columns: ``verdict``, ``reason`` and all else of ``phase.json``; without that file, as
    where training stopped after one step, the verdict is ``none``.

    Args:
        folder: Folder of the sweep.
        keep: As `read_sweep` takes it.
    """
    cells = read_sweep(folder, keep=keep)
    phases = [_phase(Path(cell)) for cell in cells["folder"]]
    added = pd.DataFrame(phases, index=cells.index).drop(columns="step", errors="ignore")
    cells = cells.join(added)
    cells.to_csv(folder / "cells.csv", index=False)
    return cells


def of_case(cells: pd.DataFrame, loss: str, points: str) -> pd.DataFrame:
    """Return the cells with a loss and a kind of data, by learning rate."""
    shown = cells[(cells["cell.loss"] == loss) & (cells["cell.points"] == points)]
    return shown.sort_values("lr")


def caption(figure: Figure, cells: pd.DataFrame) -> None:
    """Say above a figure which net it is of."""
    config = read_config(Path(cells["folder"].iloc[0]))
    net = f"one hidden layer, m = {config['model']['width']}"
    figure.suptitle(
        f"{net if config['model']['depth'] else 'f = w x'}, seed {config['seed']}", fontsize=9
    )


def _phase(cell: Path) -> dict[str, object]:
    path = cell / "phase.json"
    if not path.is_file():
        return {"verdict": "none", "reason": "no verdict"}
    found: dict[str, object] = json.loads(path.read_text())
    return found
