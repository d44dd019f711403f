"""Nets of many cells with their parameters stacked along a first axis: what all kinds share."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from lightning_lazy.scaling import Centering
from lightning_lazy.stacked.output_losses import LossFunction

Tensors = dict[str, Tensor]
Batch = tuple[Tensor, Tensor]


class Task(NamedTuple):
    """What all cells learn.

    Attributes:
        x: Inputs, the whole training set.
        y: Targets.
        loss: ℓ(output, target), a scalar.
        centering: How F vanishes at θ₀, see `lightning_lazy.ScaledModel`.
    """

    x: Tensor
    y: Tensor
    loss: LossFunction
    centering: Centering


class Stack(Protocol):
    """C cells that are computed together.

    Attributes:
        parameters: Trained parameters, shapes ``(C, …)``, by their names in a `ScaledModel`.
        fixed: Buffers and untrained parameters that cells have of their own.
    """

    parameters: Tensors
    fixed: Tensors

    def gradients(self) -> Tensors:
        """Return α times the gradients of ℓ/α², in memory that the next call takes again."""
        ...

    def losses(self) -> Tensor:
        """Return ℓ/α² of each cell, shape ``(C,)``."""
        ...

    def keep(self, places: Tensor) -> None:
        """Go on with the cells at some places only."""
        ...


def stacked(modules: Sequence[nn.Module], names: Sequence[str], like: Tensor) -> Tensors:
    """Return tensors of modules of one kind, stacked, on the device of ``like``.

    Floating ones get its dtype.
    """
    tensors = [dict(one.named_parameters()) | dict(one.named_buffers()) for one in modules]
    found = {name: torch.stack([own[name].detach() for own in tensors]) for name in names}
    return {
        name: value.to(like) if value.is_floating_point() else value.to(like.device)
        for name, value in found.items()
    }
