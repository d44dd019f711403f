"""Spectral densities of a run's Hessian."""

from pathlib import Path

import pandas as pd
import torch

from lightning_lazy.curvature.spectral_density import SpectralDensity
from lightning_lazy.errors import InputError
from lightning_lazy.figures.style import COLORS, label, new_figure, save

_POINTS, _MOST_CURVES = 1000, len(COLORS)


def draw(folder: Path, *, file: str = "spectrum.csv", width: float = 0.005) -> list[Path]:
    """Draw spectral densities over the course of a run, on a logarithmic axis.

    A curve is the mean over probes, its band the standard error. Of many measurements six are
    drawn, evenly spaced and with the first and the last.

    Args:
        folder: Folder of the run.
        file: Table in it with the columns ``step``, ``probe``, ``eigenvalue``, ``weight``, and
            the rows of `SpectralDensity.rows` for each step.
        width: Standard deviation of the Gaussian that blurs each eigenvalue, as a share of the
            range of all that are drawn.

    Returns:
        The path of the picture, ``figures/spectral_density.png``.

    Raises:
        InputError: The table is not there or empty.
    """
    path = folder / file
    frame = pd.read_csv(path) if path.is_file() else pd.DataFrame()
    if frame.empty:
        raise InputError(f"expected a table of spectra in {path}, got none; measure spectra first")
    steps = sorted(frame["step"].unique())
    shown = [steps[round(i * (len(steps) - 1) / (_MOST_CURVES - 1))] for i in range(_MOST_CURVES)]
    frame = frame[frame["step"].isin(shown)]
    low, high = frame["eigenvalue"].min(), frame["eigenvalue"].max()
    blur = width * ((high - low) or abs(high) or 1.0)
    grid = torch.linspace(low - 5 * blur, high + 5 * blur, _POINTS, dtype=torch.float64)
    figure, axes = new_figure(columns=1)
    one = axes[0][0]
    highest = 0.0
    for color, (step, rows) in zip(COLORS, frame.groupby("step"), strict=False):
        mean, error = _spectrum(rows).density(grid, blur)
        highest = max(highest, float(mean.max()))
        one.plot(grid, mean, color=color, lw=1, label=f"step {step}")
        one.fill_between(grid, (mean - error).clamp(min=0), mean + error, color=color, alpha=0.2)
    label(one, "eigenvalue", "density")
    one.set_yscale("log")
    one.set_ylim(1e-7 * highest, 3 * highest)
    one.legend(fontsize=8, frameon=False)
    return [save(figure, folder, "spectral_density")]


def _spectrum(rows: pd.DataFrame) -> SpectralDensity:
    """Return the density that the rows of one step hold."""
    probes = [group for _, group in rows.groupby("probe")]
    most = max(len(group) for group in probes)

    def table(column: str) -> torch.Tensor:
        padded = [[*group[column], *[0.0] * (most - len(group))] for group in probes]
        return torch.tensor(padded, dtype=torch.float64)

    return SpectralDensity(table("eigenvalue"), table("weight"), dim=0, products=0)
