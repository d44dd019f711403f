"""ResNet-18, as in Chizat, Oyallon & Bach 2019."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_lazy.checks import check_size
from lightning_lazy.models.activations import Activation, make_activation
from lightning_lazy.models.convnet import ConvNet, Style, undrawn, widened
from lightning_lazy.models.init import Init, initialize_


class ResNet(ConvNet):
    """ResNet-18 for small images: a 3×3 convolution, eight blocks, average pooling, a linear layer.

    The net of Chizat, Oyallon & Bach 2019, §3.2: two blocks each of 64, 128, 256 and 512 channels,
    the first of the last three pairs with stride 2; no BatchNorm, biases, Xavier-normal weights;
    11,169,162 parameters. The final map, 4×4 on 32×32 images, is averaged.

    Input of shape `[batch, in_channels, height, width]`, raw output of shape `[batch, outputs]`.

    Args:
        in_channels: channels of the images.
        image_size: side of the images in pixels, or height and width.
        outputs: number of outputs.
        width: factor on all channels, which are rounded, to at least 1.
        batch_norm: whether BatchNorm follows the convolutions, which then have no biases.
        running_averages: whether BatchNorm in evaluation normalises by averages over the training;
            else by the statistics of the batch.
        activation: `relu`, `softplus` or `linear`, inside and at the end of each block.
        beta: β of the softplus.
        init: distribution of the initial weights, see `initialize_`.
        gain: factor on their standard deviation.
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
        style = Style(activation, beta, batch_norm, running_averages)
        channels = widened(64, width)
        layers: list[nn.Module] = [style.convolution(in_channels, channels), *style.act(channels)]
        for stage, target in enumerate(widened(64 * 2**k, width) for k in range(4)):
            for block in range(2):
                stride = 2 if stage and not block else 1
                layers.append(BasicBlock(channels, target, stride, style))
                channels = target
        linear = undrawn(nn.Linear, channels, check_size("outputs", outputs))
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
        initialize_(self, init, gain, generator)


class BasicBlock(nn.Module):
    """The residual block φ(C₂ φ(C₁ x) + S x): 3×3 convolutions C, each with its BatchNorm if any.

    S is a 1×1 convolution where the shape changes, else the identity.

    Args:
        inputs: channels of x.
        outputs: channels of the result.
        stride: of C₁ and S.
        style: how layers are made; φ is its activation.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, style: Style) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            style.convolution(inputs, outputs, stride=stride),
            *style.act(outputs),
            style.convolution(outputs, outputs),
            *style.norm(outputs),
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            shortcut = style.convolution(inputs, outputs, kernel=1, stride=stride)
            self.shortcut = nn.Sequential(shortcut, *style.norm(outputs))
        self.activation = make_activation(style.activation, style.beta)

    def forward(self, input: Tensor) -> Tensor:
        """Map `[batch, inputs, h, w]` to `[batch, outputs, ⌈h/stride⌉, ⌈w/stride⌉]`."""
        output: Tensor = self.activation(self.residual(input) + self.shortcut(input))
        return output
