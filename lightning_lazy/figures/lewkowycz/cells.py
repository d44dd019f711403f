"""The cells of a sweep with the times and accuracies that the figures of this paper are about."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lightning_lazy.figures.frames import read_config, read_metrics, read_sweep
from lightning_lazy.theory.peak_time import peak_time

TRAINED = 0.5
"""Cells whose best test accuracy is below this share of that of the best cell count as not
trained; no law is fitted to them."""


def peak_cells(folder: Path, keep: Sequence[str] = ()) -> pd.DataFrame:
    """Return the cells of a sweep with the times of their peaks, and store them as ``cells.csv``.

    Further columns, times in epochs: ``best``, the highest test accuracy; ``t*``, the first time
    within 0.005 of it; ``length``, that of the run; ``cut``, whether ``max_updates`` ended a run
    with L2 term before its time, so that t* is a lower bound only; ``fitted at``, when the training
    accuracy is first 1, and ``acc then``, the test accuracy there (both NaN if it never is).

    Args:
        folder: Folder of the sweep.
        keep: As `read_sweep` takes it.
    """
    cells = read_sweep(folder, keep=keep)
    added = pd.DataFrame([_peak(Path(cell)) for cell in cells["folder"]], index=cells.index)
    cells = cells.join(added)
    cells.to_csv(folder / "cells.csv", index=False)
    return cells


def accuracies(cell: Path) -> pd.DataFrame:
    """Return the measured test accuracies of a run, columns ``epoch`` and ``val/acc``."""
    return read_metrics(cell).reindex(columns=["epoch", "val/acc"]).dropna()


def best_within(cell: Path, epochs: float) -> float:
    """Return the best test accuracy of a run's first epochs, NaN if none was measured."""
    found = accuracies(cell)
    return float(found["val/acc"][found["epoch"] <= epochs].max())


def _peak(cell: Path) -> dict[str, object]:
    config, test = read_config(cell), accuracies(cell)
    metrics = read_metrics(cell).reindex(columns=["epoch", "train/acc"])
    fitted = metrics[metrics["train/acc"] >= 1]["epoch"]
    first = fitted.iloc[0] if len(fitted) else np.nan
    then = test["val/acc"][test["epoch"] >= first]
    return {
        "best": test["val/acc"].max(),
        "t*": peak_time(test["epoch"], test["val/acc"]) if len(test) else np.nan,
        "length": metrics["epoch"].max(),
        "cut": config["l2"] > 0 and config["wanted_updates"] > config["max_steps"] + 1,
        "fitted at": first,
        "acc then": then.iloc[0] if len(then) else np.nan,
    }


def law_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells that a law of t* may be fitted to.

    Those with L2 term that were neither cut nor diverged, and reach `TRAINED` of the best accuracy.
    """
    whole = cells[(cells["l2"] > 0) & ~cells["cut"] & ~cells["diverged"]]
    return whole[whole["best"] >= TRAINED * cells["best"].max()]


def exponent(cells: pd.DataFrame) -> float:
    """Return p of the fit t* ∝ (1/λ)^p, least squares in the mean log t* over seeds.

    NaN where there are fewer than two λ.
    """
    times = np.log(cells["t*"]).groupby(cells["l2"]).mean()
    if len(times) < 2:
        return float("nan")
    return float(-np.polyfit(np.log(times.index), times, 1)[0])
