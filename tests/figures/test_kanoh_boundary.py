"""Edges of divergence, power laws, best cells. Oracles: lines by hand, a slope put in, SciPy, and
gradient descent on least squares, which diverges above 2/λ_max."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from grids import digits, fit, make_grid
from scipy.stats import linregress

from lightning_lazy.figures.kanoh import phase_diagram
from lightning_lazy.figures.kanoh.boundary import (
    band_width,
    best_of,
    edge_of_divergence,
)
from lightning_lazy.figures.kanoh.power_law import fit_longest_stretch, fit_power_law
from lightning_lazy.losses import SquaredLoss


@pytest.mark.parametrize(
    ("diverged", "side", "expected"),
    [
        ("....DDDD", "above", (1e3, 1e4, 0)),
        ("DDDD....", "below", (1e3, 1e4, 0)),
        (".......D", "above", (1e6, 1e7, 0)),
        ("D.......", "below", (1.0, 10.0, 0)),
        ("..D.DDDD", "above", (10.0, 100.0, 1)),  # of two cuts with one exception the lower one
        (".D..DDDD", "above", (1e3, 1e4, 1)),
        ("....DD.D", "above", (1e3, 1e4, 1)),
        ("........", "above", None),
        ("DDDDDDDD", "above", None),
        ("..D.....", "above", None),  # a single cell in the middle is no edge
        ("DDDD....", "above", None),
        ("....DDDD", "below", None),
    ],
)
def test_an_edge_is_the_cut_that_the_fewest_cells_contradict(
    diverged: str, side: str, expected: tuple[float, float, int] | None
) -> None:
    values = 10.0 ** np.arange(8)
    order = np.random.default_rng(0).permutation(8)
    marks = np.array([mark == "D" for mark in diverged])
    edge = edge_of_divergence(values[order].tolist(), marks[order].tolist(), side)  # type: ignore[arg-type]
    if expected is None:
        assert edge is None
        return
    low, high, exceptions = expected
    assert edge is not None
    assert (edge.low, edge.high, edge.exceptions) == (low, high, exceptions)
    assert edge.value == pytest.approx((low * high) ** 0.5, rel=1e-15)


def test_between_cells_that_are_far_apart_the_edge_is_less_certain() -> None:
    edge = edge_of_divergence([1.0, 2.0, 32.0], [False, False, True])
    assert edge is not None
    assert (edge.value, edge.low, edge.high) == (8.0, 2.0, 32.0)


def test_a_power_law_without_scatter_has_the_error_of_its_cells() -> None:
    # By hand: u = −1, 0, 1 in ln x; σ = ln(4)/2; error = σ/√Σu².
    x = np.exp([-1.0, 0.0, 1.0])
    y = 5 * x**1.03
    law = fit_power_law(x.tolist(), y.tolist(), (y / 2).tolist(), (y * 2).tolist())
    assert law is not None
    assert law.exponent == pytest.approx(1.03, abs=1e-14)
    assert law.factor == pytest.approx(5, rel=1e-14)
    assert law.error == pytest.approx(np.log(4) / 2 / 2**0.5, rel=1e-14)
    assert law(2.0) == pytest.approx(5 * 2**1.03, rel=1e-13)


def test_a_power_law_with_scatter_has_the_error_of_ordinary_least_squares() -> None:
    # Oracle: scipy.stats.linregress; the scatter is far above the width of the cells.
    rng = np.random.default_rng(0)
    u = np.linspace(-5, 5, 12)
    v = 0.7 * u + 2 + rng.normal(size=12)
    y = np.exp(v)
    law = fit_power_law(np.exp(u).tolist(), y.tolist(), (y * 0.99).tolist(), (y * 1.01).tolist())
    reference = linregress(u, v)
    assert law is not None
    assert law.exponent == pytest.approx(reference.slope, rel=1e-10)
    assert law.error == pytest.approx(reference.stderr, rel=1e-10)


def test_edges_that_are_less_certain_weigh_less() -> None:
    # Oracle: numpy.polyfit, whose weights multiply residuals: 1/σ.
    u, v = np.arange(4.0), np.array([0.0, 1.2, 1.9, 9.0])
    half = np.array([0.1, 0.2, 0.1, 3.0])
    y = np.exp(v)
    law = fit_power_law(*(a.tolist() for a in (np.exp(u), y, y * np.exp(-half), y * np.exp(half))))
    assert law is not None
    assert law.exponent == pytest.approx(np.polyfit(u, v, 1, w=1 / half)[0], rel=1e-10)


def test_the_slope_of_made_up_diagrams_is_found_within_its_error() -> None:
    # Half decades, 13 values of α, edges η = c α^1.03 with any c, exactly or with scatter: in 200
    # diagrams the slope must be unbiased, and no more than 5% beyond two errors.
    rng = np.random.default_rng(1)
    alpha, rates = 10.0 ** np.arange(-6, 7), 10.0 ** np.arange(-9, 9.5, 0.5)
    pulls = []
    for _ in range(200):
        scatter = 10 ** rng.normal(0, rng.choice([0, 0.1, 0.5]), size=13)
        critical = 10 ** rng.uniform(-1, 1) * alpha**1.03 * scatter
        edges = [edge_of_divergence(rates.tolist(), (rates > c).tolist()) for c in critical]
        value, low, high, _ = zip(*(edge for edge in edges if edge is not None), strict=True)
        law = fit_power_law(alpha.tolist(), value, low, high)
        assert law is not None
        pulls.append((law.exponent - 1.03) / law.error)
    assert abs(np.mean(pulls)) < 3 * np.std(pulls) / 200**0.5
    assert np.mean(np.abs(pulls) > 2) <= 0.05
    assert np.std(pulls) > 0.5, "an error that is far too large says nothing"


def test_a_law_is_that_of_the_longest_stretch_that_one_law_can_meet() -> None:
    # Edges ∝ x up to 1e3, between whole decades, and at the same y beyond; the slope of all is 0.4.
    x = 10.0 ** np.arange(-3, 9)
    y = 3.0 * np.minimum(x, 1e3)
    low = 10.0 ** np.floor(np.log10(y))
    edges = [one.tolist() for one in (x, (low * low * 10) ** 0.5, low, low * 10)]
    law = fit_longest_stretch(*edges)
    assert law is not None
    assert (law.start, law.end, law.points) == (1e-3, 1e3, 7)
    assert abs(law.exponent - 1) < law.error < 0.1
    whole = fit_power_law(*edges)
    assert whole is not None
    assert whole.exponent < 0.7


def test_edges_that_scatter_by_more_than_their_cells_have_the_law_of_all() -> None:
    x = 10.0 ** np.arange(8)
    y = x * np.where(np.arange(8) % 2, 3.0, 1 / 3)
    edges = [one.tolist() for one in (x, y, y * 0.99, y * 1.01)]
    assert fit_longest_stretch(*edges) == fit_power_law(*edges)


@pytest.mark.parametrize("x", [[1.0, 2.0], [3.0, 3.0, 3.0]])
def test_too_few_points_have_no_law(x: list[float]) -> None:
    for fit_law in (fit_power_law, fit_longest_stretch):
        assert fit_law(x, x, [1.0] * len(x), [5.0] * len(x)) is None


def test_the_best_cell_is_the_smallest_of_equals() -> None:
    nan = float("nan")
    best = best_of([10.0, 1.0, 100.0, 0.1], [0.9, 0.9, nan, 0.2])
    assert best is not None
    assert (best.value, best.score) == (1.0, 0.9)
    assert best_of([1.0], [nan]) is None


def test_a_band_reaches_half_way_to_the_neighbours() -> None:
    # By hand, in decades: cells at 0, 1, 3 reach over [−0.5, 0.5], [0.5, 2], [2, 4].
    values = [1.0, 1000.0, 10.0]
    assert band_width(values, [True, False, False]) == pytest.approx(1.0)
    assert band_width(values, [False, False, True]) == pytest.approx(1.5)
    assert band_width(values, [True, True, True]) == pytest.approx(4.5)


@pytest.mark.slow
def test_gradient_descent_on_least_squares_diverges_above_two_over_lambda_max(
    tmp_path: Path,
) -> None:
    # Oracle: H = 2 XᵀX/(10 n) + l2 for the squared loss, a mean over n images and ten outputs, by
    # torch.linalg. 1,000 steps: an η above 2/λ_max by 0.5% grows by 1e8.
    rates = np.geomspace(0.05, 2.0, 40)
    strengths = [0.0, 0.3, 1.0, 3.0, 10.0, 30.0]
    axes = {"lr": rates.tolist(), "l2": strengths, "alpha": 10.0}

    def net() -> torch.nn.Module:
        return torch.nn.Linear(64, 10, bias=False)

    fit(
        make_grid(
            tmp_path, net=net, loss=SquaredLoss(), axes=axes, steps=1000, hessian="start",
            memory_budget=None, check_every_n_steps=100,
        )
    )  # fmt: skip
    data = digits()
    data.setup("fit")
    x, _ = data.transform(data.train_set.__getitems__(range(30)), torch.float64)
    top = float(torch.linalg.eigvalsh(2 * x.T @ x / 300)[-1])
    pictures = phase_diagram(tmp_path, x="lr", y="l2")
    lines = pd.read_csv(tmp_path / "lines.csv").set_index("l2")
    assert list(lines.index) == strengths
    assert (lines["exceptions"] == 0).all()
    for l2, row in lines.iterrows():
        critical = 2 / (top + float(l2))  # type: ignore[arg-type]
        assert row["low"] < critical < row["high"]
        assert row["critical"] == pytest.approx(critical, rel=rates[1] / rates[0] - 1)
    cells = pd.read_csv(tmp_path / "diagram.csv")
    assert cells["sharpness"].to_numpy() == pytest.approx(top + cells["l2"].to_numpy(), rel=1e-5)
    assert [path.name for path in pictures] == ["val_acc_lr_l2.png", "boundary_lr_l2.png"]
