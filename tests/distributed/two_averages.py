"""Trains a net with BatchNorm on two processes: ``python two_averages.py <folder>``.

Its weights stand still, its running averages are those of each process's own shard.
"""

import json
import sys
import warnings
from pathlib import Path

import pytorch_lightning as pl
import torch
from processes import double_trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_lazy.callbacks import CatapultMonitor, NeuralTangentKernel


class Averaging(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8, momentum=0.5), nn.Tanh(), nn.Linear(8, 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class Save(pl.Callback):
    """Keeps what rank 0 has at the end."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            torch.save(pl_module.state_dict(), self.folder / "weights.pt")
            values = {name: float(v) for name, v in trainer.callback_metrics.items()}
            (self.folder / "metrics.json").write_text(json.dumps(values))


def points() -> TensorDataset:
    """Return samples of which the two shards have different means."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, 4, generator=generator, dtype=torch.float64)
    x[1::2] += 3.0
    return TensorDataset(x, torch.arange(16) // 8)


def main(folder: str) -> None:
    """Fit for two epochs."""
    trainer = double_trainer(
        2,
        max_epochs=2,
        callbacks=[
            NeuralTangentKernel(split="train", size=16, batch_size=4),
            CatapultMonitor(batch_size=4, name="monitor"),
            Save(folder),
        ],
        use_distributed_sampler=True,
        default_root_dir=folder,
    )
    trainer.fit(Averaging(), DataLoader(points(), batch_size=4))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1])
