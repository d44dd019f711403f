"""Sections 2 to 5 of Li, Wei & Ma 2019: in what order a net learns the patterns P and Q."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lightning_lazy.figures.frames import read_config, read_metrics, read_sweep
from lightning_lazy.figures.style import COLORS, INK, label, new_figure, save, seeds_text
from lightning_lazy.theory import annealing_threshold, gradient_noise_std, noise_variance

Config = dict[str, Any]
ARMS = {
    "large": "large rate, annealed (L-S)",
    "small": "small rate (S)",
    "noise": "small rate, noise before activations",
}
_SETS = {"p_only": "P only", "q_only": "Q only", "both": "both"}
_PANELS = {
    "(a) training loss": {"train/loss": "-"},
    "(b) accuracy, Q only": {"val/q_only/acc": "-", "train/q_only/acc": ":"},
    "(c) accuracy, P only": {"val/p_only/acc": "-", "train/p_only/acc": ":"},
    "(d) |g(z+ζ) + g(z−ζ) − 2g(z)|, Lemma 4.2": {"pattern/second_difference": "-"},
    "(e) noise part of V, r.m.s. (3.4)": {"pattern/v_noise": "-"},
    "(f) signal of W, Lemma 5.2": {"pattern/w_signal": "-", "pattern/shared_signal": ":"},
    "(g) r(x₁) − r(−x₁), Lemma 5.3": {"pattern/alpha": "-", "pattern/alpha_rest": ":"},
}
_STYLES = {
    "(b)": ("test (generalised)", "training (memorised)"),
    "(f)": ("all examples", "examples with Q"),
    "(g)": ("‖α‖, in the span of P only", "rest"),
}


def pq(folder: Path) -> list[Path]:
    """Draw what is learnt when, against η·t, and the errors at the end.

    The paper's conclusions: with a large learning rate, or noise before the activations, Q is
    learnt only after annealing; with a small one at once, and then P is learnt from the examples
    without Q alone and the error on them is larger. Thin: single seeds; thick: their mean, in which
    a run that has ended keeps its last value.

    Args:
        folder: Folder of a sweep over ``cell.arm`` and ``seed``.

    Returns:
        The path of the picture, ``figures/pq.png``; the data stand beside it in ``cells.csv``.
    """
    cells = read_sweep(folder, keep=("cell.arm",))
    config = read_config(Path(cells["folder"].iloc[0]))
    cells["test error"] = _test_error(cells, config)
    cells.to_csv(folder / "cells.csv", index=False)
    runs = {
        arm: [_run(Path(cell)) for cell in cells.loc[cells["cell.arm"] == arm, "folder"]]
        for arm in ARMS
        if arm in set(cells["cell.arm"])
    }
    figure, axes = new_figure(columns=4, rows=2, width=4.3, height=3.4)
    for one, (title, metrics) in zip(axes.flat, _PANELS.items(), strict=False):
        _draw_panel(one, runs, metrics)
        label(one, "learning rate × updates", "", title)
        for style, name in zip("-:", _STYLES.get(title[:3], ()), strict=False):
            one.plot([], [], ls=style, color=INK, label=name)
        if title[:3] in _STYLES:
            one.legend(fontsize=8, frameon=False)
    threshold = annealing_threshold(config["eps_1"], config["data"]["q0"])
    axes[0][0].axhline(threshold, color=INK, lw=0.8, ls="--", label="ε₁ + q log 2")
    axes[0][0].legend(fontsize=8, frameon=False)
    _draw_closed_form(axes[1][0], runs, config)
    _draw_errors(axes[1][3], cells)
    handles = [axes[0][0].plot([], [], color=COLORS[list(ARMS).index(arm)])[0] for arm in runs]
    names = [ARMS[arm] for arm in runs]
    figure.legend(handles, names, fontsize=9, frameon=False, loc="outside lower left", ncols=3)
    figure.legend([], title=_caption(cells, config), frameon=False, loc="outside lower right")
    return [save(figure, folder, "pq")]


def _run(cell: Path) -> pd.DataFrame:
    """Return the metrics of a run with a column ``time``, Σ γ_s over the updates done."""
    frame = read_metrics(cell)
    rates = frame["anneal/lr"].ffill()
    elapsed = frame["step"].diff().fillna(0.0) * rates.shift().fillna(0.0)
    return frame.assign(time=elapsed.cumsum())


def _draw_panel(axes: Axes, runs: dict[str, list[pd.DataFrame]], metrics: dict[str, str]) -> None:
    for arm, frames in runs.items():
        color = COLORS[list(ARMS).index(arm)]
        for metric, style in metrics.items():
            curves = [
                frame[["time", metric]].dropna().to_numpy().T for frame in frames if metric in frame
            ]
            for time, values in curves:
                axes.plot(time, values, color=color, lw=0.6, ls=style, alpha=0.35)
            if curves:
                grid = np.linspace(0, max(time[-1] for time, _ in curves), 200)
                mean = np.mean([np.interp(grid, *curve) for curve in curves], axis=0)
                begun = grid >= max(time[0] for time, _ in curves)
                axes.plot(grid[begun], mean[begun], color=color, lw=1.8, ls=style)
        for frame in frames:
            for time in frame.loc[_annealed(frame), "time"]:
                axes.axvline(time, color=color, lw=0.6, alpha=0.5, zorder=0)


def _annealed(frame: pd.DataFrame) -> pd.Series:
    """Return the rows where the learning rate or the noise before the activations falls."""
    changes = frame["anneal/stage"] > 0
    if "noise/std" in frame:
        changes |= frame["noise/std"].notna() & (frame["step"] > 0)
    return changes


def _draw_closed_form(axes: Axes, runs: dict[str, list[pd.DataFrame]], config: Config) -> None:
    """Draw what noise and decay make of τ₀ at the small learning rate, and τ₀ at the large one."""
    tau_0, l2 = config["model"]["tau"], config["l2"]
    tau_xi = gradient_noise_std(tau_0, config["large_lr"], l2)
    end = max(frame["time"].max() for frames in runs.values() for frame in frames)
    times = np.linspace(0, end, 100)
    for lr in (config["large_lr"], config["small_lr"]):
        variances = [
            noise_variance(tau_0, tau_xi, lr=lr, l2=l2, steps=round(time / lr)) for time in times
        ]
        axes.plot(times, np.sqrt(variances), color=INK, lw=0.9, ls="--")
    axes.plot([], [], color=INK, lw=0.9, ls="--", label="closed form, both rates")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, frameon=False)


def _draw_errors(axes: Axes, cells: pd.DataFrame) -> None:
    """Draw the errors at the end on each kind of examples and on the distribution."""
    columns = {f"val/{name}/acc": text for name, text in _SETS.items()}
    names = [*columns.values(), "all"]
    for place, arm in enumerate(ARMS):
        own = cells[cells["cell.arm"] == arm]
        errors = pd.concat([1 - own[list(columns)], own["test error"]], axis=1)
        at = np.arange(len(names)) + 0.22 * (place - 1)
        axes.bar(at, errors.mean(), width=0.2, color=COLORS[place])
        axes.plot(np.tile(at, (len(errors), 1)), errors, ".", color=INK, ms=3)
    axes.set_xticks(range(len(names)), names)
    label(axes, "test examples", "", "(h) test error at the end")


def _test_error(cells: pd.DataFrame, config: Config) -> pd.Series:
    """Return the error on the distribution, a mean over its components."""
    p0, q0 = config["data"]["p0"], config["data"]["q0"]
    shares = {"p_only": p0, "q_only": q0, "both": 1 - p0 - q0}
    errors = [share * (1 - cells[f"val/{name}/acc"]) for name, share in shares.items()]
    return pd.concat(errors, axis=1).sum(axis=1)


def _caption(cells: pd.DataFrame, config: Config) -> str:
    data, model = config["data"], config["model"]
    return (
        f"d = {data['dimension']}, N = {data['n_train']}, r = {data['r']:.2g}, "
        f"λ = {config['l2']:.2g}, τ₀ = {model['tau']:g}, {model['width']} units in W, "
        f"{model['v_width']} in V; η = {config['large_lr']:g} and {config['small_lr']:g}; "
        f"{seeds_text(cells['seed'].nunique())}; vertical: annealing"
    )
