"""Eigenpairs of a matrix that moves, each search started from the last."""

from typing import Any

from torch import Tensor

from lightning_lazy.checks import check_number, check_size
from lightning_lazy.curvature.lanczos import Eigenpairs, Which, lanczos
from lightning_lazy.curvature.vectors import SymmetricOperator, warm_start


class TrackedEigenpairs:
    """Finds the k extreme eigenvalues of one matrix after another.

    Args:
        k: Number of eigenvalues.
        which: Which ones.
        tolerance: Residual, relative to the eigenvalue.
        max_products: Of one search.
        fresh_every: Searches from one random start to the next.

    Raises:
        InputError: A number is out of range.
    """

    def __init__(
        self, k: int, *, which: Which, tolerance: float, max_products: int, fresh_every: int
    ) -> None:
        self.k = check_size("k", k)
        self.which = which
        self.tolerance = check_number("tolerance", tolerance)
        self.max_products = check_size("max_products", max_products, self.k)
        self.fresh_every = check_size("fresh_every", fresh_every)
        self._searches = 0
        self._vectors: Tensor | None = None
        self._start: Tensor | None = None

    def find(self, operator: SymmetricOperator) -> tuple[Eigenpairs, float | None]:
        """Return the eigenpairs, and the overlap of their span with that of the last ones.

        The overlap is ``None`` where there are none to compare.
        """
        last = self._vectors
        if last is not None and len(last) != operator.dim:
            last = self._start = None  # other parameters are trained now
        fresh = self._searches % self.fresh_every == 0
        pairs = lanczos(
            operator,
            self.k,
            which=self.which,
            tolerance=self.tolerance,
            max_products=self.max_products,
            start=None if fresh else self._start,
            eigenvectors=True,
            seed=self._searches,
        )
        self._searches += 1
        now = pairs.vectors
        if now is None or not bool(now.isfinite().all()):
            self._vectors = self._start = None
            return pairs, None
        last = None if last is None else last.to(now)
        self._vectors, self._start = now, warm_start(now, last)
        overlap = None if last is None else float((last.T @ now).square().sum() / self.k)
        return pairs, overlap

    def state_dict(self) -> dict[str, Any]:
        """Return the last eigenvectors, and where the next search starts."""
        return {"vectors": self._vectors, "start": self._start, "searches": self._searches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the same vectors."""
        self._vectors, self._start = state_dict["vectors"], state_dict["start"]
        self._searches = state_dict["searches"]
