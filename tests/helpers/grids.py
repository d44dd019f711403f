"""Small grids on scikit-learn's digits, trained in a Trainer."""

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
from trainers import QUIET

from lightning_lazy.data import ImageDataModule
from lightning_lazy.losses import SoftHingeLoss
from lightning_lazy.models import TwoLayerNet
from lightning_lazy.stacked import StackedGrid, read_cells

TRAIN, TEST, WIDTH = 30, 50, 6
AXES: dict[str, Any] = {
    "optimizer": ["sgd", "scaled_adam"],
    "lr": "1e-2:1e4:4",
    "alpha": [0.1, 10.0],
    "seed": [0, 1],
}
# Above 1e6 times the first loss only where outputs overflow: the squared loss does that.
CELL_BYTES = 40_000


def digits(batch_size: Any = "full", **options: Any) -> ImageDataModule:
    return ImageDataModule(
        "digits", n_train=TRAIN, n_val=TEST, batch_size=batch_size, normalize="sphere", **options
    )


def make_grid(folder: Path, **changes: Any) -> StackedGrid:
    arguments: dict[str, Any] = {
        "net": partial(TwoLayerNet, 64, WIDTH, 10),
        "loss": SoftHingeLoss(),
        "axes": AXES,
        "steps": 30,
        "folder": str(folder),
        "check_every_n_steps": 5,
        "checkpoint_every_n_steps": 10,
        "memory_budget": 5 * CELL_BYTES,
    }
    return StackedGrid(**(arguments | changes))


def fit(grid: StackedGrid, data: Any = None, **settings: Any) -> StackedGrid:
    precision = settings.pop("precision", "64-true")
    trainer = pl.Trainer(
        **(QUIET | {"max_epochs": -1, "limit_val_batches": 0, "precision": precision} | settings)
    )
    trainer.fit(grid, datamodule=digits() if data is None else data)
    return grid


def cells_of(folder: Path) -> pd.DataFrame:
    """The table without the times, which no two runs share."""
    return read_cells(folder).drop(columns="seconds")
