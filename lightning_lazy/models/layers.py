"""The linear layer with a constant in front that all fully connected models are made of."""

from __future__ import annotations

import math
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_lazy.checks import check_choice, check_number, check_size
from lightning_lazy.errors import InputError
from lightning_lazy.models.init import Parametrization


class ScaledLinear(nn.Module):
    """A linear layer with constants in front: y = factor · W x + bias_factor · b.

    The parameters are drawn as W ~ N(0, std²) and b ~ N(0, bias_std²). With `std=1` and
    `factor=σ_w/√N_in` it is the NTK parametrisation, with `std=σ_w/√N_in` and `factor=1` the
    standard one. The factor is applied to the smaller one of x and W, so that it costs little.

    Input of shape `[..., in_features]`, output of shape `[..., out_features]`.

    Args:
        in_features: N_in.
        out_features: number of output units.
        factor: constant in front of W x, above 0.
        std: standard deviation of the initial entries of W, above 0.
        bias: whether there is a bias.
        bias_factor: constant in front of b, above 0.
        bias_std: standard deviation of the initial entries of b; at 0 they are zeros.
        generator: source of the draws; the global one of torch where None.

    Raises:
        InputError: a size below 1, or a number out of range.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        factor: float = 1.0,
        std: float = 1.0,
        bias: bool = False,
        bias_factor: float = 1.0,
        bias_std: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.in_features = check_size("in_features", in_features)
        self.out_features = check_size("out_features", out_features)
        self.factor = check_number("factor", factor)
        self.std = check_number("std", std)
        self.bias_factor = check_number("bias_factor", bias_factor)
        self.bias_std = check_number("bias_std", bias_std, zero=True)
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias: nn.Parameter | None = None
        if bias:
            self.bias = nn.Parameter(torch.empty(out_features))
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the parameters anew."""
        self.weight.normal_(0.0, self.std, generator=generator)
        if self.bias is None:
            return
        if self.bias_std == 0:
            self.bias.zero_()
        else:
            self.bias.normal_(0.0, self.bias_std, generator=generator)

    def forward(self, input: Tensor) -> Tensor:
        """Map `[..., in_features]` to `[..., out_features]`."""
        bias: Tensor | None = self.bias
        if bias is not None and self.bias_factor != 1.0:
            bias = bias * self.bias_factor
        if self.factor == 1.0:
            return F.linear(input, self.weight, bias)
        if input.numel() < self.weight.numel():
            return F.linear(input * self.factor, self.weight, bias)
        return F.linear(input, self.weight * self.factor, bias)

    def extra_repr(self) -> str:
        """Sizes and factors, for printing."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"factor={self.factor:.6g}, std={self.std:.6g}, bias={self.bias is not None}"
        )


def chain(
    in_features: int,
    width: int,
    depth: int,
    outputs: int,
    *,
    parametrization: Parametrization,
    sigma_w: float,
    sigma_b: float,
    bias: bool | None,
    generator: torch.Generator | None,
) -> list[ScaledLinear]:
    """Build the `depth + 1` linear layers of a fully connected net, input side first.

    With N_in the inputs of a layer, the layers compute

    - `standard`: W x + b, W ~ N(0, σ_w²/N_in), b ~ N(0, σ_b²) (LeCun);
    - `ntk`: σ_w/√N_in · W x + σ_b · b, W and b ~ N(0, 1);
    - `width`: W x + b in the first layer, W x/√N_in + b behind it, W ~ N(0, σ_w²), b ~ N(0, σ_b²);
    - `none`: W x + b, W ~ N(0, σ_w²), b ~ N(0, σ_b²).

    Raises:
        InputError: a size, a number or an option out of range, or a bias that could never act.
    """
    check_choice("parametrization", parametrization, get_args(Parametrization))
    sizes = [check_size("in_features", in_features)]
    sizes += [check_size("width", width)] * check_size("depth", depth, minimum=0)
    sizes += [check_size("outputs", outputs)]
    check_number("sigma_w", sigma_w)
    check_number("sigma_b", sigma_b, zero=True)
    ntk = parametrization == "ntk"
    if bias is None:
        bias = sigma_b > 0 or not ntk
    if bias and ntk and sigma_b == 0:
        raise InputError(
            "bias=True in the ntk parametrization must have sigma_b above 0, got 0, a bias that "
            "never acts; pass sigma_b or bias=False"
        )
    layers = []
    for index, (fan_in, fan_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        shrink = 1 / math.sqrt(fan_in)
        factor, std = {
            "standard": (1.0, sigma_w * shrink),
            "ntk": (sigma_w * shrink, 1.0),
            "width": (shrink if index else 1.0, sigma_w),
            "none": (1.0, sigma_w),
        }[parametrization]
        layer = ScaledLinear(
            fan_in,
            fan_out,
            factor=factor,
            std=std,
            bias=bias,
            bias_factor=sigma_b if ntk and bias else 1.0,
            bias_std=1.0 if ntk else sigma_b,
            generator=generator,
        )
        layers.append(layer)
    return layers
