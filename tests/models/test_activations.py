"""The scaled softplus and its constant. Oracles: the paper's value, scipy, limits, Monte Carlo."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from scipy import integrate
from torch import nn

from lightning_lazy.errors import InputError
from lightning_lazy.models import ScaledSoftplus, make_activation, softplus_scale


def test_constant_of_the_paper():
    assert softplus_scale(5.0) == pytest.approx(1.404383, abs=5e-7)


@pytest.mark.parametrize("beta", [0.01, 0.5, 1.0, 5.0, 20.0, 300.0])
def test_constant_against_adaptive_quadrature(beta):
    def integrand(z):
        return np.logaddexp(0, beta * z) ** 2 / beta**2 * math.exp(-z * z / 2)

    total = sum(
        integrate.quad(integrand, low, high, epsabs=0, epsrel=1e-13, limit=500)[0]
        for low, high in [(-14, -1), (-1, 0), (0, 1), (1, 14)]
    )
    # The adaptive rule reaches 1e-13 in each part.
    assert softplus_scale(beta) == pytest.approx(
        (total / math.sqrt(2 * math.pi)) ** -0.5, rel=1e-12
    )


def test_limits_of_the_constant():
    # β → ∞ is the ReLU, E[max(z, 0)²] = 1/2, with a correction of order 1/β; β → 0 the constant
    # ln 2/β, with one of order β.
    assert softplus_scale(1e12) == pytest.approx(math.sqrt(2), rel=1e-12)
    assert softplus_scale(1e-9) == pytest.approx(1e-9 / math.log(2), rel=1e-8)


def test_monte_carlo_is_near_and_seeded():
    state = torch.get_rng_state()
    estimate = softplus_scale(5.0, monte_carlo=1_000_000, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert estimate != softplus_scale(5.0)
    assert estimate == pytest.approx(1.404383, abs=5e-3)  # five standard errors
    assert estimate == softplus_scale(5.0, monte_carlo=1_000_000, seed=3)
    assert estimate != softplus_scale(5.0, monte_carlo=1_000_000, seed=4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_derivatives(dtype):
    z = torch.linspace(-30, 30, 1201, dtype=dtype, requires_grad=True)
    module = ScaledSoftplus(5.0)
    value = module(z)
    (first,) = torch.autograd.grad(value.sum(), z, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), z)
    wide = 5 * z.detach().numpy().astype(np.longdouble)
    share = 1 / (1 + np.exp(-wide))
    eps = torch.finfo(dtype).eps
    scale = module.scale
    tail = 150 * eps  # the rounding of 5z, up to 150, in the exponential
    np.testing.assert_allclose(
        value.detach(), scale / 5 * np.logaddexp(np.longdouble(0), wide), rtol=tail, atol=1e-37
    )
    np.testing.assert_allclose(first.detach(), scale * share, rtol=tail, atol=1e-37)
    np.testing.assert_allclose(second, 5 * scale * share * (1 - share), rtol=tail, atol=10 * eps)


def test_unit_second_moment():
    z = torch.randn(1_000_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    moment = ScaledSoftplus(5.0)(z).square().mean()
    assert moment == pytest.approx(1, abs=0.015)  # six standard errors


def test_scale_may_be_given_and_is_no_state():
    z = torch.randn(5)
    assert torch.equal(ScaledSoftplus(5.0, scale=1.0)(z), nn.Softplus(5.0, 50.0)(z))
    torch.testing.assert_close(ScaledSoftplus(5.0, scale=2.0)(z), 2 * nn.Softplus(5.0, 50.0)(z))
    module = ScaledSoftplus(5.0)
    assert isinstance(module.scale, float)
    assert not module.state_dict()
    assert repr(module) == "ScaledSoftplus(beta=5, scale=1.40438)"
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(z), module(z))


@pytest.mark.parametrize(
    ("name", "kind"), [("softplus", ScaledSoftplus), ("relu", nn.ReLU), ("linear", nn.Identity)]
)
def test_make_activation(name, kind):
    module = make_activation(name)
    assert type(module) is kind
    assert module is not make_activation(name)
    z = torch.randn(5)
    before = z.clone()
    module(z)
    assert torch.equal(z, before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_activation("tanh"), "activation must be one of softplus, relu, linear, got"),
        (lambda: ScaledSoftplus(0.0), "beta must be finite and above 0, got 0.0"),
        (lambda: ScaledSoftplus(5.0, scale=-1), "scale must be finite and above 0, got -1"),
        (lambda: ScaledSoftplus(5.0, monte_carlo=0), "monte_carlo must be an integer of at least"),
        (lambda: ScaledSoftplus(5.0, 1.0, 10), "scale or monte_carlo must be None, got 1.0 and 10"),
        (lambda: softplus_scale(math.inf), "beta must be finite and above 0, got inf"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(InputError, match=message):
        call()
