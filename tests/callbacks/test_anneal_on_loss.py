"""Annealing by the loss. Oracles: scripted losses, closed forms of schedules, plain sums."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as lp
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from trainers import QUIET

from lightning_lazy import InputError, ScaledLightningModule, read_checkpoint
from lightning_lazy.callbacks import AnnealOnLoss
from lightning_lazy.data import ImageDataModule
from lightning_lazy.losses import CrossEntropyLoss
from lightning_lazy.models import TwoLayerNet
from lightning_lazy.optim import InverseTime


class Foreign:
    """Any module; it notes the learning rate of every update."""

    def __init__(self, schedule: Any = None, interval: str = "step") -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1))
        self.schedule, self.interval = schedule, interval
        self.rates: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return (self(batch[0]) - batch[1]).square().mean()

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, weight_decay=0.1)
        if self.schedule is None:
            return optimizer
        config = {"scheduler": self.schedule(optimizer), "interval": self.interval}
        return {"optimizer": optimizer, "lr_scheduler": config}


class OldForeign(Foreign, pl.LightningModule):
    pass


class NewForeign(Foreign, lp.LightningModule):
    pass


def data(size: int = 12) -> TensorDataset:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(size, 3, generator=generator)
    return TensorDataset(x, x.sum(1, keepdim=True))


def fit(module: Any, *callbacks: Any, package: Any = pl, **arguments: Any) -> Any:
    options = {"max_steps": 8, "max_epochs": -1, "callbacks": list(callbacks)} | arguments
    trainer = package.Trainer(**(QUIET | options))
    trainer.fit(module, DataLoader(data(), batch_size=4))
    return trainer


def scripted(losses: list[float]) -> Callable[[Any, Any], Tensor]:
    """A loss that depends on the number of updates done alone."""
    return lambda module, batch: torch.tensor(losses[module.trainer.global_step])


@pytest.mark.parametrize(("package", "kind"), [(pl, OldForeign), (lp, NewForeign)])
def test_each_threshold_multiplies_the_rate_once_and_the_last_loss_stops(
    package: Any, kind: Any
) -> None:
    losses = [2.0, 1.2, 0.9, 1.5, 0.95, 0.4, 0.3, 0.05, 0.01]
    anneal = AnnealOnLoss(
        [1.0, 0.5], [0.1, 0.2], stop=0.1, every_n_steps=1, loss_fn=scripted(losses)
    )
    module = kind()
    trainer = fit(module, anneal, package=package)
    # Below 1 after two updates, below 0.5 after five, below 0.1 after seven.
    assert module.rates == pytest.approx([0.1] * 2 + [0.01] * 3 + [0.002] * 2)
    assert trainer.global_step == 7
    metrics = trainer.callback_metrics
    assert metrics["anneal/stage"] == 2
    assert metrics["anneal/loss"] == pytest.approx(0.4)
    assert metrics["anneal/lr"] == pytest.approx(0.002)


def test_a_loss_that_passes_several_thresholds_passes_all_of_them() -> None:
    losses = [2.0, 0.3] + [5.0] * 7
    module = OldForeign()
    fit(module, AnnealOnLoss([1, 0.5], [0.1, 0.2], every_n_steps=1, loss_fn=scripted(losses)))
    assert module.rates == pytest.approx([0.1] + [0.002] * 7)


def test_the_loss_is_measured_every_so_many_updates_and_at_the_start() -> None:
    losses = [2.0] + [0.3] * 8
    module = OldForeign()
    fit(module, AnnealOnLoss([1.0], [0.5], every_n_steps=3, loss_fn=scripted(losses)))
    assert module.rates == pytest.approx([0.1] * 3 + [0.05] * 5)
    module = OldForeign()
    fit(module, AnnealOnLoss([1.0], [0.5], every_n_steps=3, loss_fn=scripted([0.5] * 9)))
    assert module.rates == pytest.approx([0.05] * 8)
    module = OldForeign()  # three updates make an epoch
    fit(module, AnnealOnLoss([1.0], [0.5], every_n_epochs=2, loss_fn=scripted(losses)))
    assert module.rates == pytest.approx([0.1] * 6 + [0.05] * 2)


def test_a_loss_that_is_no_number_changes_nothing() -> None:
    module = OldForeign()
    anneal = AnnealOnLoss([1.0], [0.5], stop=0.1, every_n_steps=1, loss_fn=scripted([math.nan] * 9))
    assert fit(module, anneal).global_step == 8
    assert module.rates == pytest.approx([0.1] * 8)


@pytest.mark.parametrize(
    ("schedule", "closed_form"),
    [
        (partial(InverseTime, beta=0.5), lambda t: 1 / (1 + 0.5 * t)),
        (partial(torch.optim.lr_scheduler.StepLR, step_size=2), lambda t: 0.1 ** (t // 2)),
        (partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.8), lambda t: 0.8**t),
        (
            lambda optimizer: torch.optim.lr_scheduler.SequentialLR(
                optimizer,
                [
                    torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0),
                    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1 / (1 + t)),
                ],
                milestones=[2],
            ),
            lambda t: 1.0 if t < 2 else 1 / (t - 1),
        ),
    ],
)  # fmt: skip
def test_schedules_go_on_from_the_lower_rate(
    schedule: Any, closed_form: Callable[[int], float]
) -> None:
    losses = [2.0] * 3 + [0.3] * 6
    module = OldForeign(schedule)
    fit(module, AnnealOnLoss([1.0], [0.1], every_n_steps=1, loss_fn=scripted(losses)))
    expected = [0.1 * closed_form(t) * (0.1 if t >= 3 else 1.0) for t in range(8)]
    assert module.rates == pytest.approx(expected, rel=1e-12)


def test_schedulers_with_bounds_of_their_own_are_refused() -> None:
    cycle = partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.2, total_steps=20)
    with pytest.raises(InputError, match="can't lower the learning rates of OneCycleLR"):
        fit(OldForeign(cycle), AnnealOnLoss([1.0], [0.1]))


def test_the_loss_of_a_foreign_module_is_that_of_its_training_step_without_dropout() -> None:
    x, y = data().tensors
    module = OldForeign()
    wanted = float((module.eval()(x) - y).square().mean().detach())
    module.train()
    measured = fit(module, AnnealOnLoss([1e-9], [1.0], batch_size=5), max_steps=1)
    # Batches of 5, 5 and 2 samples: their mean is that over samples.
    assert float(measured.callback_metrics["anneal/loss"]) == pytest.approx(wanted, rel=1e-6)


def test_the_l2_term_does_not_count() -> None:
    torch.manual_seed(0)
    net = TwoLayerNet(64, 10, 10)
    module = ScaledLightningModule(
        net, CrossEntropyLoss(), partial(torch.optim.SGD, lr=0.1), l2=10.0, centering="none"
    )
    images = ImageDataModule("digits", n_train=30, n_val=10, batch_size="full")
    images.setup()
    x, y = images.transform(images.train_set.__getitems__(range(30)))
    expected = float(CrossEntropyLoss()(net(x), y).detach())
    trainer = pl.Trainer(**QUIET, max_steps=1, callbacks=[AnnealOnLoss([1e-9], [0.1])])
    trainer.fit(module, datamodule=images)
    metrics = trainer.callback_metrics
    assert float(metrics["anneal/loss"]) == pytest.approx(expected, rel=1e-6)
    assert metrics["anneal/stage"] == 0


def test_measuring_leaves_no_trace() -> None:
    weights = []
    for callbacks in ([], [AnnealOnLoss([1e-9], [0.1], every_n_steps=1)]):
        torch.manual_seed(0)
        module = OldForeign()
        fit(module, *callbacks)
        weights.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    assert torch.equal(*weights)


ARGUMENTS = (
    "data.n_train=60", "data.n_val=30", "model.width=8", "batch_size=20", "lr=1",
    "schedule=inverse_time",
    "+callbacks.anneal._target_=lightning_lazy.callbacks.AnnealOnLoss",
    "+callbacks.anneal.every_n_steps=2",
)  # fmt: skip


def test_a_resumed_run_is_that_of_an_uninterrupted_one(train: Callable[..., str]) -> None:
    own = ("+callbacks.anneal.thresholds=[0.4,0.3]", "+callbacks.anneal.factors=[0.5,0.1]")
    train(*ARGUMENTS, *own, "name=whole", "max_epochs=8")
    train(*ARGUMENTS, *own, "name=resumed", "max_epochs=4")
    (checkpoint,) = Path("runs/resumed").glob("*/checkpoints/last.ckpt")
    stage = read_checkpoint(checkpoint)["callbacks"]["AnnealOnLoss"]["stage"]
    train(f"ckpt_path={checkpoint}", "max_epochs=8")
    folders = [next(Path("runs", name).iterdir()) for name in ("whole", "resumed")]
    rows = [pd.read_csv(folder / "metrics.csv") for folder in folders]
    states = [read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in folders]
    for name, value in states[0]["state_dict"].items():
        other = states[1]["state_dict"][name]
        assert torch.equal(value, other) if torch.is_tensor(value) else value == other, name
    # Either run ends with a verdict on its health; everything else is the same.
    own = [name for name in rows[0] if not name.startswith("health/")]
    pd.testing.assert_frame_equal(rows[0][own], rows[1][own], check_exact=True)
    assert 0 < stage <= states[0]["callbacks"]["AnnealOnLoss"]["stage"]


def test_a_run_that_was_stopped_stays_so_unless_it_may_go_lower(train: Callable[..., str]) -> None:
    train(*ARGUMENTS, "name=run", "max_epochs=8", "+callbacks.anneal.stop=0.3")
    (checkpoint,) = Path("runs/run").glob("*/checkpoints/last.ckpt")
    steps = read_checkpoint(checkpoint)["global_step"]
    assert 0 < steps < 24
    train(f"ckpt_path={checkpoint}", "max_epochs=9")
    assert read_checkpoint(checkpoint)["global_step"] == steps
    train(f"ckpt_path={checkpoint}", "max_epochs=9", "callbacks.anneal.stop=1e-9")
    assert read_checkpoint(checkpoint)["global_step"] > steps


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs thresholds or stop, got none"),
        ({"thresholds": [1.0]}, "a factor for every threshold, got 1 thresholds and 0 factors"),
        ({"thresholds": [1.0, 2.0], "factors": [1, 1]}, r"must descend, .*, got \[1.0, 2.0\]"),
        ({"thresholds": [1.0], "factors": [1], "stop": 1.0}, r"must descend, .*, got \[1.0, 1.0\]"),
        ({"thresholds": [1.0], "factors": [0.0]}, "factors must be finite and above 0, got 0"),
        ({"stop": -1.0}, "stop must be finite and above 0, got -1"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AnnealOnLoss(**arguments)


def test_modules_that_optimise_by_themselves_need_a_loss() -> None:
    class Manual(OldForeign):
        automatic_optimization = False

    with pytest.raises(InputError, match="AnnealOnLoss can't call the training_step of Manual"):
        fit(Manual(), AnnealOnLoss(stop=0.1))
