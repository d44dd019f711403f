"""Keeps the noise before activations of every rank: ``… <devices> <folder>``."""

import sys
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from processes import double_trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_lazy.callbacks import GradientNoise, PreActivationNoise

SHAPE = (4, 20, 6, 6)  # of a batch: samples, channels, places


class Silent(pl.LightningModule):
    """Two activations of zeros, so that they see the noise alone, and a layer that is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.apart, self.shared = nn.ReLU(), nn.Tanh()
        self.out = nn.Linear(2, 3)
        self.seen: dict[str, list[Tensor]] = {"apart": [], "shared": []}

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        parts = [activation(batch[0]).mean((1, 2, 3)) for activation in (self.apart, self.shared)]
        return self.out(torch.stack(parts, dim=1)).square().mean()

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Keep(pl.Callback):
    """Keeps what the activations see, and what a rank has in the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Add hooks that run after those of the noise."""
        for name, seen in pl_module.seen.items():
            activation = getattr(pl_module, name)
            activation.register_forward_pre_hook(lambda _, inputs, to=seen: to.append(inputs[0]))

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        seen = {name: torch.stack(parts).detach() for name, parts in pl_module.seen.items()}
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        weights = torch.cat([p.detach().flatten() for p in pl_module.parameters()])
        path = self.folder / f"noise-{trainer.world_size}-{trainer.global_rank}.pt"
        torch.save({"seen": seen, "metrics": values, "weights": weights}, path)


def main(devices: int, folder: Path) -> None:
    """Fit for three updates."""
    trainer = double_trainer(
        devices,
        max_steps=3,
        callbacks=[
            PreActivationNoise(
                0.4, "exponential", factor=0.5, interval="step", types=[nn.ReLU], name="apart"
            ),
            PreActivationNoise(0.4, "lr", shared_axes=[0, 1], types=[nn.Tanh], name="shared"),
            GradientNoise(0.1, "exponential", factor=0.5),
            Keep(folder),
        ],
        use_distributed_sampler=True,
        default_root_dir=folder,
    )
    zeros = TensorDataset(torch.zeros(6 * SHAPE[0], *SHAPE[1:]))
    trainer.fit(Silent(), DataLoader(zeros, batch_size=SHAPE[0]))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(int(sys.argv[1]), Path(sys.argv[2]))
