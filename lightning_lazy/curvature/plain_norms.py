"""Normalisation layers in elementary operations, whose derivatives are right to any order."""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class PlainNorms(TorchFunctionMode):
    """Inside, layer, batch and instance normalisation are computed from sums and products.

    torch's own (measured with 2.14) have first derivatives and Hessians that are right, but
    forward-mode derivatives of forward-mode ones, reverse-mode ones of those, and third derivatives
    that are wrong without a word, by ten per cent and more, for `torch.layer_norm`, and for
    `torch.batch_norm` and `torch.instance_norm` with the statistics of the batch. Running averages
    are used where a call asks for them, and never updated.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace the functions above; run any other as it is."""
        own = _REPLACED.get(func, func)
        return own(*args, **(kwargs or {}))


def _layer_norm(
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    axes = list(range(input.dim() - len(normalized_shape), input.dim()))
    output = _standardized(input, axes, eps)
    output = output if weight is None else output * weight
    return output if bias is None else output + bias


def _normalized(  # noqa: PLR0917
    axes: list[int],
    input: Tensor,
    running: tuple[Tensor | None, Tensor | None],
    affine: tuple[Tensor | None, Tensor | None],
    own_statistics: bool,
    eps: float,
) -> Tensor:
    """Return what batch and instance normalisation give, statistics over ``axes``."""
    mean, variance = running
    if own_statistics or mean is None or variance is None:
        output = _standardized(input, axes, eps)
    else:
        scale = (variance + eps).rsqrt()
        output = (input - _channels(mean, input)) * _channels(scale, input)
    weight, bias = affine
    output = output if weight is None else output * _channels(weight, output)
    return output if bias is None else output + _channels(bias, output)


def _batch_norm(  # noqa: PLR0917
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    axes = [0, *range(2, input.dim())]
    return _normalized(axes, input, (running_mean, running_var), (weight, bias), training, eps)


def _instance_norm(  # noqa: PLR0917
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    axes = list(range(2, input.dim()))
    running, affine = (running_mean, running_var), (weight, bias)
    return _normalized(axes, input, running, affine, use_input_stats, eps)


def _standardized(input: Tensor, axes: list[int], eps: float) -> Tensor:
    """Return (x − mean)/√(variance + ε) over the axes, with the biased variance."""
    count = math.prod(input.shape[axis] for axis in axes)
    centred = input - input.sum(axes, keepdim=True) / count
    variance = (centred * centred).sum(axes, keepdim=True) / count
    return centred * (variance + eps).rsqrt()


def _channels(value: Tensor, like: Tensor) -> Tensor:
    return value.view(1, -1, *[1] * (like.dim() - 2))


def _reordered(function: Any) -> Any:
    """Return ``function`` with the order of arguments that torch's own, below `F`, has."""

    def call(input: Tensor, *rest: Any) -> Tensor:
        weight, bias, mean, variance, own, momentum, eps = rest[:7]
        return function(input, mean, variance, weight, bias, own, momentum, eps)

    return call


_REPLACED = {
    F.layer_norm: _layer_norm,
    F.batch_norm: _batch_norm,
    F.instance_norm: _instance_norm,
    torch.layer_norm: lambda *args: _layer_norm(*args[:5]),
    torch.batch_norm: _reordered(_batch_norm),
    torch.instance_norm: _reordered(_instance_norm),
}
