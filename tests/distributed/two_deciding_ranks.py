"""Steers λ and the learning rate on ranks with unequal shards: ``… <folder>``."""

import json
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from processes import double_trainer
from torch import nn

from lightning_lazy import ScaledLightningModule
from lightning_lazy.callbacks import AnnealOnLoss, AutoL2, PreActivationNoise
from lightning_lazy.data import ImageDataModule
from lightning_lazy.losses import CrossEntropyLoss


class Keep(pl.Callback):
    """Keeps what has been decided after every update on this rank."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steps: list[list[float]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        group = trainer.optimizers[0].param_groups[0]
        stops = float(trainer.should_stop)
        self.steps.append([trainer.global_step, group["lr"], group["weight_decay"], stops])

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        chosen = ("l2/", "anneal/", "noise/")
        found = trainer.callback_metrics.items()
        values = {name: float(value) for name, value in found if name.startswith(chosen)}
        kept = {"steps": self.steps, "metrics": values}
        (self.folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(kept))


def main(folder: Path) -> None:
    """Fit on 41 samples: 21 and 20 in a batch, 30 and 11 of one probe set, 10 and 0 of another."""
    trainer = double_trainer(
        2,
        max_steps=60,
        limit_val_batches=0,
        callbacks=[
            PreActivationNoise(1.0),
            AutoL2(0.1, factor=0.5, period=1, refractory=0.2, on="batch"),
            AnnealOnLoss([0.5], [0.3], every_n_steps=2, size=41, batch_size=15),
            AnnealOnLoss(stop=0.05, every_n_steps=3, size=10, batch_size=10, name="stop"),
            Keep(folder),
        ],
        default_root_dir=folder,
    )
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
        nn.Linear(144, 10),
    )  # fmt: skip
    module = ScaledLightningModule(
        net, CrossEntropyLoss(), partial(torch.optim.SGD, lr=0.2, momentum=0.9, weight_decay=0.1)
    )
    data = ImageDataModule("digits", n_train=41, n_val=20, batch_size="full", flatten=False)
    trainer.fit(module, datamodule=data)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]))
