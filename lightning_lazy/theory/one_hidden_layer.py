"""Gradient descent on one hidden linear layer with degenerate data, without its weights."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_lazy.checks import check_number, check_size
from lightning_lazy.theory.degenerate import MarginLossName, slope

Series = NDArray[np.float64]


class Path(NamedTuple):
    """Output and tangent kernel after 0, 1, … steps.

    Attributes:
        output: f, shape (steps + 1,).
        kernel: Θ = (‖w₁‖² + ‖w₂‖²)/m, shape (steps + 1,).
    """

    output: Series
    kernel: Series


def follow(
    loss: MarginLossName, output: float, kernel: float, *, lr: float, width: int, steps: int
) -> Path:
    r"""Return the path of gradient descent on f(x) = m^{-1/2} w₂ᵀ w₁ x with data {(1, ±1)}.

    .. math:: f \leftarrow f - \eta \Theta s + \frac{\eta^2}{m} s^2 f, \qquad
              \Theta \leftarrow \Theta - \frac{4\eta}{m} s f + \frac{\eta^2}{m} s^2 \Theta

    with s = L'(f) (Huang, Du, Xu & Liu 2020, Theorem 2). Exact at every width.

    Args:
        loss: ``exponential`` or ``logistic``, mean over both samples.
        output: f at the start.
        kernel: Θ at the start, which is the top eigenvalue of the kernel matrix divided by n = 2.
        lr: η.
        width: m.
        steps: Number of steps; once a value overflows the rest are not finite.
    """
    check_number("lr", lr)
    check_size("width", width)
    check_size("steps", steps, minimum=0)
    f, theta = np.float64(output), np.float64(kernel)
    path = [(f, theta)]
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(steps):
            s = np.float64(slope(loss, float(f)))
            square = lr**2 / width * s**2
            f, theta = (
                f - lr * theta * s + square * f,
                theta - 4 * lr / width * s * f + square * theta,
            )
            path.append((f, theta))
    outputs, kernels = np.array(path).T
    return Path(outputs, kernels)
