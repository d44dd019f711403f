"""A tangent kernel as a sum over groups of parameters, each added in a way of its own."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lightning_lazy.curvature.contractions import Jacobian, Outputs, add_kernel
from lightning_lazy.curvature.functional import Parameters, directional_derivative
from lightning_lazy.curvature.layerwise import Layer, find_layers, keep_layers
from lightning_lazy.curvature.sample_jacobians import (
    Function,
    gradient,
    sample_jacobian,
    split_parameters,
)
from lightning_lazy.errors import InputError

_HELD = 2**28
"""Numbers held at a time of a Jacobian or of the layers' factors, more only for a single one."""


class GroupedKernel:
    """A kernel to which groups of parameters are added.

    Attributes:
        rows: Rows of the Jacobian, of all samples.
    """

    def __init__(
        self,
        function: Function,
        at: Parameters,
        batches: Sequence[Any],
        others: Sequence[Any] | None,
        outputs: Outputs,
    ) -> None:
        self.at, self.outputs = at, outputs
        self.function = function
        self.sides = [list(batches)] if others is None else [list(batches), list(others)]
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            shapes = [[self._output(self.at, batch).shape for batch in side] for side in self.sides]
        self.sizes = [[shape[0] for shape in side] for side in shapes]
        widths = {shape[1] for side in shapes for shape in side}
        n, m = (sum(side) for side in (self.sizes[0], self.sizes[-1]))
        if len(widths) != 1 or not n or not m:
            raise InputError(
                "expected samples that all have the same number of outputs, got "
                f"{n} and {m} samples with {sorted(widths)} outputs; check batches and function"
            )
        self.width = widths.pop()
        self.rows = self.width * sum(map(sum, self.sizes))
        self.operations = counter.get_total_flops() / sum(map(sum, self.sizes))  # a forward pass
        like = next(iter(at.values()))
        shape = (n, m) if outputs == "sum" else (n, self.width, m, self.width)
        self.total = like.new_zeros(shape)

    def _output(self, at: Parameters, batch: Any) -> Tensor:
        """Return h on a batch, shape ``[n, o]``."""
        output = self.function(at, batch)
        if output.dim() not in (1, 2):
            raise InputError(
                f"expected outputs of shape [samples, outputs], got {list(output.shape)}; flatten "
                "them in function"
            )
        return output.unsqueeze(1) if output.dim() == 1 else output

    def _at_w(self, batch: Any) -> Tensor:
        return self._output(self.at, batch)

    def add_layers(self) -> list[str]:
        """Add the parameters that enter through layers alone; return the names of the others."""
        _, side, place = max(
            (size, s, i) for s, sizes in enumerate(self.sizes) for i, size in enumerate(sizes)
        )
        layers = find_layers(self._at_w, self.at, self.sides[side][place], self.outputs)
        by_name = {layer.names[0]: layer for layer in layers}
        kept = {name: layer.kept * self.rows // self.width for name, layer in by_name.items()}
        for names in _groups(list(by_name), kept):
            if not self._add_group([by_name[name] for name in names]):
                self.total.zero_()
                return list(self.at)
        covered = {name for layer in layers for name in layer.names}
        return [name for name in self.at if name not in covered]

    def _add_group(self, layers: list[Layer]) -> bool:
        """Add the kernels of some layers; return whether they are in all batches as found."""
        sides = []
        for batches, sizes in zip(self.sides, self.sizes, strict=True):
            kept = [layer.room(sum(sizes), self.width, self.total) for layer in layers]
            start = 0
            for batch, size in zip(batches, sizes, strict=True):
                samples = slice(start, start + size)
                if not keep_layers(self._at_w, self.at, batch, layers, kept=kept, samples=samples):
                    return False
                start += size
            sides.append(kept)
        for left in sides[0]:
            right = sides[1].pop(0) if len(sides) == 2 else None
            add_kernel(self.total, left, right, self.outputs)
        return True

    def favours_products(self, names: list[str]) -> bool:
        """Return whether parameters that are not in layers cost less by products."""
        sizes = [self.at[name].numel() for name in names]
        n, m = (sum(side) for side in (self.sizes[0], self.sizes[-1]))
        passes = max(self.operations, 2 * sum(sizes))
        columns = m * self.width
        contraction = 2 * n * columns * sum(sizes) * (self.width if self.outputs == "full" else 1)
        jacobian = contraction + 2 * passes * self.rows
        products = 2 * passes * columns * (n + max(self.sizes[-1]))
        return max(sizes) * self.rows > _HELD or products < jacobian

    def add_jacobians(self, names: list[str]) -> None:
        """Add parameters by the products of their Jacobians."""
        sizes = {name: self.rows * self.at[name].numel() for name in names}
        for group in _groups(names, sizes):
            self._add_jacobian(group)

    def _add_jacobian(self, names: list[str]) -> None:
        kept = [
            Jacobian(
                torch.cat([sample_jacobian(self._output, self.at, batch, names) for batch in side])
            )
            for side in self.sides
        ]
        add_kernel(self.total, kept[0], kept[1] if len(kept) > 1 else None, self.outputs)

    def add_products(self, names: list[str]) -> None:
        """Add parameters column by column: Θ e = J (Jᵀ e)."""
        start = 0
        for place, batch in enumerate(self.sides[-1]):
            values = self._at_w(batch)
            for i, sample in enumerate(values):
                for q, value in enumerate(sample):
                    row = dict(zip(names, gradient(value, self.at, names), strict=True))
                    first = place if len(self.sides) == 1 else None
                    self._add_column(row, start + i, q, first)
            start += len(values)

    def _add_column(self, row: Parameters, column: int, q: int, last: int | None) -> None:
        """Add J row to a column, in batches up to number ``last`` (``None``: all)."""
        chosen, rest = split_parameters(self.at, list(row))
        start = 0
        for batch in self.sides[0][: None if last is None else last + 1]:

            def output(own: Parameters, batch: Any = batch) -> Tensor:
                return self._output(rest | own, batch)

            _, change = directional_derivative(output, chosen, row)
            rows = slice(start, start + len(change))
            if self.outputs == "sum":
                self.total[rows, column] += change[:, q]
            else:
                self.total[rows, :, column, q] += change
            start += len(change)

    def matrix(self) -> Tensor:
        """Return the kernel; the part below the diagonal of a symmetric one from that above."""
        total = self.total.detach()
        if self.outputs == "full":
            total = total.flatten(0, 1).flatten(1)
        return total if len(self.sides) == 2 else total.triu() + total.triu(1).T


def _groups(names: list[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Yield names in groups whose sizes add up to no more than may be held, or single ones."""
    group: list[str] = []
    for name in names:
        if group and sum(sizes[one] for one in group) + sizes[name] > _HELD:
            yield group
            group = []
        group.append(name)
    if group:
        yield group
