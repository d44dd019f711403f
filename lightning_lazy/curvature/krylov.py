"""An orthonormal basis that grows by products with a symmetric operator."""

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_lazy.curvature.vectors import SymmetricOperator, random_unit


@dataclass(frozen=True)
class RitzPairs:
    """Approximate eigenpairs from a basis V, all float64 on the CPU.

    Attributes:
        values: θ, shape ``(n,)``.
        coefficients: Y with orthonormal columns: the vectors are V Y.
        residuals: ‖A V y − θ V y‖ for each column y, by the recursion.
    """

    values: Tensor
    coefficients: Tensor
    residuals: Tensor


class KrylovBasis:
    r"""Orthonormal vectors V, with what a symmetric operator A does to them.

    .. math:: A V = V T + C S

    C are the pending directions: orthogonal to V, found by products, not yet in the basis. From
    one start vector there is one, and T is tridiagonal; from a block, or after a restart, this form
    still holds. V and C live on the operator's device; T and S, small, in float64 on the CPU.

    Attributes:
        products: Products with A so far.
        finite: Whether all of them were.
        scale: ‖A‖ from below: the largest ‖A v‖ seen.
    """

    def __init__(self, operator: SymmetricOperator, size: int) -> None:
        self._operator = operator
        self._size = size
        self._rows = torch.empty(
            (min(size, 8), operator.dim), device=operator.device, dtype=operator.dtype
        )
        self._pending = self._rows[:0].clone()
        self._t = torch.zeros(0, 0, dtype=torch.float64)
        self._s = torch.zeros(0, 0, dtype=torch.float64)
        self._residuals = torch.zeros(0, dtype=torch.float64)
        self.products = 0
        self.finite, self.scale = True, 0.0

    def __len__(self) -> int:
        return len(self._t)

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self._operator.dim

    @property
    def locked(self) -> int:
        """Number of vectors at the front that are kept as eigenvectors, apart from the others."""
        return len(self._residuals)

    @property
    def full(self) -> bool:
        """Whether the basis must be compressed before it can grow."""
        return len(self) == self._size

    @property
    def closed(self) -> bool:
        """Whether nothing is pending: the span of the basis is invariant."""
        return not len(self._pending)

    @property
    def rounding(self) -> float:
        """What is zero up to rounding, as the length of a product."""
        return 10 * _epsilon(self._rows) * self.scale

    def add(self, directions: Tensor) -> int:
        """Put rows, shape ``(r, dim)``, in front of what is pending; return how many are not 0."""
        lengths = directions.norm(dim=1, keepdim=True)
        units = (directions / lengths)[lengths[:, 0] > 0]
        self._pending = torch.cat([units, self._pending])
        self._s = torch.cat([self._s.new_zeros(len(units), len(self)), self._s])
        return len(units)

    def random_direction(self, generator: torch.Generator) -> Tensor:
        """Return a random unit vector as a row."""
        like = self._rows.new_empty(self.dim)
        return random_unit(like, generator)[None]

    def grow(self, index: int) -> None:
        """Move a pending direction into the basis and apply A to it; one product.

        A direction that is zero up to rounding is dropped instead.
        """
        self._pending[index] = self._orthogonalized(self._pending[index])[0]
        length = float(self._pending[index].norm())
        is_product = bool(self._s[index].any())
        if length <= (self.rounding if is_product else 10 * _epsilon(self._rows)):
            self._remove(index)
            return
        vector = self._pending[index] / length
        overlaps = self._pending @ vector
        self._pending -= overlaps[:, None] * vector
        border = overlaps.double().cpu() @ self._s
        self._remove(index)
        self._append(vector, border)

    def _remove(self, index: int) -> None:
        kept = [i for i in range(len(self._pending)) if i != index]
        self._pending, self._s = self._pending[kept], self._s[kept]

    def _append(self, vector: Tensor, border: Tensor) -> None:
        n = len(self)
        if n == len(self._rows):
            more = torch.empty_like(self._rows)[: self._size - n]
            self._rows = torch.cat([self._rows, more])
        self._rows[n] = vector
        product = self._operator(vector)
        self.products += 1
        length = float(product.norm())
        self.finite = self.finite and length < float("inf")
        self.scale = max(self.scale, length)
        t = self._t.new_zeros(n + 1, n + 1)
        t[:n, :n], t[n, :n], t[:n, n] = self._t, border, border
        self._t = t
        rest, overlaps = self._orthogonalized(product)
        t[n, n] = float(overlaps[n])
        s = self._s.new_zeros(len(self._s) + 1, n + 1)
        s[:-1, :n], s[-1, n] = self._s, 1
        self._s = s
        self._pending = torch.cat([self._pending, rest[None]])
        if float(rest.norm()) <= self.rounding:
            self._remove(len(s) - 1)

    def _orthogonalized(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Return the part of a vector orthogonal to V, by two passes, and the overlaps with V."""
        rows = self._rows[: len(self)]
        total = vector.new_zeros(len(rows))
        for _ in range(2):
            overlaps = rows @ vector
            vector = vector - overlaps @ rows
            total += overlaps
        return vector, total

    def ritz(self) -> RitzPairs:
        """Return the eigenpairs of T, those locked first."""
        front = self.locked
        own, y = torch.linalg.eigh(self._t[front:, front:])
        values = torch.cat([self._t.diagonal()[:front], own])
        coefficients = torch.eye(len(self), dtype=y.dtype)
        coefficients[front:, front:] = y
        parts = self._s @ coefficients
        gram = (self._pending @ self._pending.T).double().cpu()
        residuals = ((gram @ parts) * parts).sum(dim=0).clamp(min=0).sqrt()
        residuals[:front] = self._residuals
        return RitzPairs(values, coefficients, residuals)

    def largest_part(self, coefficients: Tensor) -> int:
        """Return the pending direction that the residual of V y owes most to."""
        lengths = self._pending.norm(dim=1).double().cpu()
        return int(((self._s @ coefficients).abs() * lengths).argmax())

    def vectors(self, coefficients: Tensor) -> Tensor:
        """Return V Y as rows."""
        return coefficients.T.to(self._rows) @ self._rows[: len(self)]

    def compress(self, pairs: RitzPairs, kept: Tensor) -> None:
        """Make Ritz vectors the basis, the locked ones as they are.

        Args:
            pairs: What `ritz` gave.
            kept: Indices of the pairs to keep, first all locked ones.
        """
        y = pairs.coefficients[:, kept]
        self._rows[: len(kept)] = self.vectors(y)
        self._t = torch.diag(pairs.values[kept])
        self._s = self._s @ y

    def lock(self, pairs: RitzPairs, kept: Tensor) -> None:
        """Make Ritz vectors the basis, lock them all and forget what is pending."""
        self.compress(pairs, kept)
        self._residuals = pairs.residuals[kept]
        self._pending, self._s = self._pending[:0], self._s[:0]


def _epsilon(like: Tensor) -> float:
    return float(torch.finfo(like.dtype).eps)
