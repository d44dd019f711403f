"""Fully connected nets of any depth."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_lazy.models.activations import Activation, make_activation
from lightning_lazy.models.init import Parametrization
from lightning_lazy.models.layers import chain


class FullyConnected(nn.Module):
    """A fully connected net with `depth` hidden layers of `width` units.

    The linear maps are (N_in: inputs of a layer)

    - `standard`: W x + b with W ~ N(0, σ_w²/N_in), b ~ N(0, σ_b²), the LeCun initialisation of
      Lewkowycz & Gur-Ari 2020, SM A (three hidden layers, width 2048, ReLU, σ_w=√2, σ_b=0);
    - `ntk`: σ_w/√N_in · W x + σ_b · b with W and b ~ N(0, 1): the same distribution of functions,
      another gradient flow;
    - `width`, `none`: see `DeepLinear`.

    Input of shape `[batch, in_features]`, raw output of shape `[batch, outputs]`.

    Args:
        in_features: number of inputs.
        width: units of each hidden layer.
        depth: number of hidden layers; 0 is a linear predictor.
        outputs: number of outputs.
        activation: `relu`, `softplus` (with its constant a, so that E[σ(z)²] = 1) or `linear`.
        beta: β of the softplus.
        parametrization: where the scale of the weights stands.
        sigma_w: σ_w, above 0.
        sigma_b: σ_b, at least 0.
        bias: whether there are biases; None for those that can act: with `ntk` and σ_b = 0 none,
            else all.
        generator: source of the initial weights; the global one of torch where None.

    Raises:
        InputError: a size, a number or an option out of range, or `bias=True` with `ntk` and σ_b=0.
    """

    def __init__(
        self,
        in_features: int,
        width: int,
        depth: int,
        outputs: int,
        *,
        activation: Activation = "relu",
        beta: float = 5.0,
        parametrization: Parametrization = "standard",
        sigma_w: float = 1.0,
        sigma_b: float = 0.0,
        bias: bool | None = None,
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
        layers: list[nn.Module] = []
        for layer in linear[:-1]:
            layers += [layer, make_activation(activation, beta)]
        self.layers = nn.Sequential(*layers, linear[-1])

    def forward(self, input: Tensor) -> Tensor:
        """Map `[batch, in_features]` to `[batch, outputs]`."""
        output: Tensor = self.layers(input)
        return output
