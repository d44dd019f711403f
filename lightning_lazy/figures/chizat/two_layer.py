"""Figures 1 and 2 of Chizat, Oyallon & Bach 2019: a two-layer student and its teacher."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lightning_lazy.build import build
from lightning_lazy.checkpoints import read_checkpoint
from lightning_lazy.figures.frames import read_config, read_metrics, read_sweep
from lightning_lazy.figures.style import COLORS, INK, label, new_figure, save

SIGN_COLORS = {1: COLORS[0], -1: "#c0392b"}
SCALINGS = {-0.5: "α(m) = 1/√m", -1.0: "α(m) = 1/m"}
LAST_SHARE = 0.1
"""Share of a run, at its end, over which the loss of figure 2(b) is averaged."""
STILL_FALLING, REACHED = 0.99, 0.02
"""Training was stopped too early where the loss of figure 2(b) is below this share of what it was
in the part before, and above this share of the curve's maximum."""


def fig1(folder: Path) -> list[Path]:
    """Draw paths of the units in the plane, and the test loss against τ (figure 1).

    The paper's conclusion: with a small scale τ of the initial weights the units find the teacher's
    directions; with a large one they hardly move, and the student predicts as its linearisation
    does.

    Args:
        folder: Folder of a sweep over ``cell`` (``panel``, ``tau``, ``linearize``) and ``seed``.

    Returns:
        The path of the picture, ``figures/fig1.png``; the data stand beside it in ``cells.csv``.
    """
    cells = read_sweep(folder, keep=("cell.panel", "model.tau", "linearize"))
    cells["best"] = [read_metrics(Path(cell))["val/loss"].min() for cell in cells["folder"]]
    cells.to_csv(folder / "cells.csv", index=False)
    in_plane = cells["cell.panel"] == "plane"
    planes, others = cells[in_plane].sort_values("model.tau"), cells[~in_plane]
    figure, axes = new_figure(columns=len(planes) + (len(others) > 0), height=4.6)
    for one, letter, (_, cell) in zip(axes[0], "ab", planes.iterrows(), strict=False):
        _draw_paths(one, cell, letter)
    if len(planes):
        handles, names = axes[0][0].get_legend_handles_labels()
        place = "outside lower left"
        figure.legend(handles, names, fontsize=9, frameon=False, loc=place, ncols=len(names))
    if len(others):
        _draw_against_tau(axes[0][-1], others)
    return [save(figure, folder, "fig1")]


def fig2a(folder: Path) -> list[Path]:
    """Draw the test loss against the number m of hidden units for two scalings (figure 2(a)).

    The paper's conclusion: the model α(m) f with α(m) = 1/√m trains lazily and generalises badly
    for large m; with α(m) = 1/m it does not.

    Args:
        folder: Folder of a sweep over ``model.width``, ``scaling`` and ``seed``.

    Returns:
        The path of the picture, ``figures/fig2a.png``; the data stand beside it in ``cells.csv``.
    """
    cells = read_sweep(folder, keep=("model.width", "scaling.power"))
    cells["loss"] = cells["val/loss"] * cells["alpha"] ** 2  # what is logged is ℓ/α²
    cells.to_csv(folder / "cells.csv", index=False)
    figure, axes = new_figure(columns=1, width=5.6, height=4.0)
    axes[0][0].set_xscale("log", base=2)
    axes[0][0].set_yscale("log")
    for (power, name), color in zip(SCALINGS.items(), COLORS, strict=False):
        group = cells[cells["scaling.power"] == power]
        _draw_curve(axes[0][0], group, x="model.width", y="loss", color=color, name=name)
    label(axes[0][0], "hidden units m", "test loss  ½ (αf − y)²")
    axes[0][0].set_title(_caption(cells), fontsize=9, loc="left")
    axes[0][0].legend(fontsize=9, frameon=False)
    return [save(figure, folder, "fig2a")]


def fig2b(folder: Path) -> list[Path]:
    """Draw the population loss after stochastic gradient descent against τ (figure 2(b)).

    The paper's conclusion: with few units a lazy student ends at a bad local minimum.

    The loss is the mean over the validations of the last tenth of a run; the curve is divided by
    its maximum. Hatched: where the loss was still falling when training was stopped.

    Args:
        folder: Folder of a sweep over ``model.tau`` and ``seed``.

    Returns:
        The path of the picture, ``figures/fig2b.png``; the data stand beside it in ``cells.csv``.
    """
    cells = read_sweep(folder, keep=("model.tau",))
    losses = np.array([_late_losses(Path(cell)) for cell in cells["folder"]])
    cells["loss before"], cells["loss"] = losses.T
    cells.to_csv(folder / "cells.csv", index=False)
    mean = cells[~cells["diverged"]].groupby("model.tau")[["loss", "loss before"]].mean()
    highest = mean["loss"].max()
    falling = mean["loss"] < STILL_FALLING * mean["loss before"]
    slow = mean.index[falling & (mean["loss"] > REACHED * highest)]
    figure, axes = new_figure(columns=1, width=5.6, height=4.0)
    one, scaled = axes[0][0], cells.assign(loss=cells["loss"] / highest)
    name = "stochastic gradient descent"
    _draw_curve(one, scaled, x="model.tau", y="loss", color=COLORS[0], name=name)
    if len(slow):
        hatch = {"fc": "none", "ec": "#bbbbbb", "hatch": "//", "lw": 0}
        one.axvspan(slow.min(), slow.max(), label="still falling at the end", **hatch)
    one.set_xscale("log")
    one.set_ylim(bottom=0)
    label(one, "scale τ of the initial weights", "final population loss / its maximum")
    one.set_title(_caption(cells), fontsize=9, loc="left")
    one.legend(fontsize=9, frameon=False)
    return [save(figure, folder, "fig2b")]


def _draw_paths(axes: Axes, cell: pd.Series, letter: str) -> None:
    """Draw the paths of |a_j| b_j in the plane, their ends, and the teacher's directions."""
    config = read_config(Path(cell["folder"]))
    state = read_checkpoint(Path(cell["folder"], "checkpoints", "last.ckpt"))
    copies = state["callbacks"]["ParameterTrajectory"]["values"].values()
    directions, outputs = (copy.numpy() for copy in copies)  # [k, m, 2] and [k, 1, m]
    signs = np.sign(outputs[:, 0, :, None])
    paths = np.abs(outputs[:, 0, :, None]) * directions
    angle = np.linspace(0, 2 * np.pi, 200)
    axes.plot(np.cos(angle), np.sin(angle), color=INK, lw=0.8, ls=":", label="unit circle")
    reach = 1.1 * max(1.0, np.abs(paths).max())
    teacher = build(config["data"]).teacher
    for sign, color in SIGN_COLORS.items():
        shown = np.where(signs == sign, paths, np.nan)
        axes.plot(shown[:, :, 0], shown[:, :, 1], color=color, lw=0.9)
        axes.plot(*shown[-1].T, "o", color=color, ms=4)
        name = f"unit with a {'>' if sign > 0 else '<'} 0, path and end"
        axes.plot([], [], "o-", color=color, ms=4, lw=0.9, label=name)
        for direction in teacher.directions[teacher.signs == sign].numpy():
            axes.plot(*np.outer(direction, (0, 2 * reach)).tolist(), color=color, lw=1, ls="--")
    axes.plot(
        [], [], color="#777777", lw=1, ls="--", label="teacher's directions, by the sign of a"
    )
    title = f"({letter}) τ = {cell['model.tau']:g}, n = {config['data']['n_train']}, "
    title += f"m = {config['model']['width']}; training loss {cell['train/loss']:.0e}"
    label(axes, "|a| b, first coordinate", "|a| b, second coordinate")
    axes.set_title(title, fontsize=9, loc="left")
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    axes.locator_params(nbins=5)


def _draw_against_tau(axes: Axes, cells: pd.DataFrame) -> None:
    """Draw test losses against τ, and as lines those of the linearised model."""
    linear = cells["linearize"].astype(bool)
    scaled, plateau = cells[~linear], cells[linear]["val/loss"]
    axes.set_xscale("log")
    axes.set_yscale("log")
    for loss, color, name in (
        ("val/loss", COLORS[0], "end of training"),
        ("best", COLORS[2], "best during training"),
    ):
        _draw_curve(axes, scaled, x="model.tau", y=loss, color=color, name=name)
    if len(plateau):
        mean, deviation = plateau.mean(), plateau.std(ddof=0)
        axes.axhline(mean, color=COLORS[1], lw=1.2, ls="--", label="linearised model")
        axes.axhspan(mean - deviation, mean + deviation, color=COLORS[1], alpha=0.15, lw=0)
    label(axes, "scale τ of the initial weights", "test loss  ½ (f − y)²")
    axes.set_title(f"(c) {_caption(cells)}", fontsize=9, loc="left")
    axes.legend(fontsize=8, frameon=False)


def _draw_curve(axes: Axes, cells: pd.DataFrame, *, x: str, y: str, color: str, name: str) -> None:
    """Draw mean and standard deviation over repetitions; crosses at the top mark diverged cells."""
    kept, diverged = cells[~cells["diverged"]], cells[cells["diverged"]]
    groups = kept.groupby(x)[y]
    mean, deviation = groups.mean(), groups.std(ddof=0)
    axes.plot(mean.index, mean, color=color, marker="o", ms=4, label=name)
    axes.fill_between(mean.index, mean - deviation, mean + deviation, color=color, alpha=0.2, lw=0)
    top = [0.97] * len(diverged)
    axes.plot(diverged[x], top, "x", color=color, ms=8, transform=axes.get_xaxis_transform())


def _caption(cells: pd.DataFrame) -> str:
    """Return the sizes that all cells share, and over what the mean is."""
    config = read_config(Path(cells["folder"].iloc[0]))
    data, width = config["data"], config["model"]["width"]
    samples = f"batch = {data['batch_size']}" if data["population"] else f"n = {data['n_train']}"
    sizes = [f"d = {data['in_features']}", samples]
    if "model.width" not in cells or cells["model.width"].nunique() == 1:
        sizes.append(f"m = {width}")
    marks = "; ×: diverged" if cells["diverged"].any() else ""
    seeds = cells["seed"].nunique()
    repetitions = f"{seeds} repetitions, mean ± s.d." if seeds > 1 else "1 repetition"
    return f"{', '.join(sizes)}; {repetitions}{marks}"


def _late_losses(cell: Path) -> tuple[float, float]:
    """Return the mean validation loss of the last part of a run, after that of the part before."""
    rows = read_metrics(cell)[["step", "val/loss"]].dropna()
    losses, share = rows["val/loss"], rows["step"] / rows["step"].max()
    late = share > 1 - LAST_SHARE
    before = ~late & (share > 1 - 2 * LAST_SHARE)
    return float(losses[before].mean()), float(losses[late].mean())
