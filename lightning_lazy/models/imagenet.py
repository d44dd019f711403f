"""ResNet-50 for images of ImageNet's size."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_lazy.checks import check_size
from lightning_lazy.models.activations import Activation, make_activation
from lightning_lazy.models.convnet import ConvNet, Style, undrawn, widened
from lightning_lazy.models.init import Init, initialize_

_BLOCKS = (3, 4, 6, 3)
_EXPANSION = 4


class ResNet50(ConvNet):
    """ResNet-50: a 7×7 convolution, a max pooling, sixteen bottleneck blocks, a linear layer.

    The net of He, Zhang, Ren & Sun 2016 with the strides in the 3×3 convolutions, as in torchvision
    (whose `resnet50` computes the same from the same weights, in the same order of parameters) and
    in the code that Lewkowycz & Gur-Ari 2020 used for figure S8: 25,557,032 parameters with 1000
    outputs. The initial weights are theirs: LeCun's, of variance 1/N_in.

    Input of shape `[batch, in_channels, height, width]`, raw output of shape `[batch, outputs]`.

    Args:
        in_channels: channels of the images.
        image_size: side of the images in pixels, or height and width.
        outputs: number of outputs.
        width: factor on all channels, which are rounded, to at least 1.
        running_averages: whether BatchNorm in evaluation normalises by averages over the training;
            else by the statistics of the batch.
        zero_residual: whether the last BatchNorm of each block starts with factors of 0, so that
            the block is the identity at first.
        activation: `relu`, `softplus` or `linear`.
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
        running_averages: bool = True,
        zero_residual: bool = False,
        activation: Activation = "relu",
        beta: float = 5.0,
        init: Init = "lecun_normal",
        gain: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(in_channels, image_size)
        style = Style(activation, beta, batch_norm=True, running_averages=running_averages)
        channels = widened(64, width)
        layers: list[nn.Module] = [
            style.convolution(in_channels, channels, kernel=7, stride=2),
            *style.act(channels),
            nn.MaxPool2d(3, stride=2, padding=1),
        ]
        for stage, blocks in enumerate(_BLOCKS):
            inner = widened(64 * 2**stage, width)
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                layers.append(Bottleneck(channels, inner, stride, zero_residual, style))
                channels = _EXPANSION * inner
        linear = undrawn(nn.Linear, channels, check_size("outputs", outputs))
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
        initialize_(self, init, gain, generator)


class Bottleneck(nn.Module):
    """The residual block φ(C₃ φ(C₂ φ(C₁ x)) + S x): convolutions C of 1×1, 3×3 and 1×1, with norms.

    S is a 1×1 convolution with its norm where the shape changes, else the identity.

    Args:
        inputs: channels of x.
        inner: channels between the convolutions, a fourth of those of the result.
        stride: of C₂ and S.
        zero_residual: whether the norm of C₃ starts with factors of 0.
        style: how layers are made; φ is its activation, behind the norms of C₁ and C₂.
    """

    def __init__(
        self, inputs: int, inner: int, stride: int, zero_residual: bool, style: Style
    ) -> None:
        super().__init__()
        outputs = _EXPANSION * inner
        norms = style.norm(outputs)
        if zero_residual:
            for norm in norms:
                nn.init.zeros_(norm.weight)  # type: ignore[arg-type]
        self.residual = nn.Sequential(
            style.convolution(inputs, inner, kernel=1),
            *style.act(inner),
            style.convolution(inner, inner, stride=stride),
            *style.act(inner),
            style.convolution(inner, outputs, kernel=1),
            *norms,
        )
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            shortcut = style.convolution(inputs, outputs, kernel=1, stride=stride)
            self.shortcut = nn.Sequential(shortcut, *style.norm(outputs))
        self.activation = make_activation(style.activation, style.beta)

    def forward(self, input: Tensor) -> Tensor:
        """Map `[batch, inputs, h, w]` to `[batch, 4·inner, ⌈h/stride⌉, ⌈w/stride⌉]`."""
        output: Tensor = self.activation(self.residual(input) + self.shortcut(input))
        return output
