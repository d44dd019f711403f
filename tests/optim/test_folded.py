"""The α-folded optimizers. Oracles: torch's own at α = 1, the identities of spec/kanoh.md."""

import math

import pytest
import torch
from torch import nn

from lightning_lazy.optim import ScaledAdam, ScaledRMSprop

STEPS = 60
ALPHAS = [3e-4, 0.1, 0.7, 13.0, 1e4, 3e7]
POWERS = [2.0**-12, 0.5, 2.0, 2.0**20]


def _start(dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(5, 3), (7,), (2, 3, 4)]
    values = [torch.randn(shape, dtype=dtype, generator=generator) for shape in shapes]
    values[1][0] = 0.0
    return [nn.Parameter(value) for value in values]


def _gradients(step, dtype=torch.float64):
    """Gradients that vary over many orders of magnitude, some exactly zero."""
    generator = torch.Generator().manual_seed(100 + step)
    grads = []
    for param in _start(dtype):
        size = torch.randn(param.shape, dtype=dtype, generator=generator)
        spread = torch.randn(param.shape, dtype=dtype, generator=generator).mul(3).exp()
        grads.append(size * spread * (param != 0))
    return grads


def _run(build, steps=STEPS, factor=1.0, dtype=torch.float64):
    """Parameters after each of `steps` steps with the gradients above times `factor`."""
    params = _start(dtype)
    optimizer = build(params)
    path = []
    for step in range(steps):
        for param, grad in zip(params, _gradients(step, dtype), strict=True):
            param.grad = grad * factor
        optimizer.step()
        path.append(torch.cat([param.detach().flatten() for param in params]))
    return torch.stack(path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("foreach", [None, True, False])
@pytest.mark.parametrize("torch_foreach", [True, False])
def test_at_alpha_one_rmsprop_is_that_of_torch(dtype, foreach, torch_foreach):
    ours = _run(lambda p: ScaledRMSprop(p, 0.03, rho=0.99, eps=1e-7, foreach=foreach), dtype=dtype)
    reference = _run(
        lambda p: torch.optim.RMSprop(p, 0.03, alpha=0.99, eps=1e-7, foreach=torch_foreach),
        dtype=dtype,
    )
    assert torch.equal(ours, reference)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("foreach", [None, True, False])
@pytest.mark.parametrize("torch_foreach", [True, False])
def test_at_alpha_one_adam_is_that_of_torch(dtype, foreach, torch_foreach):
    betas = (0.8, 0.99)
    ours = _run(lambda p: ScaledAdam(p, 0.03, betas=betas, eps=1e-7, foreach=foreach), dtype=dtype)
    reference = _run(
        lambda p: torch.optim.Adam(p, 0.03, betas=betas, eps=1e-7, foreach=torch_foreach),
        dtype=dtype,
    )
    assert torch.equal(ours, reference)


PAIRS = {
    "rmsprop": (ScaledRMSprop, lambda p, lr: torch.optim.RMSprop(p, lr, alpha=0.999, eps=1e-8)),
    "adam": (ScaledAdam, torch.optim.Adam),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("alpha", POWERS)
@pytest.mark.parametrize("name", PAIRS)
def test_folded_is_plain_on_alpha_g_bit_for_bit(name, alpha, dtype):
    folded, plain = PAIRS[name]
    ours = _run(lambda p: folded(p, 0.03, alpha=alpha), dtype=dtype)
    reference = _run(lambda p: plain(p, 0.03 / alpha), factor=alpha, dtype=dtype)
    assert torch.equal(ours, reference)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("name", PAIRS)
def test_folded_is_plain_on_alpha_g_for_any_alpha(name, alpha):
    folded, plain = PAIRS[name]
    ours = _run(lambda p: folded(p, 0.03 * alpha, alpha=alpha), steps=10)
    reference = _run(lambda p: plain(p, 0.03), steps=10, factor=alpha)
    torch.testing.assert_close(ours, reference, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("alpha", [*POWERS, *ALPHAS])
def test_original_is_folded_with_lr_and_eps_times_alpha(alpha):
    ours = _run(lambda p: ScaledRMSprop(p, 0.03 * alpha, alpha=alpha, eps=1e-8 * alpha), steps=10)
    original = _run(lambda p: torch.optim.RMSprop(p, 0.03, alpha=0.999, eps=1e-8), steps=10)
    torch.testing.assert_close(ours, original, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", PAIRS)
def test_first_step_in_function_space_does_not_depend_on_alpha(name):
    # Centred, αG does not depend on α at θ₀, so Δθ ∝ 1/α and α f moves by the same amount.
    folded, _ = PAIRS[name]
    start = torch.cat([param.detach().flatten() for param in _start()])

    def moved(alpha):
        path = _run(lambda p: folded(p, 0.03, alpha=alpha), steps=1, factor=1 / alpha)
        return alpha * (path[0] - start)

    reference = moved(1.0)
    for alpha in [2.0**-8, 2.0**8]:
        # θ + Δθ is rounded to θ's spacing, α times as coarse for α Δθ.
        torch.testing.assert_close(moved(alpha), reference, rtol=0, atol=1e-15 * max(alpha, 1))


def test_effective_rate_of_the_figures():
    # Figure 2: with v₁ the second moment of αG the rate is η/(√v₁ + ε) at every α; figure 1: the
    # original's is η/(√v₁/α + ε).
    for alpha in [1e-3, 1.0, 1e3]:
        param = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        param.grad = torch.full_like(param, 0.5 / alpha)
        root = math.sqrt(0.001) * 0.5
        ScaledRMSprop([param], 0.1, alpha=alpha, eps=1e-3).step()
        rate = -param.item() / (0.5 / alpha)
        assert rate == pytest.approx(0.1 / (root + 1e-3), rel=1e-13)
        param.data.zero_()
        ScaledRMSprop([param], 0.1, eps=1e-3).step()
        rate = -param.item() / (0.5 / alpha)
        assert rate == pytest.approx(0.1 / (root / alpha + 1e-3), rel=1e-13)


def test_adam_written_out():
    param = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
    optimizer = ScaledAdam([param], 0.1, alpha=3.0, betas=(0.9, 0.99), eps=1e-3)
    first = second = 0.0
    value = 1.0
    for step in range(1, 20):
        grad = math.sin(step)
        param.grad = torch.tensor(grad, dtype=torch.float64)
        optimizer.step()
        first = 0.9 * first + 0.1 * grad
        second = 0.99 * second + 0.01 * (3.0 * grad) ** 2
        root = math.sqrt(second / (1 - 0.99**step))
        value -= 0.1 * first / (1 - 0.9**step) / (root + 1e-3)
        assert param.item() == pytest.approx(value, rel=1e-13)
