"""Copies of parameters along training. Oracle: a plain loop, and an uninterrupted run."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_lazy import InputError, read_checkpoint
from lightning_lazy.callbacks import ParameterTrajectory

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}
NAMES = ("net.weight", "net.bias")


class Module(pl.LightningModule):
    """Any module: nothing of this project."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(3, 2)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.net(batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(module: Module, *callbacks: Any, **arguments: Any) -> pl.Trainer:
    inputs = torch.arange(24.0).view(8, 3) / 24
    options = QUIET | {"max_epochs": 2, "callbacks": list(callbacks)}
    trainer = pl.Trainer(**(options | arguments))
    trainer.fit(module, DataLoader(inputs, batch_size=2))
    return trainer


@pytest.fixture
def module() -> Module:
    torch.manual_seed(0)
    return Module()


def test_copies_are_the_parameters_of_a_plain_loop(module: Module) -> None:
    plain = copy.deepcopy(module)
    trajectory = ParameterTrajectory(NAMES, every_n_steps=3)
    fit(module, trajectory)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    expected = [[p.detach().clone() for p in plain.parameters()]]
    for step in range(8):
        optimizer.zero_grad()
        rows = torch.arange(24.0).view(8, 3)[step % 4 * 2 : step % 4 * 2 + 2] / 24
        plain.net(rows).square().mean().backward()
        optimizer.step()
        expected.append([p.detach().clone() for p in plain.parameters()])
    state = trajectory.state_dict()
    assert state["steps"].tolist() == [0, 3, 6, 8]
    for place, name in enumerate(NAMES):
        values = [expected[step][place] for step in (0, 3, 6, 8)]
        assert torch.equal(state["values"][name], torch.stack(values))


def test_training_is_the_same_to_the_last_bit(module: Module) -> None:
    watched = copy.deepcopy(module)
    state = torch.get_rng_state()
    fit(module)
    torch.set_rng_state(state)
    trainer = fit(watched, ParameterTrajectory(NAMES, every_n_steps=1))
    for one, other in zip(module.parameters(), watched.parameters(), strict=True):
        assert torch.equal(one, other)
    assert trainer.callback_metrics == {}


def test_a_resumed_run_has_the_path_of_the_longer_one(train: Callable[..., str]) -> None:
    arguments = (
        "data.n_train=60", "data.n_val=30", "model.width=8", "batch_size=20",
        "+callbacks.path._target_=lightning_lazy.callbacks.ParameterTrajectory",
        "+callbacks.path.parameters=[model.net.output.weight]", "+callbacks.path.every_n_steps=2",
    )  # fmt: skip
    train(*arguments, "name=whole", "max_epochs=4")
    train(*arguments, "name=resumed", "max_epochs=2")
    (checkpoint,) = Path("runs/resumed").glob("*/checkpoints/last.ckpt")
    train(f"ckpt_path={checkpoint}", "max_epochs=4")
    states = [
        read_checkpoint(path)["callbacks"]["ParameterTrajectory"]
        for name in ("whole", "resumed")
        for path in Path("runs", name).glob("*/checkpoints/last.ckpt")
    ]
    assert states[0]["steps"].tolist() == states[1]["steps"].tolist() == [0, 2, 4, 6, 8, 10, 12]
    one, two = (state["values"]["model.net.output.weight"] for state in states)
    assert torch.equal(one, two)
    assert one.shape == (7, 10, 8)


def test_two_instances_and_epochs(module: Module) -> None:
    first = ParameterTrajectory(["net.bias"], name="bias")
    second = ParameterTrajectory(["net.weight"], every_n_epochs=2)
    fit(module, first, second, max_epochs=3)
    assert first.state_dict()["steps"].tolist() == [0, 4, 8, 12]
    assert second.state_dict()["steps"].tolist() == [0, 8, 12]
    assert first.state_key != second.state_key


def test_an_unknown_parameter_is_said_before_training(module: Module) -> None:
    with pytest.raises(InputError, match=r"no parameter is called net\.w: choose from net\.weight"):
        fit(module, ParameterTrajectory(["net.w"]))
