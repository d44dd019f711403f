"""What the convolutional nets share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from lightning_lazy.checks import check_number, check_size
from lightning_lazy.errors import InputError
from lightning_lazy.models.activations import Activation, make_activation

Layer = TypeVar("Layer", bound=nn.Module)


class ConvNet(nn.Module):
    """A net of images: a chain of layers that takes images of one shape.

    Input of shape `[batch, in_channels, height, width]`, raw output of shape `[batch, outputs]`.

    Args:
        in_channels: channels of the images.
        image_size: side of the images in pixels, or height and width.

    Attributes:
        image_shape: channels, height and width.
        layers: the net, which subclasses give.

    Raises:
        InputError: a size out of range; in `forward`, an input of another shape.
    """

    layers: nn.Sequential

    def __init__(self, in_channels: int, image_size: int | Sequence[int]) -> None:
        super().__init__()
        sides = (image_size,) * 2 if not isinstance(image_size, Sequence) else tuple(image_size)
        if len(sides) != 2:
            raise InputError(
                f"image_size must be a number or height and width, got {image_size!r}; pass one "
                "such as 32"
            )
        height, width = (check_size("image_size", side) for side in sides)
        self.image_shape = (check_size("in_channels", in_channels), height, width)

    def forward(self, input: Tensor) -> Tensor:
        """Map `[batch, in_channels, height, width]` to `[batch, outputs]`."""
        if input.dim() != 4 or input.shape[1:] != self.image_shape:
            raise InputError(
                f"{type(self).__name__} takes images of shape [batch, "
                f"{', '.join(map(str, self.image_shape))}], got {list(input.shape)}; change its "
                "in_channels and image_size, or the images (train.py: data.flatten=false)"
            )
        output: Tensor = self.layers(input)
        return output


@dataclass(frozen=True)
class Style:
    """How the layers of a net are made: convolutions that keep the size, norms, activations.

    Attributes:
        activation: name of the activation.
        beta: β of the softplus.
        batch_norm: whether there is BatchNorm; the convolutions then have no biases.
        running_averages: whether it normalises in evaluation by averages over the training.
    """

    activation: Activation
    beta: float
    batch_norm: bool
    running_averages: bool = True

    def convolution(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, *, valid: bool = False
    ) -> nn.Conv2d:
        """Build a convolution, padded to keep the size (but for its stride) unless `valid`."""
        padding = 0 if valid else kernel // 2
        return undrawn(
            nn.Conv2d, inputs, outputs, kernel, stride, padding, bias=not self.batch_norm
        )

    def norm(self, channels: int) -> list[nn.Module]:
        """Build BatchNorm, if there is any."""
        if not self.batch_norm:
            return []
        return [nn.BatchNorm2d(channels, track_running_stats=self.running_averages)]

    def act(self, channels: int) -> list[nn.Module]:
        """Build the activation behind BatchNorm, if there is any."""
        return [*self.norm(channels), make_activation(self.activation, self.beta)]


def undrawn(kind: type[Layer], *args: int, bias: bool = True) -> Layer:
    """Build a layer without drawing its parameters, on torch's default device.

    `initialize_` draws them; a draw before would only change the global generator.
    """
    device = torch.get_default_device()
    with torch.device("meta"):
        layer = kind(*args, bias=bias)
    return layer.to_empty(device=device)


def widened(channels: int, width: float) -> int:
    """Return `width` times `channels`, rounded to the nearest integer (to even at a half), or 1.

    Raises:
        InputError: `width` not above 0.
    """
    return max(1, round(check_number("width", width) * channels))
