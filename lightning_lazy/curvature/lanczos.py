"""Extreme eigenvalues of a symmetric operator by the Lanczos method."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_lazy.checks import check_choice, check_number, check_size
from lightning_lazy.curvature.krylov import KrylovBasis
from lightning_lazy.curvature.vectors import SymmetricOperator
from lightning_lazy.errors import InputError

Which = Literal["LA", "SA", "LM"]


@dataclass(frozen=True)
class Eigenpairs:
    """Extreme eigenvalues of a symmetric matrix A, the most extreme first.

    Attributes:
        values: θ, float64 on the CPU, shape ``(k,)``; not numbers where a product was not finite.
        residuals: Bounds on ‖A x − θ x‖ with the unit eigenvectors x, so an eigenvalue of A lies
            within this of θ. The rounding of the type is included, that inside the products not.
        products: Products with A that it took.
        converged: Whether all residuals fell below the tolerance.
        vectors: x as orthonormal columns, shape ``(dim, k)``, on the operator's device; ``None``
            where not asked for.
    """

    values: Tensor
    residuals: Tensor
    products: int
    converged: bool
    vectors: Tensor | None = None


@torch.no_grad()
def lanczos(
    operator: SymmetricOperator,
    k: int = 1,
    *,
    which: Which = "LA",
    tolerance: float = 1e-3,
    max_products: int = 300,
    max_basis: int | None = None,
    start: Tensor | None = None,
    eigenvectors: bool = False,
    seed: int = 0,
) -> Eigenpairs:
    r"""Return k extreme eigenvalues of a symmetric operator, from products with it alone.

    The Lanczos method with full reorthogonalisation, restarted thickly (Wu & Simon 2000) where the
    basis is full. It ends where all residuals are at most ``tolerance`` · \|θ\|; values below a
    thousandth of the spectral norm are held to ``tolerance`` times that thousandth.

    From one start, copies of a multiple eigenvalue hide: they are found where the Krylov space
    closes (then the search goes on from a random vector orthogonal to it), or from a ``start``
    with as many columns as there are copies.

    Args:
        operator: A, such as a `HessianOperator`.
        k: Number of eigenvalues.
        which: ``LA``: the largest; ``SA``: the smallest; ``LM``: the largest in magnitude.
        tolerance: Largest relative residual. The eigenvalue's own error is smaller, about the
            square of the residual over the gap to the other eigenvalues.
        max_products: Stop after so many products, converged or not.
        max_basis: Largest number of vectors of length ``dim`` kept on the device, at least k + 2
            and the columns of ``start`` + 2; ``None``: 4k + 20. A smaller one takes more products.
        start: Vectors to start from, shape ``(dim,)`` or ``(dim, j)``: the eigenvectors of an
            operator near A, such as the Hessian some steps ago. ``None``: a random one.
        eigenvectors: Whether to return eigenvectors.
        seed: Of random vectors, which are drawn on the CPU from a generator of their own.

    Raises:
        InputError: k is larger than ``dim``, the start does not fit, or a number or an option is
            out of range.
    """
    check_choice("which", which, get_args(Which))
    if check_size("k", k) > operator.dim:
        raise InputError(
            f"k must be at most the operator's dim {operator.dim}, got {k}; ask for fewer"
        )
    tolerance = check_number("tolerance", tolerance)
    check_size("max_products", max_products, k)
    columns = _start_columns(operator, start)
    size = 4 * k + 20 if max_basis is None else check_size("max_basis", max_basis, k + 2)
    basis = KrylovBasis(operator, min(operator.dim, max(size, columns.shape[1] + 2)))
    search = _Search(basis, k, which, tolerance, torch.Generator().manual_seed(seed))
    settled = search.run(columns, max_products)
    return search.result(settled, eigenvectors)


def _start_columns(operator: SymmetricOperator, start: Tensor | None) -> Tensor:
    if start is None:
        return torch.empty(operator.dim, 0, device=operator.device, dtype=operator.dtype)
    columns = start.detach().reshape(len(start), -1) if start.ndim else start.reshape(1, 1)
    if len(columns) != operator.dim or start.ndim > 2 or not bool(columns.isfinite().all()):
        raise InputError(
            f"start must be finite, of shape [{operator.dim}] or [{operator.dim}, j], got "
            f"{list(start.shape)}; pass the vectors of an earlier result or None"
        )
    return columns.to(operator.device, operator.dtype)


class _Search:
    """A search for the k most extreme eigenvalues on a growing basis."""

    def __init__(
        self,
        basis: KrylovBasis,
        k: int,
        which: Which,
        tolerance: float,
        generator: torch.Generator,
    ) -> None:
        self.basis = basis
        self.k = k
        self.which = which
        self.tolerance = tolerance
        self.generator = generator
        self.pairs = basis.ritz()

    def run(self, columns: Tensor, max_products: int) -> bool:
        """Grow the basis from start columns, or a random one; return whether that succeeded."""
        basis = self.basis
        waiting = basis.add(columns.T)
        while basis.finite:
            if not waiting and self._exhausted():
                if self._complete():
                    return True
                self._begin_anew()
            if basis.products == max_products:
                return False
            if basis.full:
                self._restart()
            basis.grow(0 if waiting else self._next_direction())
            waiting = max(waiting - 1, 0)
            if basis.finite:
                self.pairs = basis.ritz()
        return False

    def result(self, settled: bool, eigenvectors: bool) -> Eigenpairs:
        """Return the k best pairs of the basis."""
        products = self.basis.products
        if not self.basis.finite:
            nothing = torch.full((self.k,), math.nan, dtype=torch.float64)
            return Eigenpairs(nothing, nothing, products, False)
        best = self._order()[: self.k]
        residuals = self._residuals()
        # The others may still be coupled to the locked ones, within the residuals of these.
        front = self.basis.locked
        residuals[front:] = (residuals[front:].square() + residuals[:front].square().sum()).sqrt()
        residuals = residuals[best]
        vectors = self.basis.vectors(self.pairs.coefficients[:, best]).T if eigenvectors else None
        settled = settled and bool((residuals <= self._allowed()[best]).all())
        return Eigenpairs(self.pairs.values[best], residuals, products, settled, vectors)

    def _exhausted(self) -> bool:
        """Return whether the present start vectors have given what they can."""
        basis, order = self.basis, self._order()
        if basis.closed or len(basis) == basis.dim:
            return True
        wanted = torch.cat([order[: self.k], order[order >= basis.locked][:1]])
        return len(basis) >= self.k and not bool(self._unfinished()[wanted].any())

    def _complete(self) -> bool:
        """Return whether no better eigenvalue is hidden.

        From one vector, a single copy of a multiple eigenvalue is found. Where the Krylov space is
        closed, none is left if the best that a random vector orthogonal to those found leads to is
        not among the k best.
        """
        basis, order = self.basis, self._order()
        if len(basis) == basis.dim:
            return True
        if not basis.locked:
            return not basis.closed
        newest = order[order >= basis.locked][0]
        return basis.locked >= self.k and bool(newest not in order[: self.k])

    def _begin_anew(self) -> None:
        """Keep the best pairs and go on from a random vector orthogonal to them."""
        self.basis.lock(self.pairs, self._order()[: self.k])
        self.basis.add(self.basis.random_direction(self.generator))
        self.pairs = self.basis.ritz()

    def _restart(self) -> None:
        """Keep the better half of the basis, and what is locked."""
        front = self.basis.locked
        order = self._order()
        room = len(self.basis) - front
        keep = max(1, min(room - 1, (room + self.k) // 2))
        kept = torch.cat([torch.arange(front), order[order >= front][:keep]])
        self.basis.compress(self.pairs, kept)
        self.pairs = self.basis.ritz()

    def _next_direction(self) -> int:
        """Return what the best pair that is not good enough asks for."""
        order = self._order()
        order = order[order >= self.basis.locked]
        if not len(order):
            return 0
        bad = order[self._unfinished()[order]]
        return self.basis.largest_part(self.pairs.coefficients[:, bad[0] if len(bad) else order[0]])

    def _unfinished(self) -> Tensor:
        return self._residuals() > self._allowed()

    def _allowed(self) -> Tensor:
        sizes = self.pairs.values.abs().clamp(min=1e-3 * self.basis.scale)
        return (self.tolerance * sizes).clamp(min=self.basis.rounding)

    def _residuals(self) -> Tensor:
        return self.pairs.residuals.clamp(min=self.basis.rounding)

    def _order(self) -> Tensor:
        """Return the indices of all pairs, the best first; of equal ones the locked first."""
        values = self.pairs.values
        key = {"LA": -values, "SA": values, "LM": -values.abs()}[self.which]
        return torch.argsort(key, stable=True)
