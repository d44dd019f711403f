"""Eigenvalues against numpy.linalg.eigvalsh of dense float64 matrices.

Tolerances: with a residual tolerance of 1e-10 an eigenvalue errs by at most that (Weyl), and
in practice rounding, some 1e-14 of the norm.
"""

from typing import Any

import numpy as np
import pytest
import torch
from matrices import Matrix, with_spectrum
from torch import Tensor

from lightning_lazy.curvature.lanczos import Eigenpairs, Which, lanczos
from lightning_lazy.curvature.vectors import warm_start
from lightning_lazy.errors import InputError

SPECTRA: dict[str, list[float]] = {
    "dense": list(np.linspace(-1, 1, 60)),
    "outliers": [10.0, 8.0, -9.0, 5.0, *np.linspace(-0.1, 0.1, 100)],
    "clustered": [1.0, 1 - 1e-6, 1 - 2e-6, -1.0, -1 + 1e-6, -1 + 2e-6, *np.linspace(-0.5, 0.5, 40)],
    "negative": list(-np.linspace(1, 3, 30)),
    "few distinct": [3.0, 3.0, 3.0, 1.0, 1.0, 0.0, 0.0, 0.0],
    "rank three": [5.0, 2.0, 1.0, *[0.0] * 30],
    "identity": [1.0] * 6,
    "zero": [0.0] * 5,
    "one": [-2.0],
    "two": [1.0, -3.0],
}


def exact(operator: Matrix, k: int, which: Which) -> np.ndarray:
    values = np.linalg.eigvalsh(operator.dense.numpy())
    key = {"LA": -values, "SA": values, "LM": -np.abs(values)}[which]
    return values[np.argsort(key)][:k]


def true_residuals(operator: Matrix, result: Eigenpairs) -> Tensor:
    assert result.vectors is not None
    product = operator.dense @ result.vectors.to(operator.dtype)
    return (product - result.values.to(operator.dtype) * result.vectors).norm(dim=0)


@pytest.mark.parametrize("which", ["LA", "SA", "LM"])
@pytest.mark.parametrize("name", SPECTRA)
def test_eigenvalues_are_those_of_the_dense_matrix(name: str, which: Which) -> None:
    for k in range(1, min(3, len(SPECTRA[name])) + 1):
        operator = with_spectrum(SPECTRA[name])
        result = lanczos(operator, k, which=which, tolerance=1e-10, eigenvectors=True)
        wanted = exact(operator, k, which)
        if which == "LM":  # the sign of two values of one magnitude is a matter of rounding
            np.testing.assert_allclose(result.values.abs(), np.abs(wanted), atol=1e-9)
        else:
            np.testing.assert_allclose(result.values, wanted, atol=1e-9)
        assert result.converged
        assert result.products == operator.products
        assert result.vectors is not None
        gram = result.vectors.T @ result.vectors
        torch.testing.assert_close(gram, torch.eye(k, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("which", ["LA", "SA", "LM"])
@pytest.mark.parametrize("name", SPECTRA)
@pytest.mark.parametrize("products", [1, 3, 8, 20])
def test_the_error_bounds_hold_wherever_the_search_stops(
    name: str, which: Which, products: int
) -> None:
    # Rounding of dense products of this size: 1e-14.
    operator = with_spectrum(SPECTRA[name])
    k = min(2, products, operator.dim)
    result = lanczos(
        operator, k, which=which, tolerance=1e-12, max_products=products, eigenvectors=True
    )
    assert bool((true_residuals(operator, result) <= result.residuals + 1e-14).all())
    values = np.linalg.eigvalsh(operator.dense.numpy())
    distances = np.abs(values - result.values.numpy()[:, None]).min(axis=1)
    assert bool((distances <= result.residuals.numpy() + 1e-14).all())


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4])
def test_it_ends_at_the_relative_residual_asked_for(tolerance: float) -> None:
    operator = with_spectrum(SPECTRA["outliers"])
    result = lanczos(operator, 3, tolerance=tolerance)
    assert result.converged
    assert bool((result.residuals <= tolerance * result.values.abs()).all())
    fewer = lanczos(operator, 3, tolerance=tolerance, max_products=result.products - 1)
    assert not fewer.converged
    assert fewer.products == result.products - 1


@pytest.mark.parametrize("which", ["LA", "SA", "LM"])
def test_a_small_basis_gives_the_same_with_restarts(which: Which) -> None:
    # The oracle is dense; the basis holds 12 of some 40 vectors that it takes without restarts.
    operator = with_spectrum(list(np.linspace(-1, 1.1, 80) ** 3))
    result = lanczos(operator, 3, which=which, tolerance=1e-9, max_basis=12, max_products=1000)
    assert result.products > 36
    np.testing.assert_allclose(result.values, exact(operator, 3, which), atol=1e-9)


def test_a_block_start_finds_copies_that_one_vector_hides() -> None:
    spectrum = [5.0, 5.0, 3.0, *np.linspace(0, 1, 40)]
    operator = with_spectrum(spectrum)
    start = torch.randn(operator.dim, 2, generator=torch.Generator().manual_seed(1)).double()
    result = lanczos(operator, 2, start=start, tolerance=1e-8)
    np.testing.assert_allclose(result.values, [5.0, 5.0], atol=1e-9)


@pytest.mark.parametrize("k", [1, 3])
def test_a_warm_start_takes_fewer_products(k: int) -> None:
    operator = with_spectrum(SPECTRA["outliers"])
    before = lanczos(operator, k, which="LM", eigenvectors=True)
    noise = torch.randn(operator.dense.shape, generator=torch.Generator().manual_seed(1)).double()
    moved = Matrix(operator.dense + 1e-3 * (noise + noise.T))
    cold = lanczos(moved, k, which="LM")
    warm = lanczos(moved, k, which="LM", start=before.vectors)
    assert warm.converged
    assert warm.products < cold.products
    np.testing.assert_allclose(warm.values, exact(moved, k, "LM"), rtol=1e-3)


def test_a_warm_start_is_turned_on_by_half_of_the_last_turn() -> None:
    # Closed form: x at the angle φ and Y at 0 give x + ½ sin φ times the direction across Y.
    angle = torch.tensor(0.3, dtype=torch.float64)
    now, last = torch.stack([angle.cos(), angle.sin()])[:, None], torch.eye(2).double()[:, :1]
    found = warm_start(now, last)
    expected = torch.stack([angle.cos(), 1.5 * angle.sin()])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-15)
    assert torch.equal(warm_start(now, None), now[:, 0])


def test_several_eigenvectors_are_found_sooner_from_their_sum_than_from_their_block() -> None:
    operator = with_spectrum([*np.linspace(5, 12, 8), *np.linspace(-0.5, 1, 150)])
    before = lanczos(operator, 4, eigenvectors=True)
    assert before.vectors is not None
    noise = torch.randn(operator.dense.shape, generator=torch.Generator().manual_seed(1)).double()
    moved = Matrix(operator.dense + 1e-2 * (noise + noise.T))
    cold, block = lanczos(moved, 4), lanczos(moved, 4, start=before.vectors)
    together = lanczos(moved, 4, start=warm_start(before.vectors, None))
    assert together.products < min(cold.products, block.products)
    np.testing.assert_allclose(together.values, exact(moved, 4, "LA"), rtol=1e-5)


def test_eigenvectors_as_start_are_recognised_at_one_product_each() -> None:
    operator = with_spectrum(SPECTRA["outliers"])
    found = lanczos(operator, 3, tolerance=1e-6, eigenvectors=True)
    assert lanczos(operator, 3, start=found.vectors).products == 3


@pytest.mark.parametrize("start", [torch.zeros(64), torch.zeros(64, 2), torch.ones(64, 3)])
def test_useless_start_vectors_do_no_harm(start: Tensor) -> None:
    operator = with_spectrum(SPECTRA["outliers"][:4] + [0.1 * i / 60 for i in range(60)])
    result = lanczos(operator, 2, start=start, tolerance=1e-10)
    np.testing.assert_allclose(result.values, exact(operator, 2, "LA"), atol=1e-9)


def test_single_precision_reaches_its_rounding_and_reports_no_less() -> None:
    # A residual of 1e-3 |θ| bounds the error; rounding of float32 products is some 1e-6 here.
    double = with_spectrum(SPECTRA["outliers"])
    operator = Matrix(double.dense.float())
    result = lanczos(operator, 3, tolerance=1e-12, eigenvectors=True)
    assert result.converged
    np.testing.assert_allclose(result.values, exact(double, 3, "LA"), rtol=1e-5)
    assert bool((true_residuals(operator, result) <= 2 * result.residuals).all())


def test_the_same_seed_gives_the_same_and_nothing_global_is_drawn() -> None:
    before = torch.get_rng_state()
    first = lanczos(with_spectrum(SPECTRA["dense"]), 2)
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(1)
    assert torch.equal(first.values, lanczos(with_spectrum(SPECTRA["dense"]), 2).values)
    assert first.vectors is None


def test_products_that_are_not_finite_give_nan() -> None:
    operator = Matrix(torch.full((4, 4), float("nan"), dtype=torch.float64))
    result = lanczos(operator, 2, eigenvectors=True)
    assert result.values.isnan().all()
    assert (result.converged, result.products, result.vectors) == (False, 1, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 4}, "k must be at most the operator's dim 3, got 4"),
        ({"k": 0}, "k must be an integer of at least 1"),
        ({"which": "BE"}, "which must be one of LA, SA, LM"),
        ({"tolerance": 0.0}, "tolerance must be finite and above 0"),
        ({"max_products": 1, "k": 2}, "max_products must be an integer of at least 2"),
        ({"max_basis": 2}, "max_basis must be an integer of at least 3"),
        ({"start": torch.ones(4)}, r"of shape \[3\] or \[3, j\], got \[4\]"),
        ({"start": torch.ones(3) / 0}, "start must be finite"),
        ({"start": torch.ones(3, 1, 1)}, r"got \[3, 1, 1\]"),
    ],
)
def test_bad_input_gets_one_clear_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        lanczos(with_spectrum([1.0, 2.0, 3.0]), **changes)
