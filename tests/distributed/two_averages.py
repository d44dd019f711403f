"""Measures a net with running averages: ``python two_averages.py <devices> <folder>``.

On two devices its averages are those of each process's own shard at the end; both leave their
states in the folder. On one device the net takes that of rank 0, to measure the same function.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from processes import double_trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_lazy import callbacks


class RunningMean(nn.Module):
    """Subtracts a running average, of which only its buffer tells."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = self.mean.lerp(x.detach().mean(0), 0.1)
        return x - self.mean


class Averaging(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.l2 = 0.0
        self.layers = nn.Sequential(
            nn.Linear(4, 8), RunningMean(8), nn.ReLU(),
            nn.Linear(8, 32), nn.BatchNorm1d(32, momentum=0.1), nn.ReLU(), nn.Linear(32, 2),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        norm = sum(p.square().sum() for p in self.parameters())
        return nn.functional.cross_entropy(self(batch[0]), batch[1]) + self.l2 * norm / 2

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


class TakeState(pl.Callback):
    """Gives the module, after every batch, the state that rank 0 had at the end."""

    def __init__(self, path: Path) -> None:
        self.state = torch.load(path, weights_only=True)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        pl_module.load_state_dict(self.state)


class Keep(pl.Callback):
    """Keeps what a rank has at the end: the metrics and the state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.world_size > 1:
            torch.save(pl_module.state_dict(), self.folder / f"state-{trainer.global_rank}.pt")
        values = {name: float(v) for name, v in trainer.callback_metrics.items()}
        name = f"metrics-{trainer.world_size}-{trainer.global_rank}.json"
        (self.folder / name).write_text(json.dumps(values))


def points() -> TensorDataset:
    """Return samples of which the two shards have different means."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, 4, generator=generator, dtype=torch.float64)
    x[1::2] += 3.0
    return TensorDataset(x, torch.arange(16) // 8)


def measuring() -> list[pl.Callback]:
    """Return every callback that measures a whole net on a probe set."""
    probe: dict[str, Any] = {"split": "train", "size": 16, "batch_size": 4}
    own: dict[str, Any] = {"size": 12, "batch_size": 4}  # two batches and one
    return [
        callbacks.ActivationStability(**probe),
        callbacks.LinearizationGap(**probe),
        callbacks.RelativeScale(**probe, starts=1, iterations=5),
        callbacks.LazinessReport(**probe, name="report"),
        callbacks.HessianTopEigenvalues(2, **probe),
        callbacks.HessianTopEigenvalues(**probe, statistics="batch", name="batch"),
        callbacks.HessianSpectrum(**probe, probes=2, steps=4, name="all"),
        callbacks.NeuralTangentKernel(**probe),
        callbacks.CatapultMonitor(batch_size=4, name="monitor"),
        callbacks.AutoL2(0.01, period=1, **own),
        callbacks.AnnealOnLoss([0.77], [1.0], **own),
    ]


def main(devices: int, folder: Path) -> None:
    """Fit for one epoch."""
    first = [TakeState(folder / "state-0.pt")] if devices == 1 else []
    trainer = double_trainer(
        devices,
        max_epochs=1,
        callbacks=[*first, *measuring(), Keep(folder)],
        use_distributed_sampler=True,
        default_root_dir=folder,
    )
    trainer.fit(Averaging(), DataLoader(points(), batch_size=4))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(int(sys.argv[1]), Path(sys.argv[2]))
