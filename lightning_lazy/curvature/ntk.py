"""The empirical neural tangent kernel of any net."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.func import jacrev, vmap
from torch.utils.flop_counter import FlopCounterMode

from lightning_lazy.checks import check_choice
from lightning_lazy.curvature.contractions import Jacobian, Outputs, add_kernel
from lightning_lazy.curvature.functional import Parameters, directional_derivative
from lightning_lazy.curvature.layerwise import Layer, find_layers, keep_layers
from lightning_lazy.errors import InputError

Function = Callable[[Parameters, Any], Tensor]
Route = Literal["auto", "layers", "jacobian", "products"]
_HELD = 2**28
"""Numbers held at a time of a Jacobian or of the layers' factors, more only for a single one."""


def tangent_kernel(
    function: Function,
    parameters: Mapping[str, Tensor],
    batches: Sequence[Any],
    others: Sequence[Any] | None = None,
    *,
    outputs: Outputs = "full",
    route: Route = "auto",
) -> Tensor:
    r"""Return the empirical neural tangent kernel of a model h at parameters w.

    .. math:: \Theta_{ip,jq} = \langle \nabla_w h_p(w, x_i), \nabla_w h_q(w, x_j) \rangle

    (Jacot, Gabriel & Hongler 2018), or its sum over p = q. It is the sum of the kernels of groups
    of parameters, and each group takes the cheapest way (Novak, Sohl-Dickstein & Schoenholz 2022):

    - ``layers``: weights and biases of linear, 1d and 2d convolutional and normalisation layers
      (the latter without batch statistics), which enter through the layer's functional of torch
      once, as they are or times a number, in any code. One backward pass an output gives the
      derivatives in the layers' outputs. A layer then keeps its per-sample weight gradients or, if
      that takes fewer multiplications, these derivatives and its inputs, whose Gram matrices make
      up the kernel: so in linear layers, and in convolutions with few places.
    - ``jacobian``: everything else, by products of per-sample Jacobians.
    - ``products``: the same column by column, Θ e = J (Jᵀ e), where that takes fewer operations
      (many outputs, or more parameters than operations), or a Jacobian is too large to be held.

    That the layers' way applies is proved for the batch at hand and never assumed: the graph of
    derivatives must reach a parameter through its layer alone, and the outputs of a sample must
    have derivatives of exactly zero in what the layer puts out for other samples. Where samples
    depend on one another, as with batch statistics, the batches are part of the definition of h,
    and it costs as many backward passes over a batch as that has outputs.

    Args:
        function: ``function(w, batch)`` gives h(w) on a batch, shape ``[n, o]`` (or ``[n]``: then
            o = 1); for a module `ModelFunction.at`. It must be deterministic, and the samples must
            stand along the first axis of the tensors of a batch.
        parameters: w by name, floating point, on one device. All is computed in their type.
        batches: Micro-batches of inputs.
        others: Batches of the columns' samples; ``None``: the same.
        outputs: ``full``, or ``sum``: summed over outputs p = q.
        route: ``auto``, or one way for all parameters.

    Returns:
        The kernel, in the type of the parameters. ``full``: shape ``(n·o, m·o)``, all outputs of
        a sample one after the other; ``sum``: shape ``(n, m)``.

    Raises:
        InputError: There are no parameters or samples, outputs do not fit, or ``route="layers"``
            can't cover all parameters.
    """
    check_choice("outputs", outputs, get_args(Outputs))
    check_choice("route", route, get_args(Route))
    if not parameters:
        raise InputError("parameters must not be empty, got none; pass those that are trained")
    at = {name: p.detach().requires_grad_() for name, p in parameters.items()}
    with torch.enable_grad():
        kernel = _Kernel(function, at, batches, others, outputs)
        rest = kernel.add_layers() if route in ("auto", "layers") else list(at)
        if route == "layers" and rest:
            raise InputError(
                f"route='layers' can't cover the parameters {', '.join(rest)}; use route='auto'"
            )
        by_products, by_jacobian = kernel.cheapest(rest, route)
        for names in _groups(by_jacobian, {n: kernel.rows * at[n].numel() for n in by_jacobian}):
            kernel.add_jacobian(names)
        if by_products:
            kernel.add_products(by_products)
    return kernel.matrix()


class _Kernel:
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
            shapes = [[self._output(batch).shape for batch in side] for side in self.sides]
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

    def _output(self, batch: Any, at: Parameters | None = None) -> Tensor:
        """Return h on a batch, shape ``[n, o]``."""
        output = self.function(self.at if at is None else at, batch)
        if output.dim() not in (1, 2):
            raise InputError(
                f"expected outputs of shape [samples, outputs], got {list(output.shape)}; flatten "
                "them in function"
            )
        return output.unsqueeze(1) if output.dim() == 1 else output

    def add_layers(self) -> list[str]:
        """Add the parameters that enter through layers alone; return the names of the others."""
        _, side, place = max(
            (size, s, i) for s, sizes in enumerate(self.sizes) for i, size in enumerate(sizes)
        )
        layers = find_layers(self._output, self.at, self.sides[side][place], self.outputs)
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
                if not keep_layers(
                    self._output, self.at, batch, layers, kept=kept, samples=samples
                ):
                    return False
                start += size
            sides.append(kept)
        for left in sides[0]:
            right = sides[1].pop(0) if len(sides) == 2 else None
            add_kernel(self.total, left, right, self.outputs)
        return True

    def cheapest(self, names: list[str], route: Route) -> tuple[list[str], list[str]]:
        """Return which parameters go by products and which by Jacobians."""
        if route == "products":
            return names, []
        if route == "jacobian" or not names:
            return [], names
        sizes = [self.at[name].numel() for name in names]
        n, m = (sum(side) for side in (self.sizes[0], self.sizes[-1]))
        passes = max(self.operations, 2 * sum(sizes))
        columns = m * self.width
        contraction = 2 * n * columns * sum(sizes) * (self.width if self.outputs == "full" else 1)
        jacobian = contraction + 2 * passes * self.rows
        products = 2 * passes * columns * (n + max(self.sizes[-1]))
        if max(sizes) * self.rows > _HELD or products < jacobian:
            return names, []
        return [], names

    def add_jacobian(self, names: list[str]) -> None:
        """Add parameters by the products of their Jacobians."""
        kept = [
            Jacobian(torch.cat([self._jacobian(batch, names) for batch in side]))
            for side in self.sides
        ]
        add_kernel(self.total, kept[0], kept[1] if len(kept) > 1 else None, self.outputs)

    def _jacobian(self, batch: Any, names: list[str]) -> Tensor:
        """Return the Jacobian on a batch in some parameters, shape (n, o, p)."""
        rows = self._jacobian_by_sample(batch, names)
        return self._jacobian_by_row(batch, names) if rows is None else rows

    def _jacobian_by_sample(self, batch: Any, names: list[str]) -> Tensor | None:
        """Return the Jacobian by one pass a sample and output; ``None``: samples are not alone."""
        chosen = {name: self.at[name].detach() for name in names}
        rest = {name: p.detach() for name, p in self.at.items() if name not in chosen}
        with torch.no_grad():
            wanted = self._output(batch)

        def output(own: Parameters, place: Tensor) -> tuple[Tensor, Tensor]:
            value = self._output(_sample(batch, place, len(wanted)), rest | own)
            return value[0], value

        def rows(place: Tensor) -> tuple[Parameters, Tensor]:
            return jacrev(output, has_aux=True)(chosen, place)

        try:
            jacobian, found = vmap(rows)(torch.arange(len(wanted), device=wanted.device))
        except Exception:  # what a net's code does with a batch of one, under vmap, is open
            return None
        close = math.sqrt(torch.finfo(wanted.dtype).eps) * wanted.abs().max()
        if found.shape[1:2] != (1,) or not bool(((found[:, 0] - wanted).abs() <= close).all()):
            return None
        return torch.cat([jacobian[name].flatten(2) for name in names], dim=2)

    def _jacobian_by_row(self, batch: Any, names: list[str]) -> Tensor:
        """Return the Jacobian by one backward pass over the batch for every sample and output."""
        values = self._output(batch)
        rows = [self._gradient(value, names) for value in values.flatten()]
        return torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]).view(
            *values.shape, -1
        )

    def _gradient(self, value: Tensor, names: list[str]) -> tuple[Tensor, ...]:
        leaves = [self.at[name] for name in names]
        if not value.requires_grad:
            return tuple(map(torch.zeros_like, leaves))
        return torch.autograd.grad(
            value, leaves, retain_graph=True, allow_unused=True, materialize_grads=True
        )

    def add_products(self, names: list[str]) -> None:
        """Add parameters column by column: Θ e = J (Jᵀ e)."""
        start = 0
        for place, batch in enumerate(self.sides[-1]):
            values = self._output(batch)
            for i, sample in enumerate(values):
                for q, value in enumerate(sample):
                    row = dict(zip(names, self._gradient(value, names), strict=True))
                    first = place if len(self.sides) == 1 else None
                    self._add_column(row, start + i, q, first)
            start += len(values)

    def _add_column(self, row: Parameters, column: int, q: int, last: int | None) -> None:
        """Add J row to a column, in batches up to number ``last`` (``None``: all)."""
        chosen = {name: self.at[name].detach() for name in row}
        rest = {name: p.detach() for name, p in self.at.items() if name not in chosen}
        start = 0
        for batch in self.sides[0][: None if last is None else last + 1]:

            def output(own: Parameters, batch: Any = batch) -> Tensor:
                return self._output(batch, rest | own)

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


def _sample(batch: Any, place: Tensor, size: int) -> Any:
    """Return the batch of one sample: row ``place`` of all tensors of ``size`` rows."""
    if torch.is_tensor(batch):
        alike = batch.dim() > 0 and len(batch) == size
        return batch.index_select(0, place.view(1)) if alike else batch
    if isinstance(batch, Mapping):
        return {key: _sample(value, place, size) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        parts = [_sample(value, place, size) for value in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else parts
    return batch
