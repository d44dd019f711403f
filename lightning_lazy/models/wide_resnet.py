"""Wide residual nets of Zagoruyko & Komodakis 2016."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lightning_lazy.checks import check_number, check_size
from lightning_lazy.errors import InputError
from lightning_lazy.models.activations import Activation
from lightning_lazy.models.convnet import ConvNet, Style, undrawn, widened
from lightning_lazy.models.init import Init, initialize_


class WideResNet(ConvNet):
    """WRN-`depth`-`width`: pre-activation residual blocks of 16, 32 and 64 times `width` channels.

    A 3×3 convolution to 16 channels, three groups of (depth − 4)/6 blocks, the last two groups
    starting with stride 2, BatchNorm, activation, average over the map, a linear layer (Zagoruyko &
    Komodakis 2016, table 1). WRN-28-10 has 36,479,194 parameters. The initial weights are those of
    Lewkowycz & Gur-Ari 2020 (σ_w = 1).

    Input of shape `[batch, in_channels, height, width]`, raw output of shape `[batch, outputs]`.

    Args:
        in_channels: channels of the images.
        image_size: side of the images in pixels, or height and width.
        outputs: number of outputs.
        depth: number of convolutions, those of the three shortcuts included: 6n + 4.
        width: factor on the channels of the blocks, which are rounded, to at least 1.
        stem_stride: stride of the first convolution; 2 quarters the cost of all blocks.
        batch_norm: whether BatchNorm precedes the activations and convolutions have no biases.
        running_averages: whether BatchNorm in evaluation normalises by averages over the training;
            else by the statistics of the batch, as in Lewkowycz & Gur-Ari 2020.
        dropout: probability of dropout between the two convolutions of a block.
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
        depth: int = 28,
        width: float = 10.0,
        stem_stride: int = 1,
        batch_norm: bool = True,
        running_averages: bool = True,
        dropout: float = 0.0,
        activation: Activation = "relu",
        beta: float = 5.0,
        init: Init = "lecun_normal",
        gain: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(in_channels, image_size)
        if check_size("depth", depth, minimum=10) % 6 != 4:
            raise InputError(f"depth must be 6n + 4, got {depth}; pass 10, 16, 22, 28, …")
        if check_number("dropout", dropout, zero=True) >= 1:
            raise InputError(f"dropout must be below 1, got {dropout}; change dropout")

        style = Style(activation, beta, batch_norm, running_averages)
        channels = 16
        layers: list[nn.Module] = [
            style.convolution(in_channels, channels, stride=check_size("stem_stride", stem_stride))
        ]
        for stage, target in enumerate(widened(16 * 2**k, width) for k in range(3)):
            for block in range((depth - 4) // 6):
                stride = 2 if stage and not block else 1
                layers.append(PreActivationBlock(channels, target, stride, dropout, style))
                channels = target
        layers += [*style.act(channels), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        linear = undrawn(nn.Linear, channels, check_size("outputs", outputs))
        self.layers = nn.Sequential(*layers, linear)
        initialize_(self, init, gain, generator)


class PreActivationBlock(nn.Module):
    """The residual block x + C₂ D φ(C₁ φ(x)) with φ the activation, behind BatchNorm if any.

    C₁ and C₂ are 3×3 convolutions, D is dropout. Where the shape changes, a 1×1 convolution of φ(x)
    takes the place of the first x.

    Args:
        inputs: channels of x.
        outputs: channels of the result.
        stride: of C₁ and of the 1×1 convolution.
        dropout: probability of D.
        style: how layers are made.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int, dropout: float, style: Style
    ) -> None:
        super().__init__()
        self.act = nn.Sequential(*style.act(inputs))
        self.residual = nn.Sequential(
            style.convolution(inputs, outputs, stride=stride),
            *style.act(outputs),
            nn.Dropout(dropout),
            style.convolution(outputs, outputs),
        )
        self.shortcut: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = style.convolution(inputs, outputs, kernel=1, stride=stride)

    def forward(self, input: Tensor) -> Tensor:
        """Map `[batch, inputs, h, w]` to `[batch, outputs, ⌈h/stride⌉, ⌈w/stride⌉]`."""
        active = self.act(input)
        output: Tensor = self.residual(active)
        return output + (input if self.shortcut is None else self.shortcut(active))
