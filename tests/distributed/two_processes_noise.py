"""Trains with noisy gradients on as many processes as asked: ``… <devices> <folder>``."""

import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from processes import double_trainer

from lightning_lazy import MetricsLog, RunFiles, ScaledLightningModule
from lightning_lazy.callbacks import AnnealOnLoss, GradientNoise, PatternLearning
from lightning_lazy.data import PatternsDataModule
from lightning_lazy.losses import LogisticLoss
from lightning_lazy.models import TwoPartNet


class SaveWeights(pl.Callback):
    """Writes the final weights of every rank."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        path = Path(self.folder) / f"rank{trainer.global_rank}.pt"
        torch.save([p.detach() for p in pl_module.parameters()], path)


def main(devices: int, folder: str) -> None:
    """Fit full-batch noisy gradient descent in double precision on shards of equal size."""
    trainer = double_trainer(
        devices,
        max_steps=40,
        val_check_interval=4,
        check_val_every_n_epoch=None,
        logger=MetricsLog(folder),
        callbacks=[
            RunFiles(folder, every_n_steps=10),
            GradientNoise(0.02),
            AnnealOnLoss([0.55], [0.1], stop=0.45, every_n_steps=2),
            PatternLearning(every_n_steps=4, batch_size=17),
            SaveWeights(folder),
        ],
        log_every_n_steps=1,
    )
    module = ScaledLightningModule(
        TwoPartNet(16, 30, tau=0.4).double(),
        LogisticLoss(),
        partial(torch.optim.SGD, lr=2.0),
        l2=0.01,
        centering="none",
        log_every_n_steps=4,
    )
    data = PatternsDataModule(8, n_train=60, p0=0.2, q0=0.3, n_val=21, r=0.5)
    trainer.fit(module, datamodule=data)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(int(sys.argv[1]), sys.argv[2])
