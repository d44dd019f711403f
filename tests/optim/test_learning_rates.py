"""A learning rate for every parameter. Oracle: steps of gradient descent by hand."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from lightning_lazy import InputError, read_checkpoint
from lightning_lazy.optim import ScaledAdam, layerwise
from lightning_lazy.optim.schedules import InverseTime


def _net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(4, 1, bias=False)).double()


def test_each_parameter_steps_at_its_own_rate():
    net = _net()
    before = [p.detach().clone() for p in net.parameters()]
    optimizer = layerwise(net.parameters(), torch.optim.SGD, lr=0.1, factors=[30, 0.5])
    net(torch.ones(2, 3, dtype=torch.float64)).sum().backward()
    optimizer.step()
    for old, new, rate in zip(before, net.parameters(), (3.0, 0.05), strict=True):
        torch.testing.assert_close(new, old - rate * new.grad, rtol=1e-15, atol=0)
    assert [group["lr_factor"] for group in optimizer.param_groups] == [30.0, 0.5]


def test_it_makes_any_optimizer_and_takes_a_schedule():
    adam = partial(ScaledAdam, alpha=3.0)
    optimizer = layerwise(_net().parameters(), adam, lr=0.1, factors=[2, 1])
    schedule = InverseTime(optimizer, beta=1.0)
    optimizer.step()
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.05])
    assert optimizer.param_groups[1]["alpha"] == 3.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": 0.1, "factors": [1.0]}, r"factors must be 2 numbers.*\(4, 3\), \(1, 4\).*got 1"),
        ({"lr": 0.1, "factors": [1.0, 0]}, "factors must be finite and above 0, got 0"),
        ({"lr": -1, "factors": [1.0, 1.0]}, "lr must be finite and at least 0, got -1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        layerwise(_net().parameters(), torch.optim.SGD, **arguments)


def test_a_resume_changes_the_base_rate_of_all_layers_under_a_schedule(train):
    train(
        "data.n_train=60", "data.n_val=30", "model.width=8", "batch_size=20", "max_epochs=2",
        "optimizer=layerwise", "optimizer.factors=[3,1]", "schedule=inverse_time",
        "schedule.beta=1", "lr=0.2",
    )  # fmt: skip
    (folder,) = Path("runs/default").iterdir()
    checkpoint = folder / "checkpoints/last.ckpt"
    train(f"ckpt_path={checkpoint}", "max_epochs=3", "lr=0.1")
    state = read_checkpoint(checkpoint)
    # Closed form: factor · lr/(1 + t), t = 3 epochs.
    rates = [group["lr"] for group in state["optimizer_states"][0]["param_groups"]]
    assert rates == pytest.approx([0.3 / 4, 0.1 / 4])
    with pytest.raises(SystemExit, match="optimizer.factors can't be changed on resume"):
        train(f"ckpt_path={checkpoint}", "max_epochs=4", "optimizer.factors=[1,1]")
