"""Initial weights."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from lightning_lazy.checks import check_choice, check_number
from lightning_lazy.errors import InputError

Parametrization = Literal["standard", "ntk", "width", "none"]
Init = Literal["xavier_normal", "kaiming_normal", "lecun_normal", "fan_out"]


@torch.no_grad()
def lecun_normal_(
    weight: Tensor,
    bias: Tensor | None = None,
    sigma_w: float = 1.0,
    sigma_b: float = 0.0,
    generator: torch.Generator | None = None,
) -> None:
    """Draw W ~ N(0, σ_w²/N_in) and b ~ N(0, σ_b²) in place (Lewkowycz & Gur-Ari 2020, SM A).

    N_in is the number of inputs of one output unit: the columns of a matrix, channels times the
    area of the kernel for a convolution. With σ_b = 0 the bias is set to zero without a draw.

    Args:
        weight: shape `[out, in, *kernel]`.
        bias: shape `[out]`, or None.
        sigma_w: σ_w, above 0.
        sigma_b: σ_b, at least 0.
        generator: source of the draws; the global one of torch where None.

    Raises:
        InputError: `sigma_w` or `sigma_b` out of range, or `weight` without an input axis.
    """
    check_number("sigma_w", sigma_w)
    check_number("sigma_b", sigma_b, zero=True)
    if weight.dim() < 2:
        raise InputError(
            f"weight must be [out, in, ...], got the shape {list(weight.shape)}; reshape it"
        )
    weight.normal_(0.0, sigma_w / math.sqrt(weight[0].numel()), generator=generator)
    if bias is None:
        return
    if sigma_b == 0:
        bias.zero_()
    else:
        bias.normal_(0.0, sigma_b, generator=generator)


@torch.no_grad()
def initialize_(
    module: nn.Module,
    init: Init,
    gain: float = 1.0,
    generator: torch.Generator | None = None,
) -> None:
    """Draw the weights of every `nn.Linear` and `nn.Conv*d` within a module, in order.

    With N_in and N_out the numbers of inputs and outputs of a layer (channels times the area of the
    kernel for a convolution) the weights are normal with mean 0 and the standard deviation

    - `xavier_normal`: gain · √(2/(N_in + N_out));
    - `kaiming_normal`: gain · √(2/N_in);
    - `lecun_normal`: gain · √(1/N_in), so gain is σ_w of Lewkowycz & Gur-Ari 2020;
    - `fan_out`: gain · √(2/N_out) in convolutions, as in the code of residual nets (He, Zhang, Ren
      & Sun 2016). Linear layers are uniform in ± gain · √(1/N_in), torch's own distribution.

    Biases are zeros.

    Args:
        module: any module; layers of other kinds are left as they are.
        init: one of these.
        gain: factor on the standard deviation, above 0.
        generator: source of the draws; the global one of torch where None.

    Raises:
        InputError: an unknown `init`, or `gain` out of range.
    """
    check_choice("init", init, get_args(Init))
    check_number("gain", gain)
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            fan_in, fan_out = layer.weight[0].numel(), layer.weight[:, 0].numel()
            square = {
                "xavier_normal": 2 * fan_in / (fan_in + fan_out),
                "kaiming_normal": 2.0,
                "lecun_normal": 1.0,
                "fan_out": 2 * fan_in / fan_out,
            }[init]
            sigma_w = gain * math.sqrt(square)
            lecun_normal_(layer.weight, layer.bias, sigma_w, generator=generator)
            if init == "fan_out" and isinstance(layer, nn.Linear):
                bound = gain / math.sqrt(fan_in)
                layer.weight.uniform_(-bound, bound, generator=generator)
