"""LinearizedModel: the tangent of a net, exact where that can be said exactly."""

import copy

import pytest
import torch
from torch import nn

from lightning_lazy import LinearizedModel, ScaledModel
from lightning_lazy.curvature.linearization import linearize


def conv_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.Softplus(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 2),
    ).double()


def images() -> torch.Tensor:
    return torch.randn(5, 1, 8, 8, dtype=torch.float64)


def shift(net: nn.Module, direction: list[torch.Tensor], size: float) -> None:
    with torch.no_grad():
        for p, d in zip(net.parameters(), direction, strict=True):
            p.add_(size * d)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_to_the_net_at_the_start_to_the_last_bit(dtype: torch.dtype) -> None:
    net = conv_net().to(dtype).eval()
    x = images().to(dtype)
    assert torch.equal(linearize(net).eval()(x), net(x))


def test_central_differences_give_the_tangent() -> None:
    # Oracle: (h(w₀ + εd) − h(w₀ − εd))/2ε, whose error is O(ε²) ≈ 1e-10 plus rounding ≈ 1e-11.
    net = conv_net().eval()
    x = images()
    direction = [torch.randn_like(p) for p in net.parameters()]
    model = linearize(net).eval()
    start = model(x)
    shift(model.net, direction, 1.0)
    plus, minus, step = copy.deepcopy(net), copy.deepcopy(net), 1e-5
    shift(plus, direction, step)
    shift(minus, direction, -step)
    expected = (plus(x) - minus(x)) / (2 * step)
    torch.testing.assert_close(model(x) - start, expected, rtol=1e-7, atol=1e-7)


def test_a_linear_net_is_its_own_tangent_everywhere() -> None:
    # Closed form: w·x is linear in w. One rounding each for w − w₀, product and sum.
    net = nn.Linear(6, 2, bias=False).double()
    model = linearize(net)
    shift(model.net, [torch.randn_like(net.weight)], 1.0)
    x = torch.randn(4, 6, dtype=torch.float64)
    torch.testing.assert_close(model(x), model.net(x), rtol=1e-13, atol=1e-13)


def test_gradients_do_not_depend_on_the_parameters() -> None:
    model = linearize(conv_net()).eval()
    x = images()

    def gradients() -> list[torch.Tensor]:
        return list(torch.autograd.grad(model(x).sum(), list(model.net.parameters())))

    before = gradients()
    shift(model.net, [torch.randn_like(p) for p in model.net.parameters()], 1.0)
    for old, new in zip(before, gradients(), strict=True):
        torch.testing.assert_close(new, old, rtol=1e-12, atol=1e-12)


def test_training_mode_moves_no_batch_norm_statistics() -> None:
    model = linearize(conv_net()).train()
    buffers = {name: b.clone() for name, b in model.named_buffers()}
    model(images()).sum().backward()
    assert all(torch.equal(b, buffers[name]) for name, b in model.named_buffers())


def test_trains_inside_a_scaled_model() -> None:
    model = ScaledModel(LinearizedModel(conv_net()), alpha=10.0).eval()
    assert (model(images()) == 0).all()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert len(trained) == len(list(conv_net().parameters()))
    optimizer = torch.optim.SGD(trained, lr=1e-3)
    model(images()).square().sum().add(model(images()).sum()).backward()
    optimizer.step()
    assert model(images()).abs().max() > 0
