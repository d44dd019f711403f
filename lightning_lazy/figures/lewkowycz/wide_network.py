"""Figure 5 of Lewkowycz & Gur-Ari 2020: wide nets with L2, in theory and in training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from lightning_lazy.checkpoints import read_checkpoint
from lightning_lazy.errors import InputError
from lightning_lazy.figures.frames import read_config, read_metrics, read_sweep
from lightning_lazy.figures.lewkowycz.drawing import legend
from lightning_lazy.figures.style import COLORS, INK, label, logarithmic, new_figure, save
from lightning_lazy.theory.weight_decay import evolve_modes, evolve_outputs, kernel_decay

_LAYERS = 2
_L2, _RATIOS, _START = 0.01, (0.1, 100.0), 0.5
"""λ, values of γ/λ and f(0) of the panels of modes, whose label is 1."""


@dataclass
class _Run:
    """A trained net and what the theory says of it, from its kernel and outputs at the start.

    Attributes:
        width: Hidden units.
        l2: λ.
        times: Learning rate times steps at which the loss is known, from 0.
        losses: Training loss without L2 term then.
        theory: The loss of a net of infinite width with two layers.
        linear: That of the linear model, k = 1.
        kernel: λ_max of the tangent kernel over that at the start, by time.
    """

    width: int
    l2: float
    times: NDArray[np.float64]
    losses: NDArray[np.float64]
    theory: NDArray[np.float64]
    linear: NDArray[np.float64]
    kernel: pd.Series


def fig5(folder: Path) -> list[Path]:
    """Draw modes with L2 in theory, and training loss and kernel of wide nets beside them.

    The paper's conclusion: a two-layer net learns like a linear model up to a time of order 1/λ,
    when it begins to forget, as its kernel decays. (a, b) Modes with f(0) = 0.5 and label 1 for
    k = 2 and k = 1; (c) training loss, dashed: Theorem 2 with each net's own kernel at the start;
    (d) the kernel's top eigenvalue and Theorem 1.

    Args:
        folder: Folder of a sweep over ``model.width`` with `NeuralTangentKernel` on the whole
            training set, α = 1 and without centring.

    Returns:
        The path of the picture, ``figures/fig5.png``; what is compared stands beside it in
        ``cells.csv``.
    """
    cells = read_sweep(folder, keep=("model.width",)).sort_values("model.width")
    ended = cells[~cells["diverged"]]
    runs = [_read(Path(cell)) for cell in ended["folder"]]
    compared = pd.DataFrame([_compare(run) for run in runs], index=ended.index)
    cells.join(compared).to_csv(folder / "cells.csv", index=False)
    figure, axes = new_figure(columns=2, rows=2, width=5.2, height=3.6)
    for one, letter, k in zip(axes[0], "ab", (_LAYERS, 1), strict=True):
        _draw_modes(one, k)
        label(one, "time t", "f", f"({letter}) theory, k = {k}, λ = {_L2:g}")
    if runs:
        _draw_losses(axes[1][0], runs)
        _draw_kernels(axes[1][1], runs)
    label(axes[1][0], "time, η · steps", "training loss", f"(c) {_task(cells)}")
    label(axes[1][1], "time, η · steps", "λ_max / λ_max(0)", "(d) tangent kernel")
    return [save(figure, folder, "fig5")]


def _read(cell: Path) -> _Run:
    config, metrics = read_config(cell), read_metrics(cell)
    lr, l2 = config["lr"], config["l2"]
    rows = metrics[["step", "train/loss"]].dropna()
    times = lr * (rows["step"].to_numpy() - 1)  # logged before the update
    kernels = metrics[["step", "ntk/top1"]].dropna()
    start = read_checkpoint(cell / "checkpoints" / "last.ckpt")["callbacks"]
    start = start.get("NeuralTangentKernel", {}).get("start")
    if start is None:
        raise InputError(f"{cell} holds no tangent kernel: run the experiment anew")
    kernel, y, f = (start[name].double().flatten() for name in ("kernel", "targets", "outputs"))
    kernel = kernel.view(len(y), len(y))

    def predicted(k: int) -> NDArray[np.float64]:
        outputs = evolve_outputs(kernel, y, f, l2=l2, times=times, k=k)
        return 0.5 * np.square(outputs - y.numpy()).sum(axis=1)

    tops = kernels["ntk/top1"].to_numpy()
    return _Run(
        config["model"]["width"],
        l2,
        times,
        rows["train/loss"].to_numpy(),
        predicted(_LAYERS),
        predicted(1),
        pd.Series(tops / tops[0], index=lr * kernels["step"].to_numpy()),
    )


def _compare(run: _Run) -> dict[str, Any]:
    """Return how far a net is from the theory, up to the minimum of its loss."""
    lowest = int(run.losses.argmin())
    errors = np.abs(run.losses / run.theory - 1)[: lowest + 1]
    decay = kernel_decay(run.kernel.index.to_numpy(), l2=run.l2, k=_LAYERS)
    return {
        "time of minimum": run.times[lowest],
        "in theory": run.times[run.theory.argmin()],
        "largest error": errors.max(),
        "median error": np.median(errors),
        "loss over linear": run.losses[lowest] / run.linear[lowest],
        "kernel error": np.abs(run.kernel - decay).max(),
    }


def _task(cells: pd.DataFrame) -> str:
    """Return what is trained on, and which widths diverged."""
    config = read_config(Path(cells["folder"].iloc[0]))
    diverged = cells["model.width"][cells["diverged"]]
    listed = ", ".join(f"{width:,}" for width in diverged)
    note = f"; diverged: width {listed}" if listed else ""
    return f"{config['data']['n_train']} images, λ = {config['l2']:g}{note}"


def _draw_modes(axes: Axes, k: int) -> None:
    """Draw f(t) of a mode for each γ/λ."""
    times = np.geomspace(1e-2, 1e3, 400)
    gammas = _L2 * np.array(_RATIOS)
    ones = np.ones_like(gammas)
    modes = evolve_modes(gammas, ones, _START * ones, l2=_L2, times=times, k=k)
    for ratio, mode, color in zip(_RATIOS, modes.T, COLORS, strict=False):
        axes.plot(times, mode, color=color, label=f"γ/λ = {ratio:g}")
    _mark_decay(axes, _L2)
    axes.axhline(1, color=INK, lw=0.8, ls=":")
    logarithmic(axes, "x")
    axes.set_ylim(-0.03, 1.1)
    legend(axes)


def _mark_decay(axes: Axes, l2: float) -> None:
    axes.axvline(1 / l2, color=INK, lw=0.8, ls=(0, (1, 4)))
    axes.annotate(
        "1/λ", (1 / l2, 0.98), xycoords=axes.get_xaxis_transform(), fontsize=8, va="top", ha="right"
    )


def _draw_losses(axes: Axes, runs: list[_Run]) -> None:
    for run, color in zip(runs, COLORS, strict=False):
        axes.plot(run.times, run.losses, color=color, lw=1.6, label=f"width {run.width:,}")
        axes.plot(run.times, run.theory, "--", color=color, lw=1.1)
    widest = runs[-1]
    axes.plot([], [], "--", color=INK, label="theory, k = 2")
    axes.plot(widest.times, widest.linear, ":", color=INK, label="linear model, k = 1")
    _mark_decay(axes, widest.l2)
    axes.set(xscale="log", yscale="log", xlim=(widest.times[1], None))
    legend(axes)


def _draw_kernels(axes: Axes, runs: list[_Run]) -> None:
    for run, color in zip(runs, COLORS, strict=False):
        axes.plot(run.kernel.index, run.kernel, color=color, label=f"width {run.width:,}")
    times = np.linspace(0, runs[-1].times[-1], 200)
    axes.plot(
        times,
        kernel_decay(times, l2=runs[-1].l2, k=_LAYERS),
        "--",
        color=INK,
        label=r"$e^{-2\lambda t}$",
    )
    legend(axes)
