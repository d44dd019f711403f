"""Appendix C of Chizat, Oyallon & Bach 2019: linearised networks are ill-conditioned."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lightning_lazy.checkpoints import read_checkpoint
from lightning_lazy.curvature.kernel_measures import LazyTraining, condition
from lightning_lazy.errors import InputError
from lightning_lazy.figures.frames import read_config, read_metrics, run_folders
from lightning_lazy.figures.style import COLORS, INK, label, new_figure, save

LONGEST = 1e6
"""Steps of gradient descent up to which the loss is predicted."""


def kernel_spectrum(folder: Path) -> list[Path]:
    """Draw the spectrum of the tangent kernel at the start, and the training loss it predicts.

    Left: eigenvalues in decreasing order, divided by the largest. Right: the squared loss in
    gradient descent on the linearised model, with the run's learning rate, divided by the loss at
    the start; dots are what the run at a large α logged. The paper's conclusion: the kernel is so
    badly conditioned that the linearised model trains extremely slowly.

    Args:
        folder: Folder of a sweep over ``data.random_pixels`` with `NeuralTangentKernel` on the
            whole training set.

    Returns:
        The path of the picture, ``figures/kernel_spectrum.png``; the data stand beside it in
        ``spectra.csv`` and ``losses.csv``.
    """
    figure, axes = new_figure(columns=2, width=5.2, height=3.8)
    spectra, losses = [], []
    for cell, color in zip(run_folders(folder), COLORS, strict=False):
        name = "random pixels" if read_config(cell)["data"]["random_pixels"] else "images"
        values, predicted = _draw(axes[0], cell, name, color)
        spectra.append(pd.Series(values, name=name))
        losses.append(predicted.rename(name))
    pd.concat(spectra, axis=1).to_csv(folder / "spectra.csv", index_label="index")
    pd.concat(losses, axis=1).to_csv(folder / "losses.csv", index_label="step")
    label(axes[0][0], "number of the eigenvalue", "eigenvalue / largest")
    label(axes[0][1], "steps of gradient descent", "training loss / loss at the start")
    axes[0][0].set_title("tangent kernel at initialisation", fontsize=9, loc="left")
    axes[0][1].set_title("lines: linearised model; dots: training", fontsize=9, loc="left")
    axes[0][0].set_yscale("log")
    axes[0][1].set_ylim(bottom=0)
    config = read_config(run_folders(folder)[0])
    figure.suptitle(f"{config['data']['n_train']} images, lr {config['lr']:g}", fontsize=9)
    for one in axes[0]:
        one.set_xscale("log")
        one.legend(fontsize=8, frameon=False)
    return [save(figure, folder, "kernel_spectrum")]


def _draw(axes: list[Axes], cell: Path, name: str, color: str) -> tuple[np.ndarray, pd.Series]:
    """Draw a run's spectrum and losses; return them."""
    config = read_config(cell)
    states = read_checkpoint(cell / "checkpoints" / "last.ckpt")["callbacks"]
    start = states.get("NeuralTangentKernel", {}).get("start")
    if start is None or "targets" not in start:
        raise InputError(f"{cell} holds no tangent kernel with targets: run the experiment anew")
    kernel, y = start["kernel"], start["targets"].double()
    centred = config["centering"] != "none"
    residual = -y if centred else config["alpha"] * start["outputs"].double() - y
    training = LazyTraining(kernel, residual, weight=2 / y.numel())
    values = training.eigenvalues.flip(0)
    found = condition(values, kernel.dtype)
    spectrum = (values / values[0]).numpy()[: found.rank]
    axes[0].plot(
        np.arange(1, found.rank + 1),
        spectrum,
        color=color,
        label=f"{name}, condition number {found.number:.1e}",
    )
    steps = np.unique(np.round(np.geomspace(1, LONGEST, 200))).astype(int)
    losses = training.losses(steps.tolist(), config["lr"]).numpy()
    first = float(training.losses([0], config["lr"]))
    axes[1].plot(steps, losses / first, color=color, label=name)
    rows = read_metrics(cell)[["step", "train/loss"]].dropna()
    # Logged before an update is the loss after the step before; it is divided by α².
    measured = rows["train/loss"] * config["alpha"] ** 2 / first
    later = rows["step"] > 1
    axes[1].plot(
        rows["step"][later] - 1, measured[later], "o", ms=3.5, mfc="none", color=color, mec=INK
    )
    return spectrum, pd.Series(losses / first, index=steps)
