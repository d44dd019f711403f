"""Power laws through edges that are known to lie between two cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lightning_lazy.figures.kanoh.names import symbol


@dataclass(frozen=True)
class PowerLaw:
    """A fit y = factor · x^exponent.

    Attributes:
        exponent: The slope of log y against log x.
        error: Its standard error.
        factor: y at x = 1.
        points: How many points it goes through.
        start: The smallest x of them.
        end: The largest.
    """

    exponent: float
    error: float
    factor: float
    points: int
    start: float
    end: float

    def __call__(self, x: Any) -> Any:
        """Return y."""
        return self.factor * np.asarray(x, float) ** self.exponent

    def text(self, y: str, x: str) -> str:
        r"""Return the law with its error as matplotlib's mathematics.

        >>> PowerLaw(1.0234, 0.004, 2.0, 9, 0.1, 10.0).text("lr", "alpha")
        '$\\eta \\propto \\alpha^{1.023 \\pm 0.004}$'
        """
        power = rf"{self.exponent:.3f} \pm {self.error:.3f}"
        return rf"${symbol(y)} \propto {symbol(x)}^{{{power}}}$"


def fit_power_law(
    x: Sequence[float], y: Sequence[float], low: Sequence[float], high: Sequence[float]
) -> PowerLaw | None:
    r"""Fit a power law by weighted least squares in log y against log x.

    An edge that is only known to lie in [low, high] has the error
    :math:`\sigma = \ln(high/low)/2`, half a cell, and the weight 1/σ². (The standard deviation of a
    uniform distribution would be too small: neighbouring edges are rounded alike.) The standard
    error of the exponent is the one that follows from σ, or the one from the scatter of the points
    where that is larger.

    Args:
        x: Positive, shape ``(n,)``.
        y: Positive.
        low: Lower bounds of y.
        high: Upper bounds of y, above the lower ones.

    Returns:
        The fit; ``None`` of fewer than three points, or of points at one x.
    """
    u, v = np.log(np.asarray(x, float)), np.log(np.asarray(y, float))
    if len(u) < 3 or np.ptp(u) == 0:
        return None
    weights = 4 / np.log(np.asarray(high, float) / np.asarray(low, float)) ** 2
    centre, level = np.average(u, weights=weights), np.average(v, weights=weights)
    spread = float((weights * (u - centre) ** 2).sum())
    exponent = float((weights * (u - centre) * (v - level)).sum()) / spread
    rest = v - level - exponent * (u - centre)
    chi2 = float((weights * rest**2).sum()) / (len(u) - 2)
    error = (max(1.0, chi2) / spread) ** 0.5
    factor = float(np.exp(level - exponent * centre))
    return PowerLaw(exponent, error, factor, len(u), float(min(x)), float(max(x)))


def fit_longest_stretch(
    x: Sequence[float], y: Sequence[float], low: Sequence[float], high: Sequence[float]
) -> PowerLaw | None:
    """Fit a power law to the longest stretch of neighbouring edges that one law can meet.

    A law meets an edge where it passes between ``low`` and ``high``. Of stretches of the same
    length the one whose law has the smallest error is taken. Where none takes in half of the edges,
    they scatter by more than their cells: then the law is that of all.

    Args:
        x: Positive, ascending, shape ``(n,)``.
        y: Positive.
        low: Lower bounds of y.
        high: Upper bounds of y.

    Returns:
        The law, with the stretch as its ``start`` and ``end``; ``None`` of fewer than three edges.
    """
    count = len(x)
    for size in range(count, max(3, -(-count // 2)) - 1, -1):
        found = []
        for first in range(count - size + 1):
            part = slice(first, first + size)
            law = fit_power_law(x[part], y[part], low[part], high[part])
            if law is not None and _meets(law, x[part], low[part], high[part]):
                found.append(law)
        if found:
            return min(found, key=lambda law: law.error)
    return fit_power_law(x, y, low, high)


def _meets(law: PowerLaw, x: Sequence[float], low: Sequence[float], high: Sequence[float]) -> bool:
    values, slack = law(x), 1 + 1e-9
    return bool(
        (values >= np.divide(low, slack)).all() and (values <= np.multiply(high, slack)).all()
    )
