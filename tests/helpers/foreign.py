"""Projects that know nothing of this one, under both Lightning packages."""

from typing import Any

import lightning.pytorch as lp
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class Foreign:
    """A plain classifier with everything that a careless observer would disturb."""

    def __init__(self, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(6, 16),
            nn.BatchNorm1d(16),
            activation or nn.ReLU(),
            nn.Dropout(0.4),
            nn.Linear(16, 3),
        )
        self.seen: list[dict[str, float]] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("own", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.02)

    def on_train_end(self) -> None:
        self.metrics = {name: float(v) for name, v in self.trainer.callback_metrics.items()}


class OldForeign(Foreign, pl.LightningModule):
    pass


class NewForeign(Foreign, lp.LightningModule):
    pass


def loaders(features: int = 6, shuffle: bool = True) -> tuple[DataLoader, DataLoader]:
    """Loaders for training and validation of the same 40 samples in three classes."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(40, features, generator=generator)
    data = TensorDataset(x, torch.randint(3, (40,), generator=generator))
    return DataLoader(data, batch_size=8, shuffle=shuffle), DataLoader(data, batch_size=16)
