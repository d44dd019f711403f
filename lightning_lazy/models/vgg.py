"""VGG nets, as in Chizat, Oyallon & Bach 2019."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import nn

from lightning_lazy.checks import check_choice, check_size
from lightning_lazy.errors import InputError
from lightning_lazy.models.activations import Activation
from lightning_lazy.models.convnet import ConvNet, Style, undrawn, widened
from lightning_lazy.models.init import Init, initialize_

Plan = Literal["vgg11", "vgg13", "vgg16", "vgg19"]

_PLANS = {
    "vgg11": "64 M 128 M 256 256 M 512 512 M 512 512 M",
    "vgg13": "64 64 M 128 128 M 256 256 M 512 512 M 512 512 M",
    "vgg16": "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
    "vgg19": "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M",
}


class VGG(ConvNet):
    """3×3 convolutions and 2×2 max poolings in a chain, and one linear layer.

    The nets of Chizat, Oyallon & Bach 2019, §3.2: no BatchNorm, biases, Xavier-normal weights; on
    32×32 images five poolings leave the linear layer 512 inputs. VGG-11 has 9,225,610 parameters.

    Input of shape `[batch, in_channels, height, width]`, raw output of shape `[batch, outputs]`.

    Args:
        in_channels: channels of the images.
        image_size: side of the images in pixels, or height and width.
        outputs: number of outputs.
        plan: `vgg11`, `vgg13`, `vgg16`, `vgg19`, or a list of channels of convolutions and "M" for
            a max pooling, such as `[8, "M", 16, 16, "M"]`.
        width: factor on all channels, which are rounded, to at least 1.
        batch_norm: whether BatchNorm follows the convolutions, which then have no biases.
        running_averages: whether BatchNorm in evaluation normalises by averages over the training;
            else by the statistics of the batch.
        activation: `relu`, `softplus` or `linear`, behind each convolution.
        beta: β of the softplus.
        init: distribution of the initial weights, see `initialize_`.
        gain: factor on their standard deviation.
        generator: source of the initial weights; the global one of torch where None.

    Raises:
        InputError: a size, a number or an option out of range, or more poolings than the image
            allows; in `forward`, an input of another shape.

    Examples:
        >>> net = VGG(3, 16, 10, plan=[8, "M", 16, 16, "M", 32, 32, "M", 32, 32])
        >>> sum(p.numel() for p in net.parameters())
        37386
    """

    def __init__(
        self,
        in_channels: int,
        image_size: int | Sequence[int],
        outputs: int,
        *,
        plan: Plan | Sequence[int | str] = "vgg11",
        width: float = 1.0,
        batch_norm: bool = False,
        running_averages: bool = True,
        activation: Activation = "relu",
        beta: float = 5.0,
        init: Init = "xavier_normal",
        gain: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(in_channels, image_size)
        if isinstance(plan, str):
            check_choice("plan", plan, get_args(Plan))
            plan = [int(entry) if entry.isdigit() else entry for entry in _PLANS[plan].split()]
        channels, *sides = self.image_shape
        poolings, most = list(plan).count("M"), min(sides).bit_length() - 1
        if poolings > most:
            raise InputError(
                f"plan must have {most} poolings at most, for images of {sides[0]}x{sides[1]}, got "
                f"{poolings}; pass a larger image_size or another plan"
            )
        style = Style(activation, beta, batch_norm, running_averages)
        layers: list[nn.Module] = []
        for entry in plan:
            if entry == "M":
                layers.append(nn.MaxPool2d(2))
                continue
            if isinstance(entry, str):
                raise InputError(f'plan must hold channels and "M", got {entry!r}; change plan')
            inputs, channels = channels, widened(check_size("plan", entry), width)
            layers += [style.convolution(inputs, channels), *style.act(channels)]
        features = channels * math.prod(side >> poolings for side in sides)
        linear = undrawn(nn.Linear, features, check_size("outputs", outputs))
        self.layers = nn.Sequential(*layers, nn.Flatten(), linear)
        initialize_(self, init, gain, generator)
