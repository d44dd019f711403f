"""Figure S6 of Lewkowycz & Gur-Ari 2020: curves of loss and accuracy."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from lightning_lazy.figures.frames import read_metrics
from lightning_lazy.figures.lewkowycz.cells import peak_cells
from lightning_lazy.figures.lewkowycz.drawing import legend, shades
from lightning_lazy.figures.style import label, logarithmic, new_figure, save

NETS = {
    "FullyConnected": "fully connected",
    "WideResNet": "wide residual net",
    "LewkowyczCNN": "CNN",
}
_PANELS = {
    "loss without L2 term": ("train/loss", "val/loss"),
    "accuracy": ("train/acc", "val/acc"),
}


def s6(folder: Path) -> list[Path]:
    """Draw loss and accuracy over training for the smallest, median and largest λ (figure S6).

    The paper's conclusion: the loss falls, and rises again after a time ∝ 1/λ.

    Args:
        folder: Folder of a sweep over ``arm`` (the nets) and ``l2``, and maybe ``seed``.

    Returns:
        The path of the picture, ``figures/s6.png``; the data stand beside it in ``cells.csv``.
    """
    cells = peak_cells(folder, ("model._target_",))
    target = cells["model._target_"].str.rpartition(".")[2]
    nets = {name: cells[target == kind] for kind, name in NETS.items()}
    return [draw_curves(folder, {name: group for name, group in nets.items() if len(group)})]


def draw_curves(folder: Path, nets: Mapping[str, pd.DataFrame], name: str = "s6") -> Path:
    """Draw two panels for every net, and write ``figures/<name>.png``.

    Args:
        folder: Folder of the sweep.
        nets: Cells of each net, by what it is called; of several seeds the first is drawn.
        name: Of the picture.
    """
    figure, axes = new_figure(columns=2, rows=max(len(nets), 1), width=5.0, height=3.2)
    for row, (net, cells) in zip(axes, nets.items(), strict=False):
        chosen = _chosen(cells)
        for one, (what, metrics) in zip(row, _PANELS.items(), strict=True):
            for (_, cell), color in zip(chosen.iterrows(), shades(len(chosen)), strict=True):
                _draw_curve(one, cell, metrics, color)
            label(one, "epoch", what)
            logarithmic(one, "x")
            rates = ", ".join(f"{lr:g}" for lr in sorted(chosen["lr"].unique()))
            one.set_title(f"{net}, η = {rates}; dotted: test", fontsize=9, loc="left")
        logarithmic(row[0], "y")
        legend(row[0])
    return save(figure, folder, name)


def _chosen(cells: pd.DataFrame) -> pd.DataFrame:
    """Return a cell for the smallest, the median and the largest λ, of the first seed."""
    regular = cells[(cells["l2"] > 0) & (cells["seed"] == cells["seed"].min())]
    values = sorted(regular["l2"].unique())
    if not values:
        return regular
    places = {0, len(values) // 2, len(values) - 1}
    wanted = regular[regular["l2"].isin([values[place] for place in places])]
    return wanted.drop_duplicates("l2").sort_values("l2")


def _draw_curve(axes: Axes, cell: pd.Series, metrics: tuple[str, str], color: str) -> None:
    rows = read_metrics(Path(cell["folder"]))
    for metric, style in zip(metrics, ("-", ":"), strict=True):
        curve = rows.reindex(columns=["epoch", metric]).dropna()
        cut = ", cut" if cell["cut"] else ""
        name = f"λ = {cell['l2']:g}{cut}" if style == "-" else None
        axes.plot(curve["epoch"], curve[metric], style, color=color, lw=1.2, label=name)
