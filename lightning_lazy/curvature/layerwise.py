"""The part of a tangent kernel that belongs to a net's layers."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node

from lightning_lazy.curvature.contractions import Factors, Jacobian, Outputs, keeps_factors
from lightning_lazy.curvature.functional import Parameters
from lightning_lazy.curvature.layer_derivatives import alone, changes_along, mixing
from lightning_lazy.curvature.layer_recorder import Recorder, Use

Output = Callable[[Any], Tensor]

_AT_ONCE = 256
"""Samples times outputs whose derivatives are held together."""


@dataclass(frozen=True)
class Layer:
    """A layer whose weight gradients are products.

    Attributes:
        names: Its parameters.
        inputs: Shape (g, T, d) of what they multiply, for a sample.
        changes: Shape (g, T, c) of what it puts out.
        factors: Whether the factors are kept, not their products.
        kept: Numbers kept for a sample.
    """

    names: tuple[str, ...]
    inputs: tuple[int, ...]
    changes: tuple[int, ...]
    factors: bool
    kept: int

    def room(self, samples: int, o: int, like: Tensor) -> Jacobian | Factors:
        """Return where to keep what the kernel needs of so many samples with o outputs each."""
        if not self.factors:
            return Jacobian(like.new_empty(samples, o, self.kept // o))
        inputs = like.new_empty(samples, *self.inputs)
        return Factors(inputs, like.new_empty(samples, *self.changes, o))


def find_layers(
    function: Output, parameters: Parameters, batch: Any, outputs: Outputs
) -> list[Layer]:
    """Return the layers through which alone parameters enter h on a batch.

    Parameters that enter in other ways as well, or through a layer that sees another axis than that
    of the samples first, are in none of them; nor are those of layers behind which samples mix.

    Args:
        function: ``function(batch)`` gives h at ``parameters``, shape ``[n, o]``.
        parameters: By name; leaves that require gradients.
        batch: Inputs.
        outputs: Whether the kernel is summed over outputs.
    """
    names = set(parameters)
    while names:
        recorder = Recorder(parameters, names, keep=False)
        with recorder:
            values = function(batch)
        known = _sound(recorder.uses, values, {n: parameters[n] for n in names})
        if known == names:
            known = alone(recorder.uses, values)
        if known == names:
            return [_layer(use, values.shape[1], outputs) for use in recorder.uses]
        names = known
    return []


def keep_layers(
    function: Output,
    parameters: Parameters,
    batch: Any,
    layers: list[Layer],
    *,
    kept: list[Jacobian | Factors],
    samples: slice,
) -> bool:
    """Keep what the kernels of layers need of a batch.

    Args:
        function: ``function(batch)`` gives h at ``parameters``, shape ``[n, o]``.
        parameters: By name; leaves that require gradients.
        batch: Inputs.
        layers: As `find_layers` found them on another batch.
        kept: Where to keep it, for each of them.
        samples: Which samples these are.

    Returns:
        Whether the layers are on this batch as they were found.
    """
    names = {name for layer in layers for name in layer.names}
    recorder = Recorder(parameters, names, keep=True)
    with recorder:
        values = function(batch)
    uses = {use.names: use for use in recorder.uses}
    if _sound(recorder.uses, values, {n: parameters[n] for n in names}) != names:
        return False
    for layer in layers:
        use = uses.get(layer.names)
        found = use and (tuple(use.inputs.shape[1:]), use.changes[1:])
        if found != (layer.inputs, layer.changes):
            return False
    own = [uses[layer.names] for layer in layers]
    even = torch.arange(len(values), device=values.device) % 2 == 0
    if mixing(own, values, [even]):
        return False
    for several in _at_once(values.shape[1], len(values)):
        passes = [list(changes_along(values, one, own)) for one in _each(values, several)]
        for use, room, *changes in zip(own, kept, *passes, strict=True):
            room.put(samples, several, use.inputs, torch.stack(changes))
    return True


def _at_once(outputs: int, samples: int) -> Iterator[slice]:
    """Yield slices of outputs whose derivatives are held together, so that products are large."""
    size = max(1, _AT_ONCE // samples)
    for first in range(0, outputs, size):
        yield slice(first, min(first + size, outputs))


def _each(values: Tensor, outputs: slice) -> Iterator[Tensor]:
    """Yield the derivatives in h, shape (n, o), of some outputs, each summed over samples."""
    for row in torch.eye(values.shape[1], dtype=values.dtype, device=values.device)[outputs]:
        yield row.expand_as(values)


def _layer(use: Use, o: int, outputs: Outputs) -> Layer:
    g, places, d = use.inputs.shape[1:]
    c = use.changes[3]
    factors = keeps_factors((g, places, d), (g, places, c), o, outputs)
    kept = g * places * (d + o * c) if factors else o * g * c * d
    return Layer(use.names, (g, places, d), (g, places, c), factors, kept)


def _sound(uses: list[Use], values: Tensor, parameters: Parameters) -> set[str]:
    """Return the parameters that one layer used, with samples first, and nothing else did."""
    counts = Counter(name for use in uses for name in use.names)
    fits = {name for use in uses if use.changes[0] == len(values) for name in use.names}
    elsewhere = _leaves(values)
    return {
        name
        for name, p in parameters.items()
        if counts[name] == 1 and name in fits and id(p) not in elsewhere
    }


def _leaves(values: Tensor) -> set[int]:
    """Return the ids of the leaves that derivatives of ``values`` reach."""
    found: set[int] = set()
    seen: set[Node] = set()
    open_ends = [values.grad_fn]
    while open_ends:
        node = open_ends.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        open_ends += [after for after, _ in node.next_functions]
    return found
