"""Two-layer nets without bias, as in Kanoh & Sugiyama 2021 and Chizat, Oyallon & Bach 2019."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_lazy.checks import check_choice, check_number, check_size
from lightning_lazy.errors import InputError
from lightning_lazy.models.activations import Activation, ScaledSoftplus, make_activation
from lightning_lazy.models.layers import ScaledLinear

TwoLayerParametrization = Literal["ntk", "none"]
TwoLayerInit = Literal["gaussian", "unit"]


class PairedLinear(ScaledLinear):
    """A `ScaledLinear` without bias that computes the two halves of its units alike.

    Each half is a product of its own, of matrices of the same shape, strides and alignment, so that
    halves with equal weights give equal numbers to the last bit, and halves with opposite weights
    cancel exactly. One product over all units guarantees neither: its kernel treats the units at
    the edge of a block differently.

    Args:
        axis: 0 where the output units are paired (the results stand side by side), 1 where the
            input units are (the results are added).
        in_features: number of input units, even for axis 1.
        out_features: number of output units, even for axis 0.
        factor: constant in front of W x, above 0.
        std: standard deviation of the initial entries of W, above 0.
        generator: source of the draws; the global one of torch where None.
    """

    def __init__(
        self,
        axis: Literal[0, 1],
        in_features: int,
        out_features: int,
        *,
        factor: float = 1.0,
        std: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        self.axis = axis
        super().__init__(in_features, out_features, factor=factor, std=std, generator=generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the first half of W; the second repeats it (axis 0) or its opposite (axis 1)."""
        first, second = self.weight.chunk(2, dim=self.axis)
        first.normal_(0.0, self.std, generator=generator)
        second.copy_(first if self.axis == 0 else -first)

    def forward(self, input: Tensor) -> Tensor:
        """Map `[..., in_features]` to `[..., out_features]`."""
        # The multiplication makes a fresh, aligned matrix of each half.
        first, second = (half * self.factor for half in self.weight.chunk(2, dim=self.axis))
        if self.axis == 0:
            return torch.cat([F.linear(input, first), F.linear(input, second)], dim=-1)
        # Of a single row, `contiguous` would keep the second half where it is, aligned or not.
        left, right = (half.clone() for half in input.chunk(2, dim=-1))
        return F.linear(left, first) + F.linear(right, second)


class TwoLayerNet(nn.Module):
    """The two-layer net f(x) = h^{-1/2} W¹ σ(d^{-1/2} W⁰ x), d inputs, h units, no bias.

    Equations (11) to (13) of Kanoh & Sugiyama 2021; with `parametrization="none"` the two factors
    are left out: f(x) = Σ_j a_j σ(b_j·x) (Chizat, Oyallon & Bach 2019, §3.1). Entries of W⁰ and W¹
    are N(0, τ²); with `init="unit"` rows of W⁰ are uniform on the sphere of radius τ and entries of
    W¹ are U(0, τ) (figure 1(a, b) of the latter). `activation` sees d^{-1/2} W⁰ x,
    `[batch, width]`; the softplus's constant a is applied behind it, together with h^{-1/2} and so
    at no cost: its module holds `scale=1` and `output.factor` is a h^{-1/2}.

    With `symmetric` the second half of the units repeats the input weights of the first half and
    has the opposite output weights, so f = 0 at initialisation for any x. With `relu` and `linear`
    it is 0 to the last bit, since the two halves are products of their own that cancel. With
    `softplus` it may be off by rounding (about 1e-15 in float64): the CPU computes the last entries
    of a batch by scalar instead of vector code, which may round differently.

    Input of shape `[batch, in_features]`, raw output of shape `[batch, outputs]`.

    Args:
        in_features: d.
        width: h, even if `symmetric`.
        outputs: number of outputs.
        activation: `softplus`, `relu` or `linear`.
        beta: β of the softplus.
        parametrization: `ntk` with the two factors, `none` without.
        symmetric: build the units in pairs that cancel at initialisation.
        tau: τ, scale of the initial weights of both layers, above 0.
        init: distribution of the initial weights, `gaussian` or `unit`.
        monte_carlo: draws for the paper's estimate of a; None for quadrature.
        seed: seed of these draws (not of the weights).
        generator: source of the initial weights; the global one of torch where None.

    Attributes:
        hidden: W⁰, a layer with `weight` of shape `[width, in_features]`.
        activation: the activation module.
        output: W¹, a layer with `weight` of shape `[outputs, width]`.
        symmetric: whether the net is built in pairs that cancel at initialisation.

    Raises:
        InputError: a size, a number or an option out of range, or `symmetric` with an odd width.
    """

    def __init__(
        self,
        in_features: int,
        width: int,
        outputs: int,
        *,
        activation: Activation = "softplus",
        beta: float = 5.0,
        parametrization: TwoLayerParametrization = "ntk",
        symmetric: bool = False,
        tau: float = 1.0,
        init: TwoLayerInit = "gaussian",
        monte_carlo: int | None = None,
        seed: int = 0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_choice("parametrization", parametrization, get_args(TwoLayerParametrization))
        check_size("in_features", in_features)
        check_size("width", width)
        check_size("outputs", outputs)
        check_number("tau", tau)
        check_choice("init", init, get_args(TwoLayerInit))
        if symmetric and width % 2:
            raise InputError(
                f"width must be even if symmetric=True, got {width}; pass {width + 1} or "
                "symmetric=False"
            )
        ntk = parametrization == "ntk"
        inner = 1 / math.sqrt(in_features) if ntk else 1.0
        outer = 1 / math.sqrt(width) if ntk else 1.0
        module = make_activation(activation, beta, monte_carlo=monte_carlo, seed=seed)
        if isinstance(module, ScaledSoftplus):
            outer *= module.scale
            module = ScaledSoftplus(beta, scale=1.0)
        hidden: ScaledLinear
        output: ScaledLinear
        if symmetric:
            hidden = PairedLinear(0, in_features, width, factor=inner, std=tau, generator=generator)
            output = PairedLinear(1, width, outputs, factor=outer, std=tau, generator=generator)
        else:
            hidden = ScaledLinear(in_features, width, factor=inner, std=tau, generator=generator)
            output = ScaledLinear(width, outputs, factor=outer, std=tau, generator=generator)
        self.hidden = hidden
        self.activation = module
        self.output = output
        self.symmetric = symmetric
        if init == "unit":
            self._draw_unit(tau, generator)

    @torch.no_grad()
    def _draw_unit(self, tau: float, generator: torch.Generator | None) -> None:
        """Put the Gaussian rows of W⁰ on a sphere and draw W¹ anew; the second half follows."""
        units = self.hidden.weight.shape[0] // (2 if self.symmetric else 1)
        rows, entries = self.hidden.weight[:units], self.output.weight[:, :units]
        rows.mul_(tau / rows.norm(dim=1, keepdim=True))
        entries.uniform_(0.0, tau, generator=generator)
        if self.symmetric:
            self.hidden.weight[units:] = rows
            self.output.weight[:, units:] = -entries

    def forward(self, input: Tensor) -> Tensor:
        """Map `[batch, in_features]` to `[batch, outputs]`."""
        output: Tensor = self.output(self.activation(self.hidden(input)))
        return output
