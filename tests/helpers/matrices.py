"""Dense symmetric matrices of known spectra, as operators."""

from collections.abc import Sequence

import torch
from torch import Tensor


class Matrix:
    """A dense symmetric matrix that counts its products."""

    def __init__(self, dense: Tensor) -> None:
        self.dense = dense
        self.dim, self.device, self.dtype = len(dense), dense.device, dense.dtype
        self.products = 0

    def __call__(self, vector: Tensor) -> Tensor:
        self.products += 1
        return self.dense @ vector


def with_spectrum(eigenvalues: Sequence[float], seed: int = 0) -> Matrix:
    """Return a float64 matrix with given eigenvalues and random eigenvectors."""
    n, generator = len(eigenvalues), torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=generator))
    return Matrix((q * torch.tensor(eigenvalues, dtype=torch.float64)) @ q.T)
