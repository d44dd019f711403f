"""What an installed wheel can do without any extra; .ci/run calls it in a fresh environment."""

import importlib.util
import json
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lightning_lazy
from lightning_lazy import MetricsLog, RunFiles, ScaledLightningModule, callbacks
from lightning_lazy.losses import CrossEntropyLoss

EXTRAS = ("hydra", "omegaconf", "torchvision", "sklearn", "scipy", "matplotlib", "pandas", "wandb")


def fit(folder: Path) -> None:
    """Train a net of the user's with callbacks that measure it, and keep the run's files."""
    torch.manual_seed(0)
    x = torch.randn(60, 5)
    images = TensorDataset(x, (x[:, 0] > 0).long())
    module = ScaledLightningModule(
        nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2)),
        CrossEntropyLoss(),
        partial(torch.optim.SGD, lr=0.1),
        alpha=2.0,
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=2,
        logger=MetricsLog(folder),
        callbacks=[
            RunFiles(str(folder)),
            callbacks.LazinessReport(),
            callbacks.HessianTopEigenvalues(k=2),
            callbacks.NeuralTangentKernel(size=8),
        ],
        enable_progress_bar=False,
        enable_checkpointing=False,
    )
    trainer.fit(module, DataLoader(images, batch_size=20), DataLoader(images, batch_size=20))


def main() -> None:
    """Import all callbacks and train; exit with what is wrong, if anything is."""
    present = [name for name in EXTRAS if importlib.util.find_spec(name) is not None]
    if present:
        sys.exit(f"the core alone should be installed, there are also {', '.join(present)}")
    if "site-packages" not in str(lightning_lazy.__file__):
        sys.exit(f"the wheel should be imported, not {lightning_lazy.__file__}")
    missing = [name for name in callbacks.__all__ if not hasattr(callbacks, name)]
    if missing:
        sys.exit(f"lightning_lazy.callbacks lacks {', '.join(missing)}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fit(folder)
        report = json.loads((folder / "laziness.json").read_text())
        columns = (folder / "metrics.csv").read_text().splitlines()[0].split(",")
    print(f"version {lightning_lazy.__version__}, {len(callbacks.__all__)} callbacks", report)
    absent = {"curvature/hessian_top1", "ntk/top1", "train/loss", "val/acc"} - set(columns)
    if absent:
        sys.exit(f"metrics.csv lacks {absent}")


if __name__ == "__main__":
    main()
