"""Figures 1 and 3 of Li, Wei & Ma 2019: what is learnt before and after annealing."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lightning_lazy.figures.frames import read_config, read_metrics, read_sweep
from lightning_lazy.figures.style import COLORS, GRID, INK, label, new_figure, save, seeds_text

_ARMS = {"large": "large", "small": "small", "noise": "small, noise before activations"}
_MEAN_OVER = 3
"""Epochs whose mean stands in the table: one epoch alone scatters."""
_PLAIN = {"train/acc": "training accuracy", "val/acc": "validation accuracy"}
_PATCHES = {
    "val/clean/acc": "accuracy, clean images",
    "val/patch_only/acc": "accuracy, images of a patch only",
    "val/mixed/acc": "accuracy, images as in training",
}


def fig1(folder: Path) -> list[Path]:
    """Draw training and validation accuracy for a large and a small initial rate (figure 1).

    The paper's conclusion: the large rate is behind until it is annealed, and then generalises
    better.

    Args:
        folder: Folder of a sweep over ``cell.arm``, and maybe ``seed``.

    Returns:
        The path of the picture, ``figures/fig1.png``; the data stand beside it in ``cells.csv``.
    """
    return _draw(folder, "fig1", _PLAIN)


def fig3(folder: Path) -> list[Path]:
    """Draw accuracies on images without patches and of patches only (figure 3).

    The paper's conclusion: a small rate memorises the patches at once; a large one, and a small one
    with noise, do so after annealing only, and do better on images without patches.

    Args:
        folder: Folder of a sweep over ``cell.arm``, and maybe ``seed``, on patch-augmented images.

    Returns:
        The path of the picture, ``figures/fig3.png``; the data stand beside it in ``cells.csv``.
    """
    return _draw(folder, "fig3", _PATCHES)


def noise(folder: Path) -> list[Path]:
    """Draw training and validation accuracy with and without noise (section 6).

    The paper's conclusion: noise makes up for part of what a small rate loses.

    Args:
        folder: Folder of a sweep over ``cell.arm``, and maybe ``seed``.

    Returns:
        The path of the picture, ``figures/noise.png``; the data stand beside it in ``cells.csv``.
    """
    return _draw(folder, "noise", _PLAIN)


def _draw(folder: Path, name: str, panels: dict[str, str]) -> list[Path]:
    """Draw a panel a metric. Thin: single seeds; thick: their mean; grey: annealing."""
    cells = read_sweep(folder, keep=("cell.arm",))
    annealing = read_config(Path(cells["folder"].iloc[0]))["annealing"]
    frames = [read_metrics(Path(cell)) for cell in cells["folder"]]
    for metric in panels:
        curves = [_curve(frame, metric) for frame in frames]
        cells[f"{metric} before"] = [_mean_until(curve, annealing[0]) for curve in curves]
        cells[f"{metric} end"] = [_mean_until(curve, curve.index[-1]) for curve in curves]
    cells.to_csv(folder / "cells.csv", index=False)
    figure, axes = new_figure(columns=len(panels))
    for one, (metric, title), letter in zip(axes[0], panels.items(), "abc", strict=False):
        for epochs in annealing:
            one.axvline(epochs, color=GRID, lw=2, zorder=0)
        for place, arm in enumerate(_ARMS):
            shown = cells["cell.arm"] == arm
            if shown.any():
                curves = [_curve(frames[cell], metric) for cell in cells.index[shown]]
                _draw_arm(one, curves, COLORS[place])
        label(one, "epochs", "", f"({letter}) {title}")
        one.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    arms = [arm for arm in _ARMS if arm in set(cells["cell.arm"])]
    handles = [axes[0][0].plot([], [], color=COLORS[list(_ARMS).index(arm)])[0] for arm in arms]
    figure.legend(
        [*handles, axes[0][0].plot([], [], color=GRID, lw=2)[0]],
        [*(_name(cells, arm) for arm in arms), "annealing"],
        fontsize=9, frameon=False, loc="outside lower left", ncols=len(arms) + 1,
    )  # fmt: skip
    figure.suptitle(_caption(cells), fontsize=9, x=0.995, ha="right", color=INK)
    return [save(figure, folder, name)]


def _curve(frame: pd.DataFrame, metric: str) -> pd.Series:
    """Return a metric by the number of epochs done."""
    curve: pd.Series = frame.dropna(subset=[metric]).set_index("epoch")[metric]
    return curve


def _mean_until(curve: pd.Series, epochs: float) -> float:
    """Return the mean over the last epochs until some, of which the last is ``epochs``."""
    return float(curve[curve.index <= epochs + 1e-6].tail(_MEAN_OVER).mean())


def _draw_arm(axes: Axes, curves: list[pd.Series], color: str) -> None:
    for curve in curves if len(curves) > 1 else []:
        axes.plot(curve.index, curve, color=color, lw=0.6, alpha=0.4)
    mean = pd.concat(curves, axis=1).mean(axis=1)
    axes.plot(mean.index, mean, color=color, lw=1.6)


def _name(cells: pd.DataFrame, arm: str) -> str:
    rate = cells.loc[cells["cell.arm"] == arm, "lr"].iloc[0]
    return f"{_ARMS[arm]}, η = {rate:g}"


def _caption(cells: pd.DataFrame) -> str:
    config = read_config(Path(cells["folder"].iloc[0]))
    model, data = config["model"], config["data"]
    images = "all" if data["n_train"] is None else f"{data['n_train']:,}"
    crops = f", crops ({data['padding_mode']})" if data["augment"] else ""
    name = Path(data["path"]).name if data["dataset"] == "folder" else data["dataset"]
    return (
        f"WRN-{model['depth']}-{model['width']:g}, {images} images of {name}{crops}, "
        f"batches of {config['batch_size']}, λ = {config['l2']:g}; "
        f"{seeds_text(cells['seed'].nunique())}"
    )
