"""Derivatives of a net's outputs in what its layers put out."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lightning_lazy.curvature.layer_recorder import Use


def alone(uses: list[Use], values: Tensor) -> set[str]:
    """Return the parameters of layers whose outputs for a sample change those of it alone.

    For each bit of the samples' numbers, outputs of those that have it set must have derivatives of
    exactly zero in what belongs to the others, and the other way round: any two differ in a bit.
    """
    numbers = torch.arange(len(values), device=values.device)
    bits = range((len(values) - 1).bit_length())
    groups = [(numbers >> bit) & 1 == side for bit in bits for side in (0, 1)]
    names = {name for use in uses for name in use.names}
    return names - mixing(uses, values, groups)


def mixing(uses: list[Use], values: Tensor, groups: list[Tensor]) -> set[str]:
    """Return the parameters of layers whose outputs for others change what a group's samples give.

    Args:
        uses: The layers.
        values: h, shape (n, o).
        groups: Masks of samples, shape (n,) each.
    """
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(values.shape, generator=generator, dtype=torch.float64).to(values)
    found: set[str] = set()
    for chosen in groups:
        changes = changes_along(values, weights * chosen.unsqueeze(1), uses)
        for use, change in zip(uses, changes, strict=True):
            if not bool((change[~chosen] == 0).all()):
                found |= set(use.names)
    return found


def changes_along(values: Tensor, direction: Tensor, uses: list[Use]) -> Iterator[Tensor]:
    """Yield a number's derivatives in what layers put out, shape (n, g, T, c) each.

    Args:
        values: h, shape (n, o).
        direction: The number's derivatives in h, shape (n, o).
        uses: The layers.
    """
    found: Sequence[Tensor | None] = [None] * len(uses)
    if values.requires_grad:
        edges = [use.output for use in uses]
        found = torch.autograd.grad(values, edges, direction, retain_graph=True, allow_unused=True)
    for use, change in zip(uses, found, strict=True):
        zero = use.inputs.new_zeros(use.changes)
        yield zero if change is None else use.spread(change)
