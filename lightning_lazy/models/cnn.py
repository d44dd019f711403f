"""The convolutional net of Lewkowycz & Gur-Ari 2020."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from lightning_lazy.checks import check_size
from lightning_lazy.errors import InputError
from lightning_lazy.models.activations import Activation
from lightning_lazy.models.convnet import ConvNet, Style, undrawn
from lightning_lazy.models.init import Init, initialize_

# Two valid 3×3 convolutions and two 6×6 poolings of stride 1.
_SHRINKS_BY = 2 * 2 + 2 * 5


class LewkowyczCNN(ConvNet):
    """Four 3×3 convolutions, two of them valid, two 6×6 max poolings and two linear layers.

    Conv (same) → Act → Conv (valid) → Act → Pool → Conv (same) → Act → Conv (valid) → Pool →
    Dense(hidden) → Dense(outputs), Act = (BatchNorm →) activation, of Lewkowycz & Gur-Ari 2020,
    SM A. No activation follows the fourth convolution, nor Dense(hidden). The poolings have stride
    1, the default of the authors' library: 32×32 images shrink to 30, 25, 25, 23 and 18.

    Input of shape `[batch, in_channels, height, width]`, raw output of shape `[batch, outputs]`.

    Args:
        in_channels: channels of the images.
        image_size: side of the images in pixels, or height and width; 15 at least.
        outputs: number of outputs.
        channels: channels of each convolution.
        hidden: units of the first linear layer.
        batch_norm: whether BatchNorm precedes the activations and convolutions have no biases.
        running_averages: whether BatchNorm in evaluation normalises by averages over the training;
            else by the statistics of the batch, as in the paper.
        activation: `relu`, `softplus` or `linear`.
        beta: β of the softplus.
        init: distribution of the initial weights, see `initialize_`.
        gain: factor on their standard deviation, σ_w for `lecun_normal`.
        generator: source of the initial weights; the global one of torch where None.

    Raises:
        InputError: a size, a number or an option out of range; in `forward`, an input of another
            shape.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: int | Sequence[int],
        outputs: int,
        *,
        channels: int = 300,
        hidden: int = 500,
        batch_norm: bool = False,
        running_averages: bool = False,
        activation: Activation = "relu",
        beta: float = 5.0,
        init: Init = "lecun_normal",
        gain: float = math.sqrt(2),
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(in_channels, image_size)
        height, width = (side - _SHRINKS_BY for side in self.image_shape[1:])
        if min(height, width) < 1:
            raise InputError(
                f"image_size must be at least {_SHRINKS_BY + 1}, got {image_size!r}; pass larger "
                "images"
            )
        check_size("channels", channels)
        check_size("hidden", hidden)
        style = Style(activation, beta, batch_norm, running_averages)
        self.layers = nn.Sequential(
            style.convolution(in_channels, channels),
            *style.act(channels),
            style.convolution(channels, channels, valid=True),
            *style.act(channels),
            nn.MaxPool2d(6, stride=1),
            style.convolution(channels, channels),
            *style.act(channels),
            undrawn(nn.Conv2d, channels, channels, 3),
            nn.MaxPool2d(6, stride=1),
            nn.Flatten(),
            undrawn(nn.Linear, channels * height * width, hidden),
            undrawn(nn.Linear, hidden, check_size("outputs", outputs)),
        )
        initialize_(self, init, gain, generator)
