"""The LightningModule that trains a grid of cells at once."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import pytorch_lightning as pl
import torch
from torch import nn

from lightning_lazy.checks import check_choice, check_period, check_size
from lightning_lazy.curvature.functional import cast_floats
from lightning_lazy.errors import InputError
from lightning_lazy.metrics_log import MetricsLog
from lightning_lazy.random_state import same_random_state_after
from lightning_lazy.reporting import is_full_batch
from lightning_lazy.scaling import Centering, square_is_lost
from lightning_lazy.stacked.chunk import Schedule
from lightning_lazy.stacked.description import describe
from lightning_lazy.stacked.examiner import Hessian
from lightning_lazy.stacked.files import GridFiles
from lightning_lazy.stacked.grid import Grid
from lightning_lazy.stacked.grid_run import GridRun
from lightning_lazy.stacked.output_losses import LossFunction
from lightning_lazy.stacked.stack import Batch, Task
from lightning_lazy.stacked.updates import OptimizerOptions
from lightning_lazy.summary import describe_environment


class StackedGrid(pl.LightningModule):
    r"""Trains every cell of a grid of learning rates, output scales, … at once, by full batches.

    A cell is the run of a `lightning_lazy.ScaledLightningModule` on the whole training set,

    .. math:: L(\theta) = \ell(\alpha (f(\theta, x) - f(\theta_0, x)), y) / \alpha^2
              + \tfrac12 \, l2 \, \|\theta\|^2,

    and ends with the same numbers, to rounding. Cells with the same optimizer and the same net run
    as one stack, as many as fit the memory, one such chunk after another; `TwoLayerNet` is
    differentiated by hand, other nets by `torch.func.vmap`. Cells leave the stack where their loss
    is not finite or has grown by a factor of 1e6.

    The folder then holds ``cells.parquet`` and ``cells.csv``, a row a cell, ``grid.json``, which
    says of which grid, and ``summary.json``. A grid that was killed goes on in its folder where it
    stopped: finished chunks are in the table, of the one in progress its last state is kept.

    Use it with a datamodule whose training batch is the whole set, in a ``Trainer(max_epochs=-1,
    limit_val_batches=0)`` of one device. A batch of the Trainer trains one chunk up to its next
    check. There is no optimizer of torch's, so ``trainer.global_step`` stays at 0.

    Args:
        net: Makes the net, with the grid's knobs as keyword arguments.
        loss: ℓ(output, target), a scalar.
        axes: The grid, see `Grid`.
        steps: Updates of a cell.
        folder: Where the results go.
        shard: ``i/n``: train only the i-th of every n cells.
        centering: See `lightning_lazy.ScaledModel`.
        momentum: μ of ``momentum``.
        rho: ρ of ``rmsprop`` and ``scaled_rmsprop``.
        eps: ε of these and of ``adam`` and ``scaled_adam``.
        betas: (β₁, β₂) of these.
        memory_budget: Bytes of memory for a chunk (a C library that keeps freed blocks may hold a
            third more: see ``MALLOC_MMAP_THRESHOLD_``); ``None``: on a CPU 8 MiB, which fits its
            caches, on a GPU half of what is free, but at least one cell.
        hessian: When the largest eigenvalue of the Hessian is measured: ``start``, which costs once
            a seed and α, ``both`` ends, or ``none``.
        check_every_n_steps: Updates of a cell between two checks for divergence and for updates
            lost to rounding.
        checkpoint_every_n_steps: Updates of a cell between two states of its chunk on the disk.

    Attributes:
        grid: The whole grid.
        cells: The cells of the shard.
        config: Plain containers that are kept as ``config.yaml``, if any.

    Raises:
        InputError: A value is out of range; when training starts, the folder holds another grid,
            one cell does not fit the memory budget, or the batch is not the whole training set.
    """

    def __init__(
        self,
        net: Callable[..., nn.Module],
        loss: LossFunction,
        axes: Mapping[str, Any],
        steps: int,
        *,
        folder: str,
        shard: str = "1/1",
        centering: Centering = "subtract",
        momentum: float = 0.9,
        rho: float = 0.999,
        eps: float = 1e-8,
        betas: Sequence[float] = (0.9, 0.999),
        memory_budget: int | None = None,
        hessian: Hessian = "none",
        check_every_n_steps: int = 50,
        checkpoint_every_n_steps: int = 500,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        check_choice("centering", centering, get_args(Centering))
        check_choice("hessian", hessian, get_args(Hessian))
        check_size("checkpoint_every_n_steps", checkpoint_every_n_steps)
        check_period("memory_budget", memory_budget)
        self.grid = Grid(axes)
        self.shard = shard
        self.cells = self.grid.shard(shard)
        if not self.cells:
            raise InputError(
                f"shard must hold a cell, got {shard} of a grid of {len(self.grid.cells)}; make "
                "fewer shards"
            )
        self.make_net, self.loss, self.folder = net, loss, Path(folder)
        self.centering, self.hessian, self.memory_budget = centering, hessian, memory_budget
        options = OptimizerOptions(momentum, rho, eps, betas)
        self.schedule = Schedule(
            check_size("steps", steps),
            check_size("check_every_n_steps", check_every_n_steps),
            options,
        )
        self.checkpoint_every_n_steps = checkpoint_every_n_steps
        self.config: Mapping[str, Any] | None = None
        self._run: GridRun | None = None
        self._files: GridFiles | None = None
        self._started = 0.0

    @property
    def progress(self) -> tuple[int, int]:
        """Updates done and updates in all, summed over the cells."""
        if self._run is None:
            return 0, len(self.cells) * self.schedule.steps
        return self._run.cell_steps_done, self._run.cell_steps

    def configure_optimizers(self) -> list[Any]:
        """Return no optimizer: cells have their own."""
        return []

    def on_fit_start(self) -> None:
        """Refuse several devices: cells are split by shards."""
        self._started = time.monotonic()
        if self.trainer.world_size > 1:
            raise InputError(
                f"a grid must run on one device, got {self.trainer.world_size}: start a process "
                "for each, with shard=1/2 and shard=2/2"
            )

    def on_train_start(self) -> None:
        """Forget an earlier fit."""
        self._run = None

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Train one chunk of cells up to its next check."""
        if self._run is None:
            self._begin(batch)
        run = self._run
        if run is not None:
            run.advance()
            self.trainer.should_stop = run.done

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Do nothing: cells see the validation images when they leave the stack."""

    def on_train_end(self) -> None:
        """Log how many cells there are and how good the best one is; write the summary.

        Raises:
            InputError: The Trainer has ended before all cells were done.
        """
        if self._run is None or self._files is None or not self._run.done:
            raise InputError(
                "the Trainer must go on until all cells are done, got one that ended before: use "
                "Trainer(max_epochs=-1), and start again to go on"
            )
        table, steps = self._files.table, self.schedule.steps
        metrics = {
            "stacked/cells": float(len(table)),
            "stacked/diverged": float(table["diverged"].sum()),
            "val/acc": float(table["val/acc"].max()),
        }
        for logger in self.trainer.loggers:
            logger.log_metrics(metrics, step=steps)
            if isinstance(logger, MetricsLog):
                logger.sync()
        summary = {
            "steps": steps,
            "epochs": float(steps),
            "metrics": {k: v if math.isfinite(v) else None for k, v in metrics.items()},
            "diverged": bool(table["diverged"].all()),
            "frozen_share": None,
            "wall_time_s": round(time.monotonic() - self._started, 3),
            "seed": None,
            "devices": 1,
            **describe_environment(self.device),
        }
        self._files.write("summary.json", json.dumps(summary, indent=2) + "\n")

    def _begin(self, batch: Batch) -> None:
        if self.trainer.num_training_batches != 1 and not is_full_batch(self.trainer):
            raise InputError(
                f"a grid is trained on the whole training set at once, got "
                f"{self.trainer.num_training_batches} batches: use batch_size=full"
            )
        if getattr(getattr(self.trainer, "datamodule", None), "augment", False):
            raise InputError("a grid sees the same images in every step: use data.augment=false")
        if "mixed" in str(self.trainer.precision):
            raise InputError(
                f"a grid is computed in one precision, got precision={self.trainer.precision}: use "
                "32-true or 64-true"
            )
        x, y = batch
        self._check_scales(x.dtype)
        task = Task(x, y, self.loss, self.centering)
        test = self._test_batches()
        description = describe(
            self.grid, self.schedule, task, test, net=self.make_net, hessian=self.hessian
        )
        self._files = GridFiles(self.folder, description, self.shard, self.config)
        self._run = GridRun(
            self.cells,
            self.make_net,
            task,
            test,
            self.schedule,
            files=self._files,
            memory_budget=self.memory_budget,
            checkpoint_every=self.checkpoint_every_n_steps,
            hessian=self.hessian,
        )

    def _check_scales(self, dtype: torch.dtype) -> None:
        """Refuse output scales whose square is lost in the run's precision."""
        name = str(dtype).removeprefix("torch.")
        for alpha in self.grid.axes["alpha"]:
            if square_is_lost(alpha, dtype):
                raise InputError(
                    f"axes.alpha has {alpha:g}, which can't be squared in {name}: choose "
                    "values between 1e-18 and 1e18, or up to 1e±150 in double precision "
                    "(trainer=float64)"
                )

    def _test_batches(self) -> list[Batch]:
        """Return the datamodule's validation batches on the device, in the dtype of training."""
        data: Any = getattr(self.trainer, "datamodule", None)
        if data is None:
            return []
        batches = []
        dtype: Any = self.dtype
        with same_random_state_after():
            for batch in data.val_dataloader():
                moved = data.on_before_batch_transfer(batch, 0)
                moved = data.transfer_batch_to_device(moved, self.device, 0)
                x, y = cast_floats(data.on_after_batch_transfer(moved, 0), dtype)
                batches.append((x, y))
        return batches
