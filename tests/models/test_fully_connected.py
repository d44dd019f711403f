"""Fully connected and deep linear nets. Oracles: matrix products, moments, Huang's recursion."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from lightning_lazy.errors import InputError
from lightning_lazy.models import DeepLinear, FullyConnected, ScaledLinear


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _inputs(n, d):
    return torch.randn(n, d, dtype=torch.float64, generator=_generator(1))


def _reference(net, x, activation):
    """The net written out, from the factors and parameters of its layers."""
    linear = [layer for layer in net.layers if isinstance(layer, ScaledLinear)]
    for index, layer in enumerate(linear):
        x = layer.factor * x @ layer.weight.T
        if layer.bias is not None:
            x = x + layer.bias_factor * layer.bias
        if index + 1 < len(linear):
            x = activation(x)
    return x


@pytest.mark.parametrize("parametrization", ["standard", "ntk", "width", "none"])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_formula(depth, parametrization):
    options = {"parametrization": parametrization, "sigma_w": 1.4, "sigma_b": 0.3}
    net = FullyConnected(5, 7, depth, 2, **options, generator=_generator()).double()
    x = _inputs(4, 5)
    torch.testing.assert_close(net(x), _reference(net, x, torch.relu))
    relus = [layer for layer in net.layers if isinstance(layer, nn.ReLU)]
    assert len(set(map(id, relus))) == depth


def test_parametrizations_are_one_function():
    options = {"sigma_w": math.sqrt(2), "sigma_b": 0.5}
    standard = FullyConnected(5, 7, 3, 2, **options).double()
    ntk = FullyConnected(5, 7, 3, 2, parametrization="ntk", **options).double()
    with torch.no_grad():
        for one, other in zip(standard.layers, ntk.layers, strict=True):
            if isinstance(one, ScaledLinear):
                one.weight.copy_(math.sqrt(2 / one.in_features) * other.weight)
                one.bias.copy_(0.5 * other.bias)
    x = _inputs(4, 5)
    torch.testing.assert_close(standard(x), ntk(x), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(
    ("parametrization", "spread", "bias_spread", "factors"),
    [
        ("standard", [1.5 / 20, 1.5 / 10], 0.2, [1, 1]),
        ("ntk", [1, 1], 1.0, [1.5 / 20, 1.5 / 10]),
        ("width", [1.5, 1.5], 0.2, [1, 1 / 10]),
        ("none", [1.5, 1.5], 0.2, [1, 1]),
    ],
)
def test_initial_weights(parametrization, spread, bias_spread, factors):
    net = FullyConnected(
        400,
        100,
        1,
        5000,
        parametrization=parametrization,
        sigma_w=1.5,
        sigma_b=0.2,
        generator=_generator(),
    )
    first, last = net.layers[0], net.layers[2]
    for layer, std, factor in zip((first, last), spread, factors, strict=True):
        assert layer.weight.std().item() == pytest.approx(std, rel=5 / math.sqrt(2 * 40_000))
        assert layer.factor == pytest.approx(factor)
    assert last.bias.std().item() == pytest.approx(bias_spread, rel=0.05)


def test_biases():
    lewkowycz = FullyConnected(4, 6, 3, 2, sigma_w=math.sqrt(2))
    biases = [value for name, value in lewkowycz.named_parameters() if name.endswith("bias")]
    assert len(biases) == 4
    assert all(value.count_nonzero() == 0 for value in biases)
    assert len(list(FullyConnected(4, 6, 3, 2, bias=False).parameters())) == 4
    assert len(list(FullyConnected(4, 6, 3, 2, parametrization="ntk").parameters())) == 4
    trained = FullyConnected(4, 6, 3, 2, parametrization="ntk", sigma_b=0.1)
    assert len(list(trained.parameters())) == 8


def test_softplus_net_has_activations_of_unit_second_moment():
    net = FullyConnected(
        30, 2000, 2, 1000, activation="softplus", bias=False, generator=_generator()
    )
    x = nn.functional.normalize(_inputs(5, 30).float()) * math.sqrt(30)
    assert net(x).square().mean().item() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("parametrization", ["standard", "ntk", "width", "none"])
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_deep_linear_is_a_product(depth, parametrization):
    net = DeepLinear(3, 4, depth, 2, parametrization=parametrization, sigma_w=0.7).double()
    x = _inputs(5, 3)
    torch.testing.assert_close(net(x), _reference(net, x, lambda z: z))
    assert all(isinstance(layer, ScaledLinear) for layer in net.layers)
    assert not any(name.endswith("bias") for name, _ in net.named_parameters())
    with_bias = DeepLinear(3, 4, depth, 2, parametrization="standard", bias=True)
    assert len(list(with_bias.parameters())) == 2 * (depth + 1)


def test_huang_recursion_of_one_hidden_layer():
    # f ← f - ηΘs + (η²/m) s² f and Θ ← Θ - (4η/m) s f + (η²/m) s² Θ for the exponential loss on
    # {(1, +1), (1, -1)}, where s = dL/df = sinh f and Θ = (‖w₁‖² + ‖w₂‖²)/m.
    m, lr = 100, 0.5
    net = DeepLinear(1, m, 1, sigma_w=math.sqrt(0.5), generator=_generator(4)).double()
    w1, w2 = (layer.weight for layer in net.layers)
    x = torch.ones(1, 1, dtype=torch.float64)
    f = net(x).item()
    kernel = (w1.square().sum() + w2.square().sum()).item() / m
    for _ in range(50):
        gradients = torch.autograd.grad(torch.cosh(net(x)).sum(), [w1, w2])
        with torch.no_grad():
            w1 -= lr * gradients[0]
            w2 -= lr * gradients[1]
        s = math.sinh(f)
        f, kernel = (
            f - lr * kernel * s + lr**2 / m * s**2 * f,
            kernel - 4 * lr / m * s * f + lr**2 / m * s**2 * kernel,
        )
        assert net(x).item() == pytest.approx(f, abs=1e-9)
        assert (w1.square().sum() + w2.square().sum()).item() / m == pytest.approx(kernel, abs=1e-9)


@pytest.mark.parametrize("build", [FullyConnected, DeepLinear])
def test_copies_and_pickles(build):
    net = build(3, 4, 2, 2).double()
    x = _inputs(5, 3)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(x), net(x))


@pytest.mark.parametrize("build", [FullyConnected, DeepLinear])
@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0, 4, 1, 2), {}, "in_features must be an integer of at least 1, got 0"),
        ((3, 0, 1, 2), {}, "width must be an integer of at least 1, got 0"),
        ((3, 4, -1, 2), {}, "depth must be an integer of at least 0, got -1"),
        ((3, 4, 1, 0), {}, "outputs must be an integer of at least 1, got 0"),
        ((3, 4, 1, 2), {"parametrization": "mup"}, "must be one of standard, ntk, width, none"),
        ((3, 4, 1, 2), {"sigma_w": 0}, "sigma_w must be finite and above 0, got 0"),
        ((3, 4, 1, 2), {"sigma_b": -1}, "sigma_b must be finite and at least 0, got -1"),
        (
            (3, 4, 1, 2),
            {"parametrization": "ntk", "bias": True},
            "bias=True in the ntk parametrization must have sigma_b above 0",
        ),
    ],
)
def test_bad_arguments(build, arguments, options, message):
    with pytest.raises(InputError, match=message):
        build(*arguments, **options)


def test_bad_activation():
    with pytest.raises(InputError, match="activation must be one of softplus, relu, linear"):
        FullyConnected(3, 4, 1, 2, activation="tanh")
