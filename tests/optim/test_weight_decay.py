"""Is weight decay L2? Oracle: torch's documentation of each optimizer."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from lightning_lazy.optim.weight_decay import is_coupled

COUPLED: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}), ("SGD", {"momentum": 0.9, "nesterov": True}), ("SGD", {"maximize": True}),
    ("SGD", {"momentum": 0.9, "dampening": 0.5, "fused": True}), ("Adam", {"amsgrad": True}),
    ("Adam", {"differentiable": True}), ("Adam", {"lr": torch.tensor(0.1)}), ("NAdam", {}),
    ("RAdam", {}), ("RMSprop", {"momentum": 0.9, "centered": True}), ("Adagrad", {}),
    ("Adadelta", {}), ("Adamax", {}), ("ASGD", {}),
]  # fmt: skip
DECOUPLED: list[tuple[str, dict[str, Any]]] = [
    ("AdamW", {}), ("Adam", {"decoupled_weight_decay": True}), ("Adafactor", {}), ("Muon", {}),
    ("NAdam", {"decoupled_weight_decay": True}), ("RAdam", {"decoupled_weight_decay": True}),
]  # fmt: skip


def optimizer(kind: str, options: dict[str, Any]) -> Optimizer:
    return getattr(torch.optim, kind)([nn.Parameter(torch.ones(3, 4))], **{"lr": 0.1} | options)


@pytest.mark.parametrize(("kind", "options"), COUPLED)
def test_decay_in_the_gradient_is_coupled(kind: str, options: dict[str, Any]) -> None:
    assert is_coupled(optimizer(kind, options))


@pytest.mark.parametrize(("kind", "options"), DECOUPLED)
def test_decay_beside_the_gradient_is_not(kind: str, options: dict[str, Any]) -> None:
    assert not is_coupled(optimizer(kind, options))


class DecayBesideMomentum(Optimizer):
    """Momentum and decay apart: its first step is that of SGD."""

    def __init__(self, params: Any, momentum: float) -> None:
        super().__init__(params, {"lr": 0.1, "momentum": momentum, "weight_decay": 0.0})
        self.steps = 0

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.steps += 1
        for group in self.param_groups:
            for param in group["params"]:
                moved = self.state[param].setdefault("moved", torch.zeros_like(param))
                moved.mul_(group["momentum"]).add_(param.grad)
                param.sub_(group["lr"] * (moved + group["weight_decay"] * param))


def test_decay_beside_momentum_is_found_out_by_the_second_step() -> None:
    weights = [nn.Parameter(torch.ones(()))]
    assert not is_coupled(DecayBesideMomentum(weights, 0.9))
    # Without momentum the two are the same.
    assert is_coupled(DecayBesideMomentum(weights, 0.0))


def test_one_group_of_another_kind_is_enough() -> None:
    groups = [
        {"params": [nn.Parameter(torch.ones(3))]},
        {"params": [nn.Parameter(torch.ones(2))], "decoupled_weight_decay": True},
    ]
    assert not is_coupled(torch.optim.Adam(groups))


def test_the_optimizer_stays_as_it_is() -> None:
    weight = nn.Parameter(torch.ones(3))
    own = torch.optim.SGD([weight], lr=0.1, momentum=0.9, weight_decay=0.2)
    schedule = torch.optim.lr_scheduler.LambdaLR(own, lambda step: 0.0)  # counts calls of step
    own.register_step_pre_hook(lambda *_: pytest.fail("a step of the optimizer itself"))
    before = own.state_dict()
    random = torch.get_rng_state()
    assert is_coupled(own)
    assert own.state_dict() == before
    assert torch.equal(weight, torch.ones(3))
    assert weight.grad is None
    assert torch.equal(torch.get_rng_state(), random)
    assert schedule.get_last_lr() == [0.0]
    other = DecayBesideMomentum([weight], 0.9)
    is_coupled(other)
    assert other.steps == 0


class Wrapper(Optimizer):
    """Lets another optimizer take its steps."""

    def __init__(self, inner: Optimizer) -> None:
        self.inner = inner
        super().__init__(inner.param_groups, inner.defaults)


def test_a_wrapped_optimizer_is_not_stepped_but_refused() -> None:
    with pytest.raises(TypeError, match="wraps another optimizer"):
        is_coupled(Wrapper(torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1)))
