"""Spectral density of a symmetric operator by stochastic Lanczos quadrature."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_lazy.checks import check_number, check_size
from lightning_lazy.curvature.krylov import KrylovBasis
from lightning_lazy.curvature.vectors import SymmetricOperator


@dataclass(frozen=True)
class SpectralDensity:
    """A density of eigenvalues, as weighted nodes from each of several random probes.

    The estimate from a probe is unbiased: what is reported are means over probes, with their
    standard errors (not a number for one probe).

    Attributes:
        nodes: Float64 on the CPU, shape ``(probes, steps)``.
        weights: Their shares, which add up to 1 for each probe; 0 where a probe has fewer nodes.
            Neither are numbers where a product was not finite.
        dim: Number of eigenvalues that the density stands for.
        products: Products with the operator that it took.
    """

    nodes: Tensor
    weights: Tensor
    dim: int
    products: int

    def moment(self, order: int) -> tuple[float, float]:
        """Return tr(Aᵖ)/dim for p = ``order``, and its standard error.

        Exact for each probe up to p = 2 · steps − 1, so the error is that of the probes alone.
        """
        mean, error = _over_probes((self.weights * self.nodes**order).sum(dim=1))
        return float(mean), float(error)

    def density(self, grid: Tensor, width: float) -> tuple[Tensor, Tensor]:
        """Return the density, each eigenvalue blurred by a Gaussian, and its standard error.

        Args:
            grid: Where, shape ``(points,)``.
            width: Standard deviation of the Gaussian, in units of the eigenvalues.
        """
        width = check_number("width", width)
        points = grid.to(self.nodes)[:, None, None]
        bells = torch.exp(-0.5 * ((points - self.nodes) / width) ** 2)
        return _over_probes((self.weights * bells).sum(dim=2).T / (width * math.sqrt(2 * math.pi)))

    def rows(self) -> Iterator[dict[str, float]]:
        """Return the nodes as rows of a table: ``probe``, ``eigenvalue``, ``weight``.

        There are none where they are not numbers.
        """
        for probe, (nodes, weights) in enumerate(zip(self.nodes, self.weights, strict=True)):
            for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
                if weight > 0:
                    yield {"probe": probe, "eigenvalue": node, "weight": weight}


@torch.no_grad()
def spectral_density(
    operator: SymmetricOperator, *, probes: int = 8, steps: int = 64, seed: int = 0
) -> SpectralDensity:
    r"""Return the spectral density of a symmetric operator, from products with it alone.

    .. math:: \frac{1}{d} \operatorname{tr} f(A) = \mathbb{E} \, v^\top f(A) \, v
              \approx \frac{1}{\text{probes}} \sum_v \sum_j \tau_j^2 \, f(\theta_j)

    over random unit vectors v. The Ritz values θ and the squared first components τ² of their
    eigenvectors are the Gauss quadrature of v's spectral measure (Golub & Meurant 1994; Ghorbani,
    Krishnan & Xiao 2019). The basis, of ``steps`` vectors, is fully reorthogonalised.

    Args:
        operator: A, such as a `HessianOperator`.
        probes: Random vectors. The standard error falls like one over the square root of
            ``probes`` times ``dim``.
        steps: Products for each; the resolution.
        seed: Of the vectors, drawn on the CPU from a generator of their own.

    Raises:
        InputError: A number is below 1.
    """
    check_size("probes", probes)
    steps = min(check_size("steps", steps), operator.dim)
    generator = torch.Generator().manual_seed(seed)
    nodes = torch.zeros(probes, steps, dtype=torch.float64)
    weights, products = torch.zeros_like(nodes), 0
    for probe in range(probes):
        basis = KrylovBasis(operator, steps)
        basis.add(basis.random_direction(generator))
        while not basis.closed and not basis.full:
            basis.grow(0)
            if not basis.finite:
                nothing = torch.full_like(nodes, math.nan)
                return SpectralDensity(nothing, nothing, operator.dim, products + basis.products)
        pairs, count = basis.ritz(), len(basis)
        nodes[probe, :count] = pairs.values
        weights[probe, :count] = pairs.coefficients[0].square()
        products += basis.products
    return SpectralDensity(nodes, weights, operator.dim, products)


def _over_probes(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard error along the first axis."""
    error = values.std(dim=0) / math.sqrt(len(values)) if len(values) > 1 else values[0] * math.nan
    return values.mean(dim=0), error
