"""Activations as modules: never in place, one instance a place."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_lazy.checks import check_choice, check_number, check_size
from lightning_lazy.errors import InputError

Activation = Literal["softplus", "relu", "linear"]

# ln(1 + e^x) equals x to the last bit of float64 from x = 37 on. torch's default of 20 switches to
# the identity too early and costs 4e-10 at β = 5; from 50 on nothing is lost and nothing overflows.
SOFTPLUS_THRESHOLD = 50.0


def softplus_scale(beta: float, monte_carlo: int | None = None, seed: int = 0) -> float:
    """Constant a with E[σ(z)²] = 1 for σ(z) = (a/β) ln(1 + e^{βz}) and z ~ N(0, 1).

    With it the next layer's pre-activation h^{-1/2} W σ(z) has variance 1 (Kanoh & Sugiyama 2021,
    §3). By default by quadrature, exact to rounding. The paper's own way is a Monte-Carlo estimate,
    which is off by about 1/√n.

    Args:
        beta: β, above 0.
        monte_carlo: number of draws n of the estimate; None for quadrature.
        seed: seed of the generator that the draws come from; the global one is left alone.

    Returns:
        a, between 0 and √2 (the value for a ReLU, β → ∞).

    Raises:
        InputError: `beta` not above 0, or `monte_carlo` below 1.

    Examples:
        >>> round(softplus_scale(5.0), 6)
        1.404383
        >>> abs(softplus_scale(1e9) - 2**0.5) < 1e-8
        True
    """
    check_number("beta", beta)
    if monte_carlo is None:
        z, weight = _gauss_panels(beta)
    else:
        check_size("monte_carlo", monte_carlo)
        generator = torch.Generator().manual_seed(seed)
        z = torch.randn(monte_carlo, dtype=torch.float64, generator=generator)
        weight = torch.full_like(z, 1 / monte_carlo)
    square = F.softplus(z, beta, SOFTPLUS_THRESHOLD).square()
    return 1 / math.sqrt(float((weight * square).sum()))


def _gauss_panels(beta: float, reach: float = 14.0, nodes: int = 32) -> tuple[Tensor, Tensor]:
    """Nodes and weights, times the normal density, of a composite Gauss-Legendre rule.

    The softplus bends within 1/β of 0, so the panels double in length from 1/β outwards, up to 1;
    what lies beyond |z| = 14 is below 1e-40.
    """
    import numpy as np

    edges = [0.0]
    while edges[-1] < reach:
        edges.append(min(max(2 * edges[-1], 1 / beta), edges[-1] + 1.0, reach))
    breaks = np.array([-edge for edge in reversed(edges[1:])] + edges)
    point, share = np.polynomial.legendre.leggauss(nodes)
    half = np.diff(breaks)[:, None] / 2
    z = ((breaks[:-1] + breaks[1:])[:, None] / 2 + half * point).ravel()
    weight = (half * share).ravel() * np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    return torch.from_numpy(z), torch.from_numpy(weight)


class ScaledSoftplus(nn.Module):
    """The activation σ(z) = (a/β) ln(1 + e^{βz}) of Kanoh & Sugiyama 2021, §3.

    Any shape in, the same shape out. a is a constant fixed by the arguments, not part of the
    `state_dict`.

    Args:
        beta: β, above 0: 5 in the paper; the larger, the closer to a ReLU.
        scale: a, above 0; None for the a that `softplus_scale` finds.
        monte_carlo: number of draws for the paper's estimate of a; None for quadrature.
        seed: seed of these draws.

    Attributes:
        beta: β, a float.
        scale: a, a float.
        is_activation: True, which measures of laziness look for.

    Raises:
        InputError: a number out of range, or both `scale` and `monte_carlo` given.
    """

    is_activation = True

    def __init__(
        self,
        beta: float = 5.0,
        scale: float | None = None,
        monte_carlo: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if scale is not None and monte_carlo is not None:
            raise InputError(
                f"scale or monte_carlo must be None, got {scale!r} and {monte_carlo!r}; drop one"
            )
        self.beta = check_number("beta", beta)
        if scale is None:
            scale = softplus_scale(self.beta, monte_carlo, seed)
        self.scale = check_number("scale", scale)

    def forward(self, input: Tensor) -> Tensor:
        """Apply σ to every entry."""
        value = F.softplus(input, self.beta, SOFTPLUS_THRESHOLD)
        return value if self.scale == 1.0 else value * self.scale

    def extra_repr(self) -> str:
        """β and a, for printing."""
        return f"beta={self.beta:.6g}, scale={self.scale:.6g}"


def make_activation(
    name: Activation,
    beta: float = 5.0,
    scale: float | None = None,
    monte_carlo: int | None = None,
    seed: int = 0,
) -> nn.Module:
    """Build an activation module, a new one at each call.

    Args:
        name: `softplus` for `ScaledSoftplus`, `relu` for `nn.ReLU`, `linear` for `nn.Identity`.
        beta: β of the softplus.
        scale: a of the softplus.
        monte_carlo: draws for its estimate.
        seed: seed of these draws.

    Returns:
        A module that leaves its input as it is (not in place).

    Raises:
        InputError: an unknown name, or a number out of range.
    """
    check_choice("activation", name, get_args(Activation))
    if name == "softplus":
        return ScaledSoftplus(beta, scale, monte_carlo, seed)
    return nn.ReLU() if name == "relu" else nn.Identity()
