"""Families of runs for the harness: a module, its data, its callbacks, by seed."""

from functools import partial
from typing import Any

import torch
from runs import GRID, Family, training
from torch import nn

from lightning_lazy import ScaledLightningModule
from lightning_lazy.callbacks import (
    ActivationStability,
    AnnealOnLoss,
    AutoL2,
    CatapultMonitor,
    DivergenceGuard,
    FrozenParameters,
    GradientNoise,
    HessianTopEigenvalues,
    LinearizationGap,
    NeuralTangentKernel,
    ParameterDistance,
    PeakTime,
    PreActivationNoise,
)
from lightning_lazy.data import ImageDataModule
from lightning_lazy.losses import CrossEntropyLoss, SoftHingeLoss
from lightning_lazy.models import FullyConnected, TwoLayerNet
from lightning_lazy.optim import InverseTime, ScaledAdam, ScaledRMSprop


class DropoutNet(nn.Module):
    """Draws from the global generator in every training step, and has BatchNorm buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = FullyConnected(64, 16, 2, 16)
        self.norm, self.relu, self.drop = nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3)
        self.out = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.drop(self.relu(self.norm(self.body(x)))))


def small_cnn(dropout: float = 0.0) -> nn.Module:
    """A net of two convolutions, each with BatchNorm, for the 8×8 digits."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Flatten(), nn.Dropout(dropout), nn.Linear(24, 10),
    )  # fmt: skip


def diagnostics(log: int | None, seed: int) -> list[Any]:
    """What measures, and `AutoL2`, which steers the module's ``l2``; curvature every third time."""
    always = [
        DivergenceGuard(every_n_steps=3),
        FrozenParameters(every_n_steps=3),
        ActivationStability(every_n_steps=log, size=30),
        ParameterDistance(every_n_steps=log),
        AutoL2(0.03, period=2, refractory=0.003, size=20),
        PeakTime(l2=0.03, budget=100),
    ]
    curvature = [
        LinearizationGap(every_n_steps=log, size=30, batch_size=10),
        HessianTopEigenvalues(2, every_n_steps=log, size=20, overlap=True),
        NeuralTangentKernel(every_n_steps=log, size=4),
        CatapultMonitor(size=10),
    ]
    return always + curvature * (seed % 3 == 1)


def mini_batches(seed: int, n_train: int = 110) -> dict[str, Any]:
    """Augmented mini-batches, every other time mixed, dropout, BatchNorm, Adam, a schedule."""
    torch.manual_seed(seed)
    return {
        "module": ScaledLightningModule(
            DropoutNet(),
            CrossEntropyLoss(),
            partial(ScaledAdam, lr=0.01, alpha=2.0),
            partial(InverseTime, beta=0.5),
            alpha=2.0,
            centering="none",
        ),
        "data": ImageDataModule("digits", n_train=n_train, n_val=40, batch_size=20, augment=True,
                                padding=1, mixup=(None, 1.0)[seed % 2], seed=seed),
        "trainer": {"max_epochs": 3},
        "every_n_steps": (None, 3, 6, 5)[seed // 2 % 4],
        "callbacks": diagnostics(None, seed),
    }  # fmt: skip


def full_batch(seed: int) -> dict[str, Any]:
    """The whole set in every step, float64, RMSProp with state, a schedule by steps."""
    torch.manual_seed(seed)
    return {
        "module": ScaledLightningModule(
            TwoLayerNet(64, 12, 10),
            SoftHingeLoss(),
            partial(ScaledRMSprop, lr=0.05, alpha=10.0),
            partial(InverseTime, beta=0.1),
            alpha=10.0,
            schedule_interval="step",
            log_every_n_steps=4,
        ),
        "data": ImageDataModule("digits", n_train=80, n_val=40, batch_size="full", seed=seed,
                                normalize="sphere", augment=bool(seed % 2), padding=1),
        "trainer": {"max_steps": 20, "val_check_interval": 4, "check_val_every_n_epoch": None,
                    "precision": "64-true", "max_epochs": -1},
        "every_n_steps": (7, 7, 4)[seed % 3],
        "callbacks": diagnostics(4, seed),
    }  # fmt: skip


def accumulated(seed: int) -> dict[str, Any]:
    """Two batches to an update, but for the last of an epoch, which makes one of its own."""
    run = mini_batches(seed, n_train=90)
    run["trainer"]["accumulate_grad_batches"] = 2
    return run


def _cnn_run(seed: int, optimizer: Any, schedule: Any, callbacks: list[Any]) -> dict[str, Any]:
    """Mini-batches of a centred CNN with BatchNorm; every other time two of them to an update."""
    torch.manual_seed(seed)
    return {
        "module": ScaledLightningModule(
            small_cnn(), CrossEntropyLoss(), optimizer, schedule, alpha=2.0
        ),
        "data": ImageDataModule("digits", n_train=110, n_val=40, batch_size=20, flatten=False,
                                augment=True, padding=1, seed=seed),
        "trainer": {"max_epochs": 5, "accumulate_grad_batches": 1 + seed % 2},
        "every_n_steps": (None, 3, 7, 2)[seed % 4],
        "callbacks": callbacks,
    }  # fmt: skip


def noise(seed: int) -> dict[str, Any]:
    """Noise of each kind while its strength falls, and rates that fall with the loss.

    Every other run ends where its loss is low enough.
    """
    descent = partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    anneal = AnnealOnLoss([0.56, 0.52], [0.8, 0.5], every_n_steps=(2, None)[seed // 2 % 2],
                          size=50, batch_size=20, stop=(None, 0.46)[seed // 2 % 2])  # fmt: skip
    callbacks = [
        PreActivationNoise(0.4, "step", factor=0.3, milestones=[1, 3]),
        PreActivationNoise(0.2, "lr", shared_axes=[0, 1], seed=seed, name="shared"),
        GradientNoise(0.02, "exponential", factor=0.95),
        anneal,
        DivergenceGuard(every_n_steps=3),
        ActivationStability(size=30),
        LinearizationGap(size=30, batch_size=10),
    ]
    return _cnn_run(seed, descent, partial(InverseTime, beta=0.2), callbacks)


def auto_l2(seed: int) -> dict[str, Any]:
    """λ is the optimizer's weight decay; every other time it is steered by single batches."""
    descent = partial(torch.optim.SGD, lr=0.3, momentum=0.9, weight_decay=0.1)
    on: Any = ("subset", "batch")[seed % 2]
    steered = AutoL2(0.1, factor=0.5, period=2, refractory=0.2, on=on, batch_size=20,
                     size=50 if on == "subset" else None, reset_on_decay=seed % 4 > 1)  # fmt: skip
    callbacks = [PreActivationNoise(0.1), steered, PeakTime(), ParameterDistance()]
    return _cnn_run(seed, descent, None, callbacks)


def ddp(seed: int) -> dict[str, Any]:
    """Ranks with shares of unequal length, BatchNorm, and dropout and noise of their own.

    Rates fall with the loss, or λ does; the gradients of two batches add up every other time.
    """
    run = (noise, auto_l2)[seed // 2 % 2](seed)
    run["data"] = ImageDataModule("digits", n_train=87, n_val=41, batch_size=10, flatten=False,
                                  augment=True, padding=1, seed=seed)  # fmt: skip
    run["trainer"]["max_epochs"] = 4
    centred = run["module"]
    run["module"] = ScaledLightningModule(
        small_cnn(dropout=0.2), CrossEntropyLoss(), centred.optimizer, centred.schedule,
        alpha=2.0, centering="none",
    )  # fmt: skip
    return run


FAMILIES: dict[str, Family] = {
    "mini_batches": training(mini_batches),
    "full_batch": training(full_batch),
    "accumulated": training(accumulated),
    "noise": training(noise),
    "auto_l2": training(auto_l2),
    "grid": GRID,
    "ddp": training(ddp, ranks=2),
}
