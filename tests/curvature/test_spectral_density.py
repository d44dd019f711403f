"""Stochastic Lanczos quadrature against dense spectra, float64."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matrices import Matrix, with_spectrum

from lightning_lazy.curvature.spectral_density import SpectralDensity, spectral_density
from lightning_lazy.errors import InputError
from lightning_lazy.figures.spectral_density import draw

SPECTRUM = [10.0, 6.0, -4.0, *np.linspace(-1, 1, 197)]


@pytest.mark.parametrize("order", [1, 2, 3])
def test_moments_are_the_traces_of_powers_within_their_errors(order: int) -> None:
    # Oracle: the sum of powers of the eigenvalues. Four standard errors: one in 16,000.
    density = spectral_density(with_spectrum(SPECTRUM), probes=64, steps=20)
    moment, error = density.moment(order)
    exact = float((np.array(SPECTRUM) ** order).mean())
    assert abs(moment - exact) < 4 * error
    assert error < 0.2 * np.abs(np.array(SPECTRUM) ** order).mean()


def test_the_moments_of_a_probe_are_exact_up_to_twice_the_steps() -> None:
    # Gauss quadrature with m nodes is exact for polynomials of degree 2m - 1: here m = 3.
    operator = with_spectrum(list(np.linspace(-1, 1, 30)))
    density = spectral_density(operator, probes=1, steps=3, seed=5)
    generator = torch.Generator().manual_seed(5)
    v = torch.randn(30, dtype=torch.float64, generator=generator)
    v /= v.norm()
    for order in range(6):
        power = torch.linalg.matrix_power(operator.dense, order)
        assert density.moment(order)[0] == pytest.approx(float(v @ power @ v), rel=1e-10)
    power = torch.linalg.matrix_power(operator.dense, 6)
    assert density.moment(6)[0] != pytest.approx(float(v @ power @ v), rel=1e-3)
    assert math.isnan(density.moment(1)[1])


def test_the_standard_error_is_the_scatter_between_seeds() -> None:
    # Oracle: the standard deviation of 40 independent estimates, itself known to 11%.
    runs = [
        spectral_density(with_spectrum(SPECTRUM), probes=16, steps=8, seed=s) for s in range(40)
    ]
    scatter = np.std([run.moment(1)[0] for run in runs], ddof=1)
    claimed = np.sqrt(np.mean([run.moment(1)[1] ** 2 for run in runs]))
    assert claimed == pytest.approx(scatter, rel=0.4)


def test_the_density_is_that_of_the_known_spectrum() -> None:
    # Oracle: the blurred dense spectrum. Probes of 200 dimensions scatter; the error says by how
    # much, and the mean square of the deviations in its units is about 1.
    density = spectral_density(with_spectrum(SPECTRUM), probes=64, steps=60)
    grid, width = torch.linspace(-5, 11, 50, dtype=torch.float64), 0.5
    mean, error = density.density(grid, width)
    bells = np.exp(-0.5 * ((grid.numpy()[:, None] - np.array(SPECTRUM)) / width) ** 2)
    exact = bells.mean(axis=1) / (width * math.sqrt(2 * math.pi))
    np.testing.assert_allclose(mean, exact, atol=0.02)
    pulls = ((mean - torch.from_numpy(exact)) / error)[torch.from_numpy(exact) > 1e-4]
    assert 0.2 < float(pulls.square().mean()) < 3
    fine = torch.linspace(-10, 16, 5000, dtype=torch.float64)
    total = float(torch.trapezoid(density.density(fine, width)[0], fine))
    assert total == pytest.approx(1, abs=1e-6)


def test_as_many_steps_as_dimensions_give_all_eigenvalues() -> None:
    density = spectral_density(with_spectrum([3.0, 1.0, -2.0, 0.5]), probes=3, steps=10)
    expected = torch.tensor([-2.0, 0.5, 1.0, 3.0]).double().expand(3, 4)
    torch.testing.assert_close(density.nodes, expected, rtol=0, atol=1e-12)
    assert (density.products, density.dim) == (12, 4)


def test_a_spectrum_of_few_values_closes_early_and_weights_still_add_up() -> None:
    density = spectral_density(with_spectrum([2.0] * 10 + [0.0] * 30), probes=4, steps=16)
    assert density.products < 16 * 4
    torch.testing.assert_close(density.weights.sum(dim=1), torch.ones(4).double())
    moment, error = density.moment(1)
    assert abs(moment - 0.5) < 4 * error
    zero = spectral_density(Matrix(torch.zeros(5, 5).double()), probes=2, steps=3)
    assert zero.moment(0) == (pytest.approx(1), pytest.approx(0))
    assert zero.moment(1)[0] == 0


def test_probes_come_from_the_seed_alone() -> None:
    before = torch.get_rng_state()
    first = spectral_density(with_spectrum(SPECTRUM), probes=2, steps=5)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(
        first.nodes, spectral_density(with_spectrum(SPECTRUM), probes=2, steps=5).nodes
    )


def test_bad_input_gets_one_clear_line() -> None:
    with pytest.raises(InputError, match="probes must be an integer"):
        spectral_density(with_spectrum([1.0]), probes=0)
    with pytest.raises(InputError, match="steps must be an integer"):
        spectral_density(with_spectrum([1.0]), steps=0)
    with pytest.raises(InputError, match="width must be finite and above 0"):
        spectral_density(with_spectrum([1.0])).density(torch.zeros(1), 0.0)


def test_products_that_are_not_finite_give_nan() -> None:
    density = spectral_density(Matrix(torch.full((2, 2), math.inf).double()))
    assert math.isnan(density.moment(1)[0])
    assert list(density.rows()) == []
    assert density.products == 1


def test_a_figure_is_drawn_from_the_table_of_a_run(tmp_path: Path) -> None:
    densities: dict[int, SpectralDensity] = {
        step: spectral_density(with_spectrum([5.0 + step, *SPECTRUM]), probes=2, steps=10)
        for step in range(8)
    }
    rows = [{"step": step, **row} for step, d in densities.items() for row in d.rows()]
    pd.DataFrame(rows).to_csv(tmp_path / "spectrum.csv", index=False)
    (path,) = draw(tmp_path)
    assert path == tmp_path / "figures" / "spectral_density.png"
    assert path.stat().st_size > 10_000
    with pytest.raises(InputError, match="expected a table of spectra"):
        draw(tmp_path / "none")
