"""DivergenceGuard and FrozenParameters on losses and updates that are known beforehand."""

import math
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_lazy import InputError, ScaledLightningModule
from lightning_lazy.callbacks import DivergenceGuard, FrozenParameters
from lightning_lazy.data import ImageDataModule
from lightning_lazy.losses import CrossEntropyLoss, SoftHingeLoss
from lightning_lazy.models import TwoLayerNet

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,
}


class Scripted(pl.LightningModule):
    """Its losses are given."""

    def __init__(self, losses: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.losses = losses

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.weight * 0.0 + self.losses[batch_idx]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def guarded(losses: list[float], every_n_steps: int = 1) -> tuple[int, bool]:
    """Return the number of updates done and the verdict."""
    trainer = pl.Trainer(**QUIET, max_epochs=1, callbacks=[DivergenceGuard(every_n_steps)])
    trainer.fit(Scripted(losses), DataLoader(torch.zeros(len(losses), 1), batch_size=1))
    return trainer.global_step, bool(trainer.callback_metrics["health/diverged"])


@pytest.mark.parametrize(
    ("losses", "steps", "diverged"),
    [
        ([1.0, 0.5, 0.25], 3, False),
        ([1.0, 9e5, 0.5], 3, False),  # a catapult's peak passes
        ([1.0, 1.1e6, 0.5], 2, True),
        ([1.0, math.nan, 0.5], 2, True),
        ([1.0, math.inf, 0.5], 2, True),
        ([math.nan, 0.5], 1, True),
        ([1.0] + [1.1, 1.2] * 20, 41, True),  # above the first by many standard errors
        ([1.0] * 10 + [1.0000002] * 10, 20, False),  # rounding
    ],
)
def test_stops_and_judges(losses: list[float], steps: int, diverged: bool) -> None:
    assert guarded(losses) == (steps, diverged)


@pytest.mark.parametrize(("level", "diverged"), [(1.0, False), (1.5, True)])
def test_losses_that_scatter_are_judged_by_their_mean_and_error(
    level: float, diverged: bool
) -> None:
    # Deviation 0.1: three standard errors of the difference are about 0.3.
    losses = [1.0] + [level - 0.1, level + 0.1] * 20
    assert guarded(losses, every_n_steps=10) == (41, diverged)


def test_rare_checks_see_a_loss_that_was_not_finite_in_between() -> None:
    assert guarded([1.0, math.nan, 0.5, 0.5, 0.5, 0.5], every_n_steps=4) == (4, True)


def test_a_full_batch_is_judged_by_its_last_loss_by_whatever_little() -> None:
    class Loader(list):  # type: ignore[type-arg]
        batches_per_epoch = 1

    for last, diverged in ((1.0000001, True), (1.0, False)):
        losses = [1.0, 0.5, 0.25, last]
        trainer = pl.Trainer(**QUIET, max_epochs=1, callbacks=[DivergenceGuard(2)])
        trainer.fit(Scripted(losses), Loader([torch.zeros(1, 1)] * 4))
        assert bool(trainer.callback_metrics["health/diverged"]) is diverged


@pytest.mark.parametrize("seed", range(4))
def test_noise_of_mini_batches_is_not_divergence(seed: int) -> None:
    # Nothing moves at lr=1e-12: whatever the first batch is, the run has not diverged.
    torch.manual_seed(seed)
    module = ScaledLightningModule(
        TwoLayerNet(64, 20, 10),
        CrossEntropyLoss(),
        partial(torch.optim.SGD, lr=1e-12),
        centering="none" if seed % 2 else "subtract",
    )
    data = ImageDataModule("digits", n_train=200, batch_size=4, seed=seed)
    trainer = pl.Trainer(**QUIET, max_epochs=2, callbacks=[DivergenceGuard(every_n_steps=30)])
    trainer.fit(module, datamodule=data)
    assert trainer.callback_metrics["health/diverged"] == 0


@pytest.mark.parametrize(
    ("rank", "ranks", "sums"),
    [(0, 2, [2.0, 6.0, 18.0]), (1, 2, [2.0, 10.0, 58.0]), (0, 1, [4.0, 16.0, 76.0])],
)
def test_the_state_continues_on_every_rank(rank: int, ranks: int, sums: list[float]) -> None:
    guard = DivergenceGuard(every_n_steps=10)
    guard._first, guard._window = 2.0, [1.0, 2.0, 4.0]
    guard._sums = torch.tensor([2.0, 6.0, 18.0])
    state = guard.state_dict()
    state["sums"].append([2.0, 10.0, 58.0])  # as a second rank would
    other = DivergenceGuard(every_n_steps=10)
    other.load_state_dict(state)
    other.on_train_start(SimpleNamespace(global_rank=rank, world_size=ranks), Scripted([]))
    assert (other._first, other._window) == (2.0, [1.0, 2.0, 4.0])
    assert other._sums is not None
    assert other._sums.tolist() == sums


def test_factor_must_be_above_one() -> None:
    with pytest.raises(InputError, match="factor must be above 1, got 1"):
        DivergenceGuard(factor=1.0)


def frozen_share(alpha: float, lr: float, precision: str) -> float:
    torch.manual_seed(0)
    module = ScaledLightningModule(
        TwoLayerNet(64, 20, 10),
        SoftHingeLoss(),
        partial(torch.optim.SGD, lr=lr),
        alpha=alpha,
        log_every_n_steps=50,
    )
    data = ImageDataModule("digits", n_train=100, batch_size="full", normalize="sphere")
    trainer = pl.Trainer(**QUIET, max_steps=50, precision=precision, callbacks=[FrozenParameters()])
    trainer.fit(module, datamodule=data)
    return float(trainer.callback_metrics["health/frozen_share"])


@pytest.mark.parametrize(
    ("alpha", "lr", "precision"), [(1e8, 1e-8, "64-true"), (1e5, 1e-4, "32-true")]
)
def test_updates_below_the_spacing_of_floats_are_seen(
    alpha: float, lr: float, precision: str
) -> None:
    # Kanoh & Sugiyama §4.1: at large α and small η the weights stand still, in double precision at
    # α=1e8, η=1e-8 (over 99% of the live ones), in single precision long before.
    assert frozen_share(alpha, lr, precision) > 0.99


def test_updates_that_arrive_are_not_called_frozen() -> None:
    assert frozen_share(1.0, 1.0, "64-true") < 0.01
