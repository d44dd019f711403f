"""Learning rates that differ from layer to layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from lightning_lazy.checks import check_number
from lightning_lazy.errors import InputError


def layerwise(
    params: Iterable[Tensor],
    optimizer: Callable[..., Optimizer],
    *,
    lr: float,
    factors: Sequence[float],
) -> Optimizer:
    """Build an optimizer with a learning rate lr · factor for every parameter.

    Each parameter is a group of its own, which keeps its factor as `lr_factor`.

    Args:
        params: parameters, in the order of `net.parameters()`.
        optimizer: makes the optimizer of parameter groups, such as `torch.optim.SGD`.
        lr: base learning rate, at least 0.
        factors: a factor for each parameter, above 0.

    Returns:
        What `optimizer` makes.

    Raises:
        InputError: a number out of range, or more or fewer factors than parameters.

    Examples:
        >>> import torch
        >>> net = torch.nn.Linear(3, 1)
        >>> groups = layerwise(net.parameters(), torch.optim.SGD, lr=0.1, factors=[1, 20])
        >>> [group["lr"] for group in groups.param_groups]
        [0.1, 2.0]
    """
    check_number("lr", lr, zero=True)
    listed = list(params)
    if len(factors) != len(listed):
        shapes = ", ".join(str(tuple(param.shape)) for param in listed)
        raise InputError(
            f"factors must be {len(listed)} numbers, one a parameter (shapes {shapes}), got "
            f"{len(factors)}; pass one for each"
        )
    groups: list[dict[str, Any]] = []
    for param, factor in zip(listed, factors, strict=True):
        check_number("factors", factor)
        groups.append({"params": [param], "lr": lr * factor, "lr_factor": float(factor)})
    return optimizer(groups, lr=lr)
