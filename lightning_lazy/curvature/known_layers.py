"""Functions of torch whose weight gradients are products of inputs and derivatives."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Call:
    """A call of a layer, taken apart. Shape legend: see `lightning_lazy.curvature.contractions`.

    Attributes:
        compute: Gives the layer's output for a weight and a bias.
        x: What the layer's inputs are computed from.
        inputs: Brings ``x`` to what the weight multiplies, shape (n, g, T, d).
        spread: Brings the output, and derivatives in it, to the shape (n, g, T, c).
        weight: The layer's weight.
        bias: Its bias.
    """

    compute: Callable[[Tensor | None, Tensor | None], Tensor]
    x: Tensor
    inputs: Callable[[Tensor], Tensor]
    spread: Callable[[Tensor], Tensor]
    weight: Tensor | None
    bias: Tensor | None


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Call | None:
    def places(x: Tensor) -> Tensor:
        return x.reshape(len(x), 1, math.prod(x.shape[1:-1]), x.shape[-1])

    if input.dim() < 2 or weight.dim() != 2:
        return None
    return Call(
        lambda w, b: F.linear(input, w, b),  # type: ignore[arg-type]
        input,
        places,
        places,
        weight,
        bias,
    )


def _convolution(  # noqa: PLR0917
    convolve: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Call | None:
    options = (stride, padding, dilation, groups)
    axes = weight.dim() - 2
    if isinstance(padding, str) or input.dim() != weight.dim():
        return None

    def by_groups(channels: Tensor) -> Tensor:
        n, c, places = channels.shape
        return channels.reshape(n, groups, c // groups, places).mT

    def places(x: Tensor) -> Tensor:
        x = x if axes == 2 else x.unsqueeze(2)
        move, pad, step = (
            _on_two_axes(value, axes, fill)
            for value, fill in zip(options[:3], (1, 0, 1), strict=True)
        )
        size = (1,) * (2 - axes) + tuple(weight.shape[2:])
        columns = F.unfold(x, size, dilation=step, padding=pad, stride=move)
        return by_groups(columns)

    def spread(change: Tensor) -> Tensor:
        return by_groups(change.flatten(2))

    return Call(lambda w, b: convolve(input, w, b, *options), input, places, spread, weight, bias)


def _on_two_axes(value: Any, axes: int, fill: int) -> tuple[int, ...]:
    """Return a convolution's option for height and width; ``fill`` where there is no height."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    return (fill,) * (2 - axes) + (values * axes if len(values) == 1 else values)


def _conv1d(*args: Any, **kwargs: Any) -> Call | None:
    return _convolution(F.conv1d, *args, **kwargs)


def _conv2d(*args: Any, **kwargs: Any) -> Call | None:
    return _convolution(F.conv2d, *args, **kwargs)


def _normalised(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, first: int, last: int
) -> Call:
    """Take x ↦ x·weight + bias apart, with parameters along the axes ``first`` to ``last``."""
    tail = (1,) * (x.dim() - 1 - last)

    def compute(w: Tensor | None, b: Tensor | None) -> Tensor:
        scaled = x if w is None else x * w.reshape(*w.shape, *tail)
        return scaled if b is None else scaled + b.reshape(*b.shape, *tail)

    def spread(change: Tensor) -> Tensor:
        channels = change.movedim(tuple(range(first, last + 1)), tuple(range(1, last - first + 2)))
        groups = math.prod(channels.shape[1 : last - first + 2])
        return channels.reshape(len(change), groups, -1, 1)

    return Call(compute, x, spread, spread, weight, bias)


def _batch_norm(  # noqa: PLR0917
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Call:
    x = F.batch_norm(input, running_mean, running_var, None, None, training, momentum, eps)
    return _normalised(x, weight, bias, 1, 1)


def _group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Call:
    return _normalised(F.group_norm(input, num_groups, None, None, eps), weight, bias, 1, 1)


def _layer_norm(
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Call | None:
    first = input.dim() - len(normalized_shape)
    if first < 1:
        return None
    x = F.layer_norm(input, normalized_shape, None, None, eps)
    return _normalised(x, weight, bias, first, input.dim() - 1)


KNOWN: dict[Any, Callable[..., Call | None]] = {
    F.linear: _linear,
    F.conv1d: _conv1d,
    F.conv2d: _conv2d,
    F.batch_norm: _batch_norm,
    F.group_norm: _group_norm,
    F.layer_norm: _layer_norm,
}
"""What takes a call of each function apart; ``None`` where that can't be done."""
