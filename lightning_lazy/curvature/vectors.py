"""Parameters as one flat vector, and what operators on such vectors share."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from lightning_lazy.curvature.functional import Parameters

Reduce = Callable[[Tensor], Tensor]


class SymmetricOperator(Protocol):
    """A real symmetric matrix A of which only the products v ↦ A v are known.

    Attributes:
        dim: Number of rows.
        device: Where vectors live.
        dtype: Type of the vectors.
    """

    dim: int
    device: torch.device
    dtype: torch.dtype

    def __call__(self, vector: Tensor) -> Tensor:
        """Return A v, shape ``(dim,)``, for v of the same shape."""
        ...


class ShiftedOperator:
    """A + c·1, whose eigenvectors are those of A.

    Args:
        operator: A.
        shift: c.
    """

    def __init__(self, operator: SymmetricOperator, shift: float) -> None:
        self.dim, self.device, self.dtype = operator.dim, operator.device, operator.dtype
        self._operator = operator
        self._shift = shift

    def __call__(self, vector: Tensor) -> Tensor:
        """Return A v + c v."""
        return self._operator(vector) + self._shift * vector


def identity(value: Tensor) -> Tensor:
    """Return what is given: the sum over the processes where there is one."""
    return value


def as_vector(parameters: Parameters) -> Tensor:
    """Return all parameters as one vector, in the order of the dictionary."""
    return torch.cat([p.reshape(-1) for p in parameters.values()])


def as_dict(vector: Tensor, like: Parameters) -> Parameters:
    """Return a vector as parameters of the names and shapes of ``like``, views of the vector."""
    parts = torch.split(vector, [p.numel() for p in like.values()])
    return {n: part.view_as(p) for part, (n, p) in zip(parts, like.items(), strict=True)}


def random_unit(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return a random vector of length 1, uniform on the sphere, of the size and type of ``like``.

    It is drawn in double precision on the CPU, so that every device and rank gets the same.
    """
    vector = torch.randn(like.numel(), dtype=torch.float64, generator=generator)
    return (vector / vector.norm()).to(like)


def warm_start(now: Tensor, last: Tensor | None) -> Tensor:
    r"""Return where to look for the eigenvectors of the next of a series of matrices that move.

    .. math:: \sum_j x_j + \tfrac12 (1 - Y Y^\top) \, x_j

    The eigenvectors found are turned on by half of what they turned since the last matrix. From
    their sum one Krylov space serves all of them; from a block of them each would get its own, of
    a lower order for as many products.

    Args:
        now: Orthonormal eigenvectors x as columns, shape ``(dim, k)``.
        last: Those of the matrix before, Y, shape ``(dim, k)``; ``None``: there was none.

    Returns:
        Shape ``(dim,)``.
    """
    if last is not None:
        now = now + 0.5 * (now - last @ (last.T @ now))
    return now.sum(dim=1)
