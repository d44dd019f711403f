"""The two-layer net of Li, Wei & Ma 2019, whose units see one half of the inputs each."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lightning_lazy.checks import check_size
from lightning_lazy.errors import InputError
from lightning_lazy.models.layers import ScaledLinear


class FrozenSecondLayer(nn.Module):
    """A two-layer ReLU net u·relu(U x) without bias that learns its first layer only.

    The entries of U are N(0, τ²), those of u are ±1/√m at random and are not trained.

    Input of shape `[batch, in_features]`, output of shape `[batch, 1]`.

    Args:
        in_features: number of inputs.
        width: m.
        tau: τ, above 0.
        generator: source of the draws; the global one of torch where None.

    Attributes:
        hidden: U, a layer with `weight` of shape `[width, in_features]`.
        activation: the activation module.
        output: u, a layer with `weight` of shape `[1, width]` that needs no gradient.

    Raises:
        InputError: a size or a number out of range.
    """

    def __init__(
        self,
        in_features: int,
        width: int,
        *,
        tau: float = 0.01,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.hidden = ScaledLinear(in_features, width, std=tau, generator=generator)
        self.activation = nn.ReLU()
        self.output = ScaledLinear(width, 1, generator=generator).requires_grad_(False)
        bits = torch.randint(2, (1, width), generator=generator)
        self.output.weight.copy_((2 * bits - 1) / math.sqrt(width))

    def forward(self, input: Tensor) -> Tensor:
        """Map `[batch, in_features]` to `[batch, 1]`."""
        output: Tensor = self.output(self.activation(self.hidden(input)))
        return output


class TwoPartNet(nn.Module):
    """f(x) = r(x₁) + g(x₂) with r = w·relu(W x₁) and g = v·relu(V x₂) (Li, Wei & Ma 2019, §2).

    The first layer U is split into W, which sees the first inputs, and V, which sees the last
    `v_features` (equations 3.5 and 3.6). w and v are ±1/√m in each part, a scale that the paper
    does not print, and frozen.

    Input of shape `[batch, in_features]`, output of shape `[batch, 1]`.

    Args:
        in_features: number of inputs of both parts together.
        width: units of W.
        v_features: number of inputs that V sees; None for half of them.
        v_width: units of V; None for as many as W has.
        tau: τ₀, standard deviation of the initial entries of W and V, above 0.
        generator: source of the draws; the global one of torch where None.

    Attributes:
        w: r, a `FrozenSecondLayer`.
        v: g, a `FrozenSecondLayer`.
        split: number of inputs that W sees.

    Raises:
        InputError: a size or a number out of range, or nothing is left for W.
    """

    def __init__(
        self,
        in_features: int,
        width: int,
        *,
        v_features: int | None = None,
        v_width: int | None = None,
        tau: float = 0.01,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_size("in_features", in_features, minimum=2)
        if v_features is None:
            v_features = in_features // 2
        if check_size("v_features", v_features) >= in_features:
            raise InputError(
                f"v_features must be below in_features={in_features}, got {v_features}: lower it, "
                "so that W sees some inputs"
            )
        self.split = in_features - v_features
        self.w = FrozenSecondLayer(self.split, width, tau=tau, generator=generator)
        self.v = FrozenSecondLayer(
            v_features,
            width if v_width is None else v_width,
            tau=tau,
            generator=generator,
        )

    def split_input(self, input: Tensor) -> tuple[Tensor, Tensor]:
        """Return x₁ and x₂, what W and what V sees of inputs `[batch, in_features]`."""
        return input[:, : self.split], input[:, self.split :]

    def parts(self, input: Tensor) -> tuple[Tensor, Tensor]:
        """Return r and g, `[batch, 1]` each, for inputs `[batch, in_features]`."""
        x1, x2 = self.split_input(input)
        return self.w(x1), self.v(x2)

    def forward(self, input: Tensor) -> Tensor:
        """Map `[batch, in_features]` to `[batch, 1]`."""
        r, g = self.parts(input)
        return r + g
