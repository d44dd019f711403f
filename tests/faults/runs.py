"""What a family of runs is: how a rank of it runs or goes on, and what must be the same then."""

import os
import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
from grids import cells_of, fit, make_grid
from kills import Moments, Rank
from trainers import QUIET

from lightning_lazy import MetricsLog, RunFiles, read_checkpoint
from lightning_lazy.losses import SquaredLoss
from lightning_lazy.models import FullyConnected
from lightning_lazy.processes import TogetherToTheEnd

Settings = Callable[[int], dict[str, Any]]
"""Makes the module, data, callbacks and settings of a training run of a seed."""
# What two runs need not share: how long they took, and Lightning's own count of updates for W&B and
# TensorBoard, which it sets one too high where it goes on at an epoch's start or a validation.
OWN = ("seconds", "_batches_that_stepped")


@dataclass(frozen=True)
class Family:
    """Runs of a kind, by seed.

    Attributes:
        run: Runs, or goes on from what is in a folder: ``run(seed, folder, rank, moments)``.
        compare: Names what must be the same in two folders, and whether it is.
        ranks: Processes of a run.
    """

    run: Callable[[int, Path, int, Moments], None]
    compare: Callable[[Path, Path], dict[str, bool]]
    ranks: int = 1

    def of(self, seed: int, folder: Path) -> list[Rank]:
        """The ranks of a run, as torchrun would start them."""
        if self.ranks == 1:
            return [partial(self.run, seed, folder, 0)]
        port = _free_port()
        return [partial(self._as_rank, seed, folder, r, port) for r in range(self.ranks)]

    def _as_rank(self, seed: int, folder: Path, rank: int, port: int, moments: Moments) -> None:
        given = {
            "RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": self.ranks,
            "LOCAL_WORLD_SIZE": self.ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
            "TORCHELASTIC_RUN_ID": "kills",
        }  # fmt: skip
        os.environ.update({name: str(value) for name, value in given.items()})
        self.run(seed, folder, rank, moments)


def training(settings: Settings, ranks: int = 1) -> Family:
    """Return a family of fits of one network."""
    return Family(partial(_train, settings), partial(_same_training, ranks), ranks)


def _train(settings: Settings, seed: int, folder: Path, rank: int, moments: Moments) -> None:
    """Fit, from the last checkpoint if there is one, and store the final weights of the rank."""
    run = settings(seed)
    random.seed(seed)
    torch.manual_seed(seed + 1000 * rank)  # what a rank draws is its own
    files = RunFiles(str(folder), every_n_steps=run["every_n_steps"])
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    several = {"devices": ranks, "strategy": "ddp"} if ranks > 1 else {}
    settled = {"logger": MetricsLog(folder), "log_every_n_steps": 1}
    trainer = pl.Trainer(
        **QUIET | settled | several | run["trainer"],
        callbacks=[*moments.among([files, *run["callbacks"]]), TogetherToTheEnd()],
    )
    last = files.checkpoint_path
    resumed = str(last) if last.is_file() else None
    trainer.fit(run["module"], datamodule=run["data"], ckpt_path=resumed, weights_only=True)
    torch.save(run["module"].state_dict(), folder / f"final-{rank}.pt")


def _same_training(ranks: int, one: Path, other: Path) -> dict[str, bool]:
    def weights(folder: Path) -> list[Any]:
        names = [f"final-{rank}.pt" for rank in range(ranks)]
        return [torch.load(folder / name, weights_only=True) for name in names]

    last = Path("checkpoints/last.ckpt")
    return {
        "weights": same(weights(one), weights(other)),
        "metrics": (one / "metrics.csv").read_bytes() == (other / "metrics.csv").read_bytes(),
        "checkpoint": same(read_checkpoint(one / last), read_checkpoint(other / last)),
    }


def same(one: Any, other: Any) -> bool:
    """Whether nested containers hold the same tensors and values, to the last bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(_bits(one), _bits(other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            same(one[key], other[key]) for key in one if key not in OWN
        )
    if isinstance(one, Sequence) and not isinstance(one, str | bytes):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (one != one and other != other)  # noqa: PLR0124 (not a number)


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().flatten().view(torch.uint8) if tensor.numel() else tensor


def _run_grid(seed: int, folder: Path, rank: int, moments: Moments) -> None:
    """Squared losses explode, so that chunks shrink on the way; every third grid is vmapped."""
    changes: dict[str, Any] = {"loss": SquaredLoss()}
    if seed % 3 == 2:
        changes |= {"net": partial(FullyConnected, 64, 6, 1, 10), "memory_budget": 500_000}
    fit(make_grid(folder, **changes), callbacks=moments.among([]))


def _same_grid(one: Path, other: Path) -> dict[str, bool]:
    tables: list[pd.DataFrame] = [cells_of(folder) for folder in (one, other)]
    return {
        "cells": tables[0].equals(tables[1]),
        "none left out": len(tables[0]) == 32,
        "some stopped": bool((tables[0]["steps"] < 30).any()),
        "tidy": not list((other / "checkpoints").iterdir()),
    }


GRID = Family(_run_grid, _same_grid)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
