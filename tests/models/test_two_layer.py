"""The two-layer net. Oracles: the papers' formula written out, moments, exact cancellation."""

import copy
import math
import pickle

import pytest
import torch
from torch import func, nn
from torch.nn import functional as F

from lightning_lazy.curvature.linearization import LinearizedModel
from lightning_lazy.errors import InputError
from lightning_lazy.models import TwoLayerNet, softplus_scale
from lightning_lazy.scaling import ScaledModel


def _net(*sizes, seed=0, dtype=torch.float64, **options):
    generator = torch.Generator().manual_seed(seed)
    return TwoLayerNet(*sizes, generator=generator, **options).to(dtype)


def _inputs(n, d, dtype=torch.float64, seed=1):
    return torch.randn(n, d, dtype=dtype, generator=torch.Generator().manual_seed(seed))


ACTIVATIONS = {
    "softplus": lambda z: softplus_scale(5.0) / 5 * torch.log1p(torch.exp(5 * z)),
    "relu": lambda z: z.clamp(min=0),
    "linear": lambda z: z,
}


@pytest.mark.parametrize("n", [2, 50])  # the factor goes to the inputs or to the weights
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("parametrization", ["ntk", "none"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_formula(activation, parametrization, symmetric, n):
    options = {"parametrization": parametrization, "symmetric": symmetric}
    net = _net(6, 8, 3, activation=activation, **options)
    with torch.no_grad():
        net.output.weight.normal_(generator=torch.Generator().manual_seed(2))
    x = _inputs(n, 6)
    inner, outer = (6**-0.5, 8**-0.5) if parametrization == "ntk" else (1, 1)
    hidden = ACTIVATIONS[activation](inner * x @ net.hidden.weight.T)
    torch.testing.assert_close(net(x), outer * hidden @ net.output.weight.T, rtol=1e-13, atol=0)
    torch.autograd.gradcheck(
        lambda w, v: func.functional_call(net, {"hidden.weight": w, "output.weight": v}, (x,)),
        (net.hidden.weight, net.output.weight),
    )


def test_activation_sees_the_pre_activation_of_the_paper():
    net = _net(6, 8, 3)
    seen = []
    net.activation.register_forward_hook(lambda module, args, out: seen.append((args[0], out)))
    x = _inputs(4, 6)
    net(x)
    ((before, after),) = seen
    torch.testing.assert_close(before, 6**-0.5 * x @ net.hidden.weight.T)
    torch.testing.assert_close(after, F.softplus(before, 5))
    assert net.output.factor == pytest.approx(softplus_scale(5.0) / math.sqrt(8))


@pytest.mark.parametrize("tau", [1.0, 0.1])
@pytest.mark.parametrize("symmetric", [False, True])
def test_initial_weights(symmetric, tau):
    net = _net(300, 500, 400, symmetric=symmetric, tau=tau)
    for weight in net.parameters():
        error = tau * math.sqrt(2 / weight.numel())
        assert weight.mean().abs() < 5 * error
        assert weight.std().item() == pytest.approx(tau, abs=5 * error)
    assert sorted(name for name, _ in net.named_parameters()) == ["hidden.weight", "output.weight"]


@pytest.mark.parametrize("symmetric", [False, True])
def test_unit_weights_lie_on_a_sphere_and_are_positive(symmetric):
    net = _net(3, 4000, 1, init="unit", tau=0.1, symmetric=symmetric, parametrization="none")
    torch.testing.assert_close(net.hidden.weight.norm(dim=1), torch.full((4000,), 0.1).double())
    # Moments of the sphere and of U(0, τ), each within five standard errors.
    first = 2000 if symmetric else 4000
    bound = 5 * 0.1 / math.sqrt(first)
    assert net.hidden.weight[:first].mean(0).abs().max() < bound
    entries = net.output.weight[0, :first]
    assert entries.min() >= 0
    assert entries.max() <= 0.1
    assert (entries.mean() - 0.05).abs() < bound
    assert (entries.var() - 0.01 / 12).abs() < 0.1 * bound
    if symmetric:
        assert torch.equal(net.hidden.weight[:2000], net.hidden.weight[2000:])
        assert torch.equal(net.output.weight[:, :2000], -net.output.weight[:, 2000:])
        relu = _net(3, 50, 1, init="unit", symmetric=True, activation="relu")
        assert not relu(_inputs(7, 3)).any()


def test_a_symmetric_net_is_centred_as_it_is_and_so_is_its_linearisation():
    net = _net(4, 6, 2, activation="relu", symmetric=True)
    for one in (net, LinearizedModel(net)):
        model = ScaledModel(one, centering="symmetrize")
        assert model.mirror is None
        assert not model(_inputs(5, 4)).any()
    assert ScaledModel(_net(4, 6, 2), centering="symmetrize").mirror is not None


def test_pre_activations_of_the_next_layer_have_variance_one():
    # E[σ²] = 1 is what a is for: f has variance 1 over the draws of W¹ for ‖x‖² = d.
    net = _net(50, 2000, 2000)
    x = F.normalize(_inputs(4, 50)) * math.sqrt(50)
    assert net(x).var().item() == pytest.approx(1, abs=0.15)


def test_draws_come_from_the_global_generator():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        first = TwoLayerNet(3, 4, 2)
        torch.manual_seed(5)
        second = TwoLayerNet(3, 4, 2)
        assert not torch.equal(first.hidden.weight, TwoLayerNet(3, 4, 2).hidden.weight)
    assert torch.equal(first.output.weight, second.output.weight)
    state = torch.get_rng_state()
    _net(3, 4, 2, monte_carlo=100)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("activation", ["relu", "linear", "softplus"])
def test_symmetric_starts_at_zero(activation, dtype):
    for width in (2, 6, 10, 26, 64, 102, 200):
        for n, d in [(1, 1), (3, 5), (7, 30), (50, 8), (200, 100)]:
            net = _net(d, width, 3, activation=activation, symmetric=True, dtype=dtype)
            half = width // 2
            assert torch.equal(net.hidden.weight[:half], net.hidden.weight[half:])
            assert torch.equal(net.output.weight[:, :half], -net.output.weight[:, half:])
            output = net(_inputs(n, d, dtype))
            # Exactly zero; the softplus to the rounding of single entries.
            bound = 60 * torch.finfo(dtype).eps if activation == "softplus" else 0
            assert output.abs().max() <= bound


def test_symmetric_halves_train_apart():
    net = _net(4, 6, 2, activation="relu", symmetric=True)
    net(_inputs(5, 4)).sum().backward()
    assert torch.equal(net.hidden.weight.grad[:3], -net.hidden.weight.grad[3:])
    assert net.hidden.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("symmetric", [False, True])
def test_copies_pickles_and_transforms(symmetric):
    net = _net(4, 6, 2, symmetric=symmetric)
    x = _inputs(5, 4)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(x), net(x))
    params = dict(net.named_parameters())
    tangents = {name: torch.ones_like(value) for name, value in params.items()}
    value, slope = func.jvp(lambda p: func.functional_call(net, p, (x,)), (params,), (tangents,))
    assert torch.equal(value, net(x))
    jacobian = func.jacrev(lambda p: func.functional_call(net, p, (x,)))(params)
    torch.testing.assert_close(slope, sum(block.sum((2, 3)) for block in jacobian.values()))
    stacked = {name: torch.stack([value, 2 * value]) for name, value in params.items()}
    both = func.vmap(lambda p: func.functional_call(net, p, (x,)))(stacked)
    torch.testing.assert_close(both[0], net(x))


def test_modules_are_its_own():
    first, second = _net(4, 6, 2), _net(4, 6, 2)
    assert first.activation is not second.activation
    assert isinstance(_net(4, 6, 2, activation="relu").activation, nn.ReLU)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0, 4, 2), {}, "in_features must be an integer of at least 1, got 0"),
        ((3, 0, 2), {}, "width must be an integer of at least 1, got 0"),
        ((3, 4, 0), {}, "outputs must be an integer of at least 1, got 0"),
        ((3, 5, 2), {"symmetric": True}, "width must be even if symmetric=True, got 5; pass 6"),
        ((3, 4, 2), {"activation": "gelu"}, "activation must be one of softplus, relu, linear"),
        ((3, 4, 2), {"parametrization": "mup"}, "parametrization must be one of ntk, none, got"),
        ((3, 4, 2), {"init": "zero"}, "init must be one of gaussian, unit, got 'zero'"),
        ((3, 4, 2), {"tau": 0}, "tau must be finite and above 0, got 0"),
        ((3, 4, 2), {"beta": -5}, "beta must be finite and above 0, got -5"),
        ((3, 4, 2), {"monte_carlo": 0}, "monte_carlo must be an integer of at least 1, got 0"),
    ],
)
def test_bad_arguments(arguments, options, message):
    with pytest.raises(InputError, match=message):
        TwoLayerNet(*arguments, **options)
