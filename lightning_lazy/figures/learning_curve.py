"""The learning curve of a run: loss, accuracy and laziness over time."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from lightning_lazy.figures.frames import read_metrics
from lightning_lazy.figures.style import COLORS, label, new_figure, save

_PANELS = {
    "loss": ("train/loss", "val/loss"),
    "accuracy": ("train/acc", "val/acc"),
    "laziness (share of signs kept)": ("lazy/activation_stability", "lazy/sign_consistency"),
}


def draw(folder: Path) -> list[Path]:
    """Draw loss, accuracy and stability of activations of a run against its epochs.

    Args:
        folder: Folder of the run.

    Returns:
        The path of the picture, ``figures/learning_curve.png``.
    """
    frame = read_metrics(folder)
    panels = {
        title: [name for name in names if name in frame and frame[name].notna().any()]
        for title, names in _PANELS.items()
    }
    panels = {title: names for title, names in panels.items() if names}
    figure, axes = new_figure(columns=max(len(panels), 1))
    for one, (title, names) in zip(axes[0], panels.items(), strict=False):
        _curves(one, frame, names)
        label(one, "epoch", title)
        if title == "loss" and frame[names].min().min() > 0:
            one.set_yscale("log")
    return [save(figure, folder, "learning_curve")]


def _curves(axes: Axes, frame: pd.DataFrame, names: list[str]) -> None:
    for name, color in zip(names, COLORS, strict=False):
        curve = frame[["epoch", name]].dropna()
        marker = "o" if len(curve) < 40 else None
        axes.plot(curve["epoch"], curve[name], color=color, label=name, marker=marker, ms=3)
    axes.legend(fontsize=8, frameon=False)
