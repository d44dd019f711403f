"""Runs that kill themselves: real fits in forked children of one warm process.

Usage: ``python harness.py <family> <folder> <seeds>``. For every seed an uninterrupted run and one
that is killed with SIGKILL at random updates and resumed, until it ends. Prints one JSON line a
seed: the kills, and whether weights and the metrics file are the same to the last bit.
"""

import json
import os
import random
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn

from lightning_lazy import MetricsLog, RunFiles, ScaledLightningModule
from lightning_lazy.callbacks import (
    ActivationStability,
    AutoL2,
    CatapultMonitor,
    DivergenceGuard,
    FrozenParameters,
    HessianTopEigenvalues,
    LinearizationGap,
    NeuralTangentKernel,
    ParameterDistance,
    PeakTime,
)
from lightning_lazy.data import ImageDataModule
from lightning_lazy.losses import CrossEntropyLoss, SoftHingeLoss
from lightning_lazy.models import FullyConnected, TwoLayerNet
from lightning_lazy.optim import InverseTime, ScaledAdam, ScaledRMSprop


class KillAt(pl.Callback):
    """Ends the process with SIGKILL at a moment of the run, counted in hook calls."""

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def _count(self, *_: Any, **__: Any) -> None:
        self.calls -= 1
        if self.calls == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    on_train_batch_start = on_before_optimizer_step = on_train_batch_end = _count
    on_validation_batch_end = on_validation_end = on_train_epoch_end = _count


class DropoutNet(nn.Module):
    """Draws from the global generator in every training step, and has BatchNorm buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = FullyConnected(64, 16, 2, 16)
        self.norm, self.relu, self.drop = nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3)
        self.out = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.drop(self.relu(self.norm(self.body(x)))))


def mini_batches(seed: int) -> dict[str, Any]:
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
        "data": ImageDataModule("digits", n_train=150, n_val=60, batch_size=20, augment=True,
                                padding=1, mixup=(None, 1.0)[seed % 2], seed=seed),
        "trainer": {"max_epochs": 4},
        "every_n_steps": (None, 3, 8, 5)[seed % 4],
        "log": None,
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
        "trainer": {"max_steps": 30, "val_check_interval": 4, "check_val_every_n_epoch": None,
                    "precision": "64-true", "max_epochs": -1},
        "every_n_steps": 7 if seed % 3 else 4,
        "log": 4,
    }  # fmt: skip


def accumulated(seed: int) -> dict[str, Any]:
    """Two batches to an update."""
    run = mini_batches(seed)
    run["trainer"]["accumulate_grad_batches"] = 2
    return run


FAMILIES: dict[str, Callable[[int], dict[str, Any]]] = {
    "mini_batches": mini_batches,
    "full_batch": full_batch,
    "accumulated": accumulated,
}


def fit(family: str, seed: int, folder: Path, kill_after: int | None) -> None:
    """Run, or go on from the last checkpoint if there is one, and store the final weights."""
    run = FAMILIES[family](seed)
    random.seed(seed)
    ckpt = folder / "checkpoints" / "last.ckpt"
    callbacks = [
        RunFiles(str(folder), every_n_steps=run["every_n_steps"]),
        DivergenceGuard(every_n_steps=3),
        FrozenParameters(every_n_steps=3),
        ActivationStability(every_n_steps=run["log"], size=30),
        ParameterDistance(every_n_steps=run["log"]),
        LinearizationGap(every_n_steps=run["log"], size=30, batch_size=10),
        HessianTopEigenvalues(2, every_n_steps=run["log"], size=20, overlap=True),
        NeuralTangentKernel(every_n_steps=run["log"], size=4),
        CatapultMonitor(size=10),
        AutoL2(0.03, period=2, refractory=0.003, size=20),
        PeakTime(l2=0.03, budget=100),
    ]
    if kill_after is not None:
        # First or last in the order of hooks, by chance.
        callbacks.insert(random.Random(kill_after).choice((0, len(callbacks))), KillAt(kill_after))
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        logger=MetricsLog(folder),
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        log_every_n_steps=1,
        **run["trainer"],
    )
    resumed = str(ckpt) if ckpt.is_file() else None
    trainer.fit(run["module"], datamodule=run["data"], ckpt_path=resumed, weights_only=True)
    torch.save(run["module"].state_dict(), folder / "final.pt")


def in_child(work: Callable[[], None]) -> bool:
    """Run ``work`` in a forked child; return whether it was killed. Any other failure raises."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    if status != 0:
        raise RuntimeError(f"a child ended with status {status}")
    return False


def compare(family: str, seed: int, folder: Path) -> dict[str, Any]:
    """Kill and resume until the run ends; compare with the uninterrupted run."""
    whole, killed = folder / f"{seed}-whole", folder / f"{seed}-killed"
    in_child(partial(fit, family, seed, whole, None))
    chance = random.Random(f"{family} {seed}")
    kills = []
    while True:
        # The first part may end before any checkpoint: the run then starts anew.
        kills.append(chance.randint(1, 70))
        if not in_child(partial(fit, family, seed, killed, kills[-1])):
            break
    one, other = (torch.load(f / "final.pt", weights_only=True) for f in (whole, killed))
    return {
        "seed": seed,
        "kills": kills[:-1],
        "same_weights": all(
            torch.equal(one[k], other[k]) if torch.is_tensor(one[k]) else one[k] == other[k]
            for k in one
        ),
        "same_rows": (whole / "metrics.csv").read_bytes() == (killed / "metrics.csv").read_bytes(),
        "rows": len((whole / "metrics.csv").read_text().splitlines()) - 1,
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for number in range(int(sys.argv[3])):
        print(json.dumps(compare(sys.argv[1], number, Path(sys.argv[2]))), flush=True)
