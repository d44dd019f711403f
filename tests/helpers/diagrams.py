"""Folders of grids whose tables are made up, with edges of divergence that are known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from lightning_lazy.stacked import Grid

AXES: dict[str, Any] = {
    "optimizer": ["sgd", "rmsprop", "scaled_rmsprop"],
    "alpha": "1e-6:1e6:13",
    "lr": "1e-8:1e6:15",
}
ROOT, EPS = 1e-4, 1e-8
"""√v of αG, and ε."""
CRITICAL = 3.0
"""Gradient descent diverges above this times α, λ_max being 1/α."""


def made_up_cells(axes: dict[str, Any]) -> pd.DataFrame:
    """A table with the columns of a grid's, from closed forms of η and α."""
    rows = []
    for cell in Grid(axes).cells:
        alpha, lr, plain = cell.alpha, cell.lr, cell.optimizer in ("rmsprop", "adam")
        sgd = cell.optimizer in ("sgd", "momentum")
        factor = 1.0 if sgd else 1 / (ROOT / (alpha if plain else 1.0) + EPS)
        progress = lr * factor / alpha * (1.0 if sgd else ROOT)  # about 1 at the edge
        acc = 0.1 + 0.85 / (1 + abs(np.log10(progress)) ** 2 / 8)
        acc -= 0.1 * (np.log10(alpha) > 0)
        diverged = sgd and lr > CRITICAL * alpha
        frozen = 1.0 if lr / alpha < 1e-11 else 0.0
        rows.append(
            {
                **cell.columns,
                "train/loss_start": 1.0, "train/loss": 2.0 if diverged else 1 - acc,
                "train/acc": min(1.0, acc + 0.05), "val/loss": 1.1 - acc, "val/acc": acc,
                "lazy/sign_consistency": 1 / (1 + progress / max(alpha, 1e-3)),
                "lazy/param_distance": progress,
                "curvature/hessian_top1_start": 1 / alpha, "curvature/hessian_top1": np.nan,
                "diverged": diverged, "health/frozen_share": frozen, "frozen_throughout": frozen,
                "effective_lr": lr * factor, "steps": 10, "seconds": 0.1,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def write_grid(
    folder: Path, axes: dict[str, Any] = AXES, dataset: str = "mnist", shard: str = "1/1",
    **config: Any,
) -> pd.DataFrame:  # fmt: skip
    """Write the folder of one shard of a grid; return its cells."""
    grid = Grid(axes)
    description = {"shard": shard, "axes": grid.axes, "eps": EPS, "labels": dataset}
    wanted = [cell.index for cell in grid.shard(shard)]
    cells = made_up_cells(axes).iloc[wanted].reset_index(drop=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "grid.json").write_text(json.dumps(description))
    cells.to_parquet(folder / "cells.parquet", index=False)
    plain = {"data": {"dataset": dataset}, "figures": {}, "sweep_figure": None, **config}
    OmegaConf.save(OmegaConf.create(plain), folder / "config.yaml")
    return cells
