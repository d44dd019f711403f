"""Deep linear nets: products of linear maps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_lazy.models.init import Parametrization
from lightning_lazy.models.layers import chain


class DeepLinear(nn.Module):
    """A product of linear maps with `depth` hidden layers of `width` units and no activation.

    The default is the net of Huang, Du, Xu & Liu 2020: f(x) = m^{-1/2} w₂ᵀ W₁ x with m the width,
    entries N(0, s²), s = `sigma_w`, no bias. In general (N_in: inputs of a layer)

    - `width`: W x + b in the first layer, W x/√N_in + b behind it, W ~ N(0, σ_w²), b ~ N(0, σ_b²);
    - `standard`: W x + b, W ~ N(0, σ_w²/N_in), b ~ N(0, σ_b²);
    - `ntk`: σ_w/√N_in · W x + σ_b · b, W and b ~ N(0, 1);
    - `none`: W x + b, W ~ N(0, σ_w²), b ~ N(0, σ_b²).

    Input of shape `[batch, in_features]`, raw output of shape `[batch, outputs]`.

    Args:
        in_features: number of inputs.
        width: units of each hidden layer.
        depth: number of hidden layers; 0 is the linear predictor f = w·x.
        outputs: number of outputs.
        parametrization: where the scale of the weights stands.
        sigma_w: σ_w, above 0.
        sigma_b: σ_b, at least 0.
        bias: whether there are biases; with `ntk` they need σ_b above 0.
        generator: source of the initial weights; the global one of torch where None.

    Raises:
        InputError: a size, a number or an option out of range, or `bias=True` with `ntk` and σ_b=0.

    Examples:
        >>> net = DeepLinear(in_features=1, width=4, depth=1, outputs=1)
        >>> w1, w2 = net.layers[0].weight, net.layers[1].weight
        >>> bool(torch.isclose(net(torch.ones(1, 1)), w2 @ w1 / 2).all())
        True
    """

    def __init__(
        self,
        in_features: int,
        width: int,
        depth: int,
        outputs: int = 1,
        *,
        parametrization: Parametrization = "width",
        sigma_w: float = 1.0,
        sigma_b: float = 0.0,
        bias: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        linear = chain(
            in_features,
            width,
            depth,
            outputs,
            parametrization=parametrization,
            sigma_w=sigma_w,
            sigma_b=sigma_b,
            bias=bias,
            generator=generator,
        )
        self.layers = nn.Sequential(*linear)

    def forward(self, input: Tensor) -> Tensor:
        """Map `[batch, in_features]` to `[batch, outputs]`."""
        output: Tensor = self.layers(input)
        return output
