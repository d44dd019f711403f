"""The Hessian of any module's loss against torch.autograd.functional.hessian, float64, to 1e-10."""

from collections import UserDict
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from lightning_lazy.curvature.hessian import Route
from lightning_lazy.curvature.micro_batches import split_batch
from lightning_lazy.curvature.module_hessian import ModuleHessian
from lightning_lazy.errors import InputError

Batch = tuple[Tensor, Tensor]


def training_net() -> nn.Module:
    """A net in training mode, with BatchNorm, dropout and a frozen layer."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 3)
    ).double()
    net(torch.randn(9, 4).double())  # moves the running averages
    net[0].bias.requires_grad_(False)
    return net


def data() -> Batch:
    x = torch.randn(7, 4, generator=torch.Generator().manual_seed(1)).double()
    return x, torch.arange(7) % 3


def loss(net: Any, batch: Batch) -> Tensor:
    return F.cross_entropy(net(batch[0]), batch[1])


def dense(net: nn.Module, batches: list[Batch]) -> Tensor:
    named = {name: p.detach() for name, p in net.named_parameters() if p.requires_grad}

    def total(flat: Tensor) -> Tensor:
        parts = flat.split([p.numel() for p in named.values()])
        w = {n: part.view_as(p) for part, (n, p) in zip(parts, named.items(), strict=True)}
        return sum(
            F.cross_entropy(functional_call(net, w, (x,)), y, reduction="sum") for x, y in batches
        ) / sum(len(y) for _, y in batches)

    return torch.autograd.functional.hessian(
        total, torch.cat([p.flatten() for p in named.values()])
    )


def products(operator: Any) -> Tensor:
    return torch.stack([operator(row) for row in torch.eye(operator.dim, dtype=torch.float64)])


@pytest.mark.parametrize("route", get_args(Route))
@pytest.mark.parametrize("at_once", [None, 3])
def test_a_net_in_training_mode_is_measured_in_evaluation_mode_and_left_alone(
    route: Route, at_once: int | None
) -> None:
    net, batch = training_net(), data()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    found = products(ModuleHessian(net, loss, [batch], max_examples_at_once=at_once, route=route))
    assert net.training
    assert net[1].training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())
    torch.testing.assert_close(found, dense(net.eval(), [batch]), rtol=0, atol=1e-10)


def test_batch_statistics_are_those_of_the_micro_batches() -> None:
    net, batch = training_net(), data()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    operator = ModuleHessian(net, loss, [batch], max_examples_at_once=4, statistics="batch")
    found = products(operator)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    net[3].eval()
    net[1].track_running_stats = False
    parts = [tuple(t[:4] for t in batch), tuple(t[4:] for t in batch)]
    torch.testing.assert_close(found, dense(net, parts), rtol=0, atol=1e-10)


def test_weights_of_batches_are_shared_out_to_their_parts() -> None:
    net, (x, y) = training_net().eval(), data()
    batches = [(x[:5], y[:5]), (x[5:], y[5:])]
    v = torch.linspace(-1, 1, ModuleHessian(net, loss, batches).dim, dtype=torch.float64)
    whole = ModuleHessian(net, loss, batches, weights=[0.2, 2.0])(v)
    split = ModuleHessian(net, loss, batches, weights=[0.2, 2.0], max_examples_at_once=2)(v)
    torch.testing.assert_close(split, whole, rtol=0, atol=1e-12)
    equal = ModuleHessian(net, loss, batches, max_examples_at_once=2)(v)
    torch.testing.assert_close(equal, ModuleHessian(net, loss, batches)(v), rtol=0, atol=1e-12)


class Drawing(nn.Module):
    """A net that draws and counts in every pass, whatever its mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("passes", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        self.passes = self.passes + 1
        return torch.tanh(self.layer(F.dropout(x))) * self.passes


def test_a_net_that_draws_and_counts_gives_one_symmetric_matrix() -> None:
    net = Drawing().double()
    found = products(ModuleHessian(net, loss, [data()], max_examples_at_once=3))
    torch.testing.assert_close(found, found.T, rtol=0, atol=1e-12)
    assert float(net.passes) == 1


def test_parts_of_a_mapping_are_of_its_class() -> None:
    parts = split_batch(UserDict(x=torch.arange(5)), 2)
    assert [type(part) for part in parts] == [UserDict] * 3
    assert torch.equal(torch.cat([part["x"] for part in parts]), torch.arange(5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"statistics": "own"}, "statistics must be one of running, batch"),
        ({"batches": []}, "batches must not be empty"),
        ({"max_examples_at_once": 0}, "max_examples_at_once must be an integer of at least 1"),
    ],
)
def test_bad_arguments(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ModuleHessian(
            **({"module": training_net(), "loss_fn": loss, "batches": [data()]} | changes)
        )
