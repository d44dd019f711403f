"""Which input of a max-pooling window is the largest."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pad


def pooling_winners(pool: nn.MaxPool2d, images: Tensor, pooled: Tensor) -> Tensor:
    """Return the positions of the largest inputs inside their windows, as bits.

    Positions count from 0 along the rows of the window. Among equal inputs, such as the zeros
    behind a ReLU, the first counts. The inputs are compared with the output, position by position,
    which takes less time than the pooling did.

    Args:
        pool: The pooling, of any kernel, stride, padding, dilation and rounding.
        images: Its input, shape ``(images, channels, height, width)``.
        pooled: Its output, shape ``(images, channels, rows, columns)``.

    Returns:
        Booleans of shape ``(images, planes, units)``: the planes are the ceil(log₂ k) bits, lowest
        first, of positions in a window of k inputs; units are channels times windows.
    """
    (rows, columns), kernel, stride, padding, dilation = map(
        _pair, (tuple(pooled.shape[2:]), pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    )
    last = kernel[0] * kernel[1] - 1
    reach = [(n - 1) * s + 1 for n, s in zip((rows, columns), stride, strict=True)]
    below, right = (
        max(0, reach[i] + (kernel[i] - 1) * dilation[i] - padding[i] - images.shape[2 + i])
        for i in (0, 1)
    )
    if below or right or any(padding):
        images = pad(images, (padding[1], right, padding[0], below), value=-math.inf)
    planes = [torch.full_like(pooled, bit, dtype=torch.bool) for bit in _bits(last, last)]
    for position in reversed(range(last)):
        top, left = (p * d for p, d in zip(divmod(position, kernel[1]), dilation, strict=True))
        window = images[:, :, top : top + reach[0] : stride[0], left : left + reach[1] : stride[1]]
        wins = window == pooled
        for plane, bit in zip(planes, _bits(position, last), strict=True):
            if bit:
                plane.logical_or_(wins)
            else:
                plane.logical_and_(~wins)
    return torch.stack([plane.flatten(1) for plane in planes], dim=1)


def _bits(number: int, largest: int) -> list[bool]:
    return [bool(number >> bit & 1) for bit in range(max(1, largest.bit_length()))]


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else value
