"""Tangent kernels as products of what is kept of two sets of samples.

Shape legend: n and m samples, o outputs, p parameters; of a layer: g groups of channels, T places
(1 in a plain linear layer), c output channels and d inputs of a group (its bias as one of them).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Outputs = Literal["full", "sum"]
_LARGEST = 2**24
"""Numbers in the largest intermediate result."""
_SLOWER = 3
"""How much longer an operation takes with factors than with Jacobians: measured on CPUs."""


@dataclass
class Jacobian:
    """Rows of a Jacobian.

    Attributes:
        rows: Shape (n, o, p).
    """

    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, samples: slice) -> "Jacobian":
        return Jacobian(self.rows[samples])

    @property
    def block(self) -> int:
        """Samples in a block of rows, small enough that half of a symmetric kernel is saved."""
        return max(16, -(-len(self) // 8))

    def put(self, samples: slice, outputs: slice, inputs: Tensor, changes: Tensor) -> None:
        """Take the gradients of some outputs that a layer's factors give, see `Factors`.

        Args:
            samples: Whose gradients.
            outputs: Numbers of the outputs.
            inputs: Shape (n, g, T, d).
            changes: Shape (o, n, g, T, c).
        """
        left = changes.permute(1, 2, 0, 4, 3)  # (n, g, o, c, T)
        products = left.flatten(2, 3) @ inputs
        rows = products.view(*left.shape[:4], -1).transpose(1, 2)  # (n, o, g, c, d)
        self.rows[samples, outputs] = rows.flatten(2)

    def times(self, other: "Jacobian", outputs: Outputs) -> Tensor:
        """Return the kernel of two blocks, shape (n, o, m, o) or, summed over outputs, (n, m)."""
        if outputs == "sum":
            return self.rows.flatten(1) @ other.rows.flatten(1).T
        product = self.rows.flatten(0, 1) @ other.rows.flatten(0, 1).T
        return product.view(*self.rows.shape[:2], *other.rows.shape[:2])


@dataclass
class Factors:
    r"""What the weight gradients of a layer are products of: Σ_t changes[t] ⊗ inputs[t].

    Attributes:
        inputs: What its weights multiply, shape (n, g, T, d).
        changes: Derivatives of the outputs in what it puts out, shape (n, g, T, c, o).
    """

    inputs: Tensor
    changes: Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, samples: slice) -> "Factors":
        return Factors(self.inputs[samples], self.changes[samples])

    @property
    def block(self) -> int:
        """Samples in a block, such that intermediate results stay small."""
        _, g, places, c, o = self.changes.shape
        pair = o * o if places == 1 else places * max(g * places, o * c)
        return max(1, int((_LARGEST / pair) ** 0.5))

    def put(self, samples: slice, outputs: slice, inputs: Tensor, changes: Tensor) -> None:
        """Take the factors for some outputs, see `Jacobian.put`."""
        self.inputs[samples] = inputs
        self.changes[samples, ..., outputs] = changes.movedim(0, -1)

    def times(self, other: "Factors", outputs: Outputs) -> Tensor:
        """Return the kernel of two blocks, shape (n, o, m, o) or, summed over outputs, (n, m)."""
        inputs = _inner(self.inputs, other.inputs)
        if outputs == "sum":
            return (inputs * _inner(self.changes.flatten(3), other.changes.flatten(3))).sum(
                (0, 2, 4)
            )
        one = _at_one_place if inputs.shape[2] == 1 else _at_places
        parts = (one(k, self.changes[:, g], other.changes[:, g]) for g, k in enumerate(inputs))
        return sum(parts)  # type: ignore[return-value]


def _inner(left: Tensor, right: Tensor) -> Tensor:
    """Return products of (n, g, T, k) and (m, g, T, k) over k, shape (g, n, T, m, T)."""
    n, groups, places, _ = left.shape
    first, second = (x.transpose(0, 1).flatten(1, 2) for x in (left, right))
    return (first @ second.mT).view(groups, n, places, len(right), places)


def _at_one_place(inputs: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Return a group's kernel from products of its inputs where T = 1, shape (n, o, m, o)."""
    first, second = (x[:, 0].mT.flatten(0, 1) for x in (left, right))
    product = (first @ second.T).view(len(left), left.shape[3], len(right), right.shape[3])
    return product.mul_(inputs)


def _at_places(inputs: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Return a group's kernel from products of its inputs, shape (n, o, m, o).

    Args:
        inputs: Shape (n, T, m, T).
        left: Changes, shape (n, T, c, o).
        right: Changes, shape (m, T, c, o).
    """
    n, places, m, _ = inputs.shape
    moved = inputs.flatten(0, 1).transpose(0, 1) @ right.flatten(2)  # (m, n·T, c·o)
    moved = moved.view(m, n, -1, right.shape[3])
    rows = left.flatten(1, 2).mT
    products = [row @ moved[:, i] for i, row in enumerate(rows)]  # (m, o, o) each
    return torch.stack(products).transpose(1, 2)


def keeps_factors(
    inputs: tuple[int, int, int], changes: tuple[int, int, int], o: int, outputs: Outputs
) -> bool:
    """Return whether `Factors` are cheaper than the layer's Jacobian.

    That is so where a layer has few places: linear layers, and convolutions deep in a net.

    Args:
        inputs: g, T and d.
        changes: g, T and c.
        o: Number of outputs.
        outputs: Whether the kernel is summed over outputs.
    """
    (_, places, d), c = inputs, changes[2]
    if outputs == "sum":
        return _SLOWER * places**2 * (d + o * c) < o * c * d
    if places == 1:
        return d + o**2 * c < o**2 * c * d
    return _SLOWER * places * (places * (d + o * c) + o**2 * c) < o**2 * c * d


def add_kernel(
    total: Tensor,
    left: "Jacobian | Factors",
    right: "Jacobian | Factors | None",
    outputs: Outputs,
) -> None:
    """Add the kernel of one group of parameters to ``total``, shape (n, o, m, o) or (n, m).

    Args:
        total: Where to add.
        left: What is kept of the samples of the rows.
        right: What is kept of those of the columns; ``None``: the same, and only what stands on
            and above the diagonal is computed.
        outputs: Whether the kernel is summed over outputs.
    """
    other = left if right is None else right
    wide = isinstance(left, Jacobian)
    for rows in _blocks(0, len(left), left.block):
        first = rows.start if right is None else 0
        for columns in _blocks(first, len(other), len(other) if wide else left.block):
            part = left[rows].times(other[columns], outputs)  # type: ignore[arg-type]
            if outputs == "sum":
                total[rows, columns] += part
            else:
                total[rows, :, columns] += part


def _blocks(first: int, last: int, size: int) -> Iterator[slice]:
    for start in range(first, last, max(1, size)):
        yield slice(start, min(start + size, last))
