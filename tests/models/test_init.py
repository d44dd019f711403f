"""LeCun initialisation. Oracle: moments of the normal distribution."""

import pytest
import torch
from torch import nn

from lightning_lazy.checks import check_size
from lightning_lazy.errors import InputError
from lightning_lazy.models import initialize_, lecun_normal_


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("shape", "fan_in"), [((400, 300), 300), ((64, 20, 5, 5), 500)])
def test_moments(shape, fan_in):
    weight, bias = torch.empty(shape), torch.empty(shape[0])
    lecun_normal_(weight, bias, 1.5, 0.0, _generator())
    spread = 1.5 / fan_in**0.5
    error = spread / weight.numel() ** 0.5
    assert weight.mean().abs() < 5 * error
    assert weight.std().item() == pytest.approx(spread, abs=5 * error)
    assert bias.count_nonzero() == 0
    wide = torch.empty(100_000)
    lecun_normal_(weight, wide, 1.5, 0.7, _generator())
    assert wide.std().item() == pytest.approx(0.7, abs=0.01)


def test_draws_come_from_the_generator_or_the_global_one():
    first, second = torch.empty(3, 4), torch.empty(3, 4)
    state = torch.get_rng_state()
    lecun_normal_(first, generator=_generator())
    lecun_normal_(second, generator=_generator())
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        lecun_normal_(first)
        torch.manual_seed(7)
        lecun_normal_(second)
    assert torch.equal(first, second)


def test_whole_module():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2000))
    initialize_(net, "lecun_normal", gain=2.0, generator=_generator())
    assert net[0].weight.std().item() == pytest.approx(2 / 27**0.5, rel=0.2)
    assert net[3].weight.std().item() == pytest.approx(2 / 8**0.5, rel=0.05)
    assert net[0].bias.count_nonzero() == net[3].bias.count_nonzero() == 0
    assert torch.equal(net[1].weight, torch.ones(8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.empty(2, 2), None, 0.0), "sigma_w must be finite and above 0, got 0.0"),
        ((torch.empty(2, 2), None, 1.0, -1.0), "sigma_b must be finite and at least 0, got -1.0"),
        ((torch.empty(2),), r"weight must be \[out, in, \.\.\.\], got the shape \[2\]"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        lecun_normal_(*arguments)


@pytest.mark.parametrize("value", [0, -3, 2.0, True, "4"])
def test_sizes(value):
    with pytest.raises(InputError, match="width must be an integer of at least 1, got"):
        check_size("width", value)
