"""What a run leaves in its folder, and how it goes on after a kill."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from lightning_lazy.checkpoints import CONFIG_KEY, prepare_checkpoint, write_checkpoint
from lightning_lazy.checks import check_period, check_size
from lightning_lazy.metrics_log import MetricsLog
from lightning_lazy.random_state import get_random_state, set_random_state
from lightning_lazy.replacing import put_in_place, replace_file
from lightning_lazy.reporting import gather, is_full_batch, steps_per_epoch
from lightning_lazy.summary import describe_environment, summarize


class RunFiles(pl.Callback):
    """Keeps the folder of a run: checkpoints, the metrics' clock, the summary.

    Put it first in the list of callbacks. Checkpoints are taken between batches, when the next
    batch starts, so that the validation and the rows of the last step belong to them. A resumed
    run restores the random number generators and cuts `MetricsLog` back to the rows that the
    checkpoint knows of: it continues bit for bit.

    Args:
        folder: Folder of the run.
        every_n_steps: Updates between two checkpoints; ``None``: at the end of epochs.
        every_n_epochs: Epochs between two checkpoints; counts updates if the batch is the whole
            training set.
        config: Plain containers that describe the run. They are kept in the checkpoint, for
            `lightning_lazy.load_checkpoint`, and the seed is noted in the summary.
        optimizer_overrides: Hyper-parameters that a resumed run changes, such as ``{"lr": 0.1}``.
    """

    def __init__(
        self,
        folder: str,
        every_n_steps: int | None = None,
        every_n_epochs: int = 1,
        config: Mapping[str, Any] | None = None,
        optimizer_overrides: Mapping[str, Any] | None = None,
    ) -> None:
        check_period("every_n_steps", every_n_steps)
        check_size("every_n_epochs", every_n_epochs)
        self.folder = Path(folder)
        self.every_n_steps = every_n_steps
        self.every_n_epochs = every_n_epochs
        self.config = config
        self.optimizer_overrides = dict(optimizer_overrides or {})
        self._due = False
        self._between_batches = False
        self._at_end = False  # the last checkpoint waits for its place
        self._restored: dict[str, Any] | None = None
        self._seconds_before = 0.0
        self._started = 0.0

    @property
    def checkpoint_path(self) -> Path:
        """Where the last checkpoint is."""
        return self.folder / "checkpoints" / "last.ckpt"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Make the folders and give the metrics log its clock."""
        self._started = time.monotonic()
        if trainer.is_global_zero:
            self.checkpoint_path.parent.mkdir(parents=True, exist_ok=True)

        def clock() -> tuple[int, float]:
            return trainer.global_step, trainer.global_step / steps_per_epoch(trainer)

        for log in _metrics_logs(trainer):
            log.set_clock(clock)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Continue where the checkpoint was taken; nothing draws random numbers after this."""
        if self._restored is None:
            return
        states = self._restored["random"]
        set_random_state(states[trainer.global_rank % len(states)])
        for log in _metrics_logs(trainer):
            log.truncate(self._restored["rows"])
        self._restored = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Write the checkpoint that has become due."""
        if self._due:
            self._due = False
            self._between_batches = True
            write_checkpoint(trainer, self.checkpoint_path)
            self._between_batches = False

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Note that a checkpoint is due; have the last update followed by a validation."""
        step = trainer.global_step
        period = self.every_n_steps
        if period is None and is_full_batch(trainer):
            period = self.every_n_epochs
        if period and step % period == 0 and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self._due = True
        if 0 < trainer.max_steps <= step:
            trainer.should_stop = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that a checkpoint is due."""
        if self.every_n_steps is None and (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._due = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the last checkpoint, from which the run could be made longer.

        It takes its place when all callbacks are done: a run that is killed while they measure at
        the end goes on from the one before, and measures again.
        """
        finish = getattr(trainer.train_dataloader, "batch_done", None)
        if finish is not None:
            finish()
        prepare_checkpoint(trainer, self.checkpoint_path)
        self._at_end = True

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the last checkpoint in its place; write the summary from the metrics file."""
        logs = _metrics_logs(trainer)
        if not trainer.is_global_zero:
            return
        if self._at_end:
            for log in logs:
                log.sync()
            put_in_place(self.checkpoint_path)
            self._at_end = False
        if not logs:
            return
        summary = {
            **summarize(logs[0].path),
            "wall_time_s": round(self._seconds(), 3),
            "seed": (self.config or {}).get("seed"),
            "devices": trainer.world_size,
            **describe_environment(pl_module.device),
        }
        text = json.dumps(summary, indent=2) + "\n"
        replace_file(self.folder / "summary.json", lambda path: path.write_text(text))

    def state_dict(self) -> dict[str, Any]:
        """Return the random states of all ranks and the time spent."""
        return {"random": gather(get_random_state()), "seconds": self._seconds()}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Bring the metrics to the disk before the checkpoint that counts them."""
        rows = [log.sync() for log in _metrics_logs(trainer)]
        checkpoint["callbacks"][self.state_key]["rows"] = rows[0] if rows else 0
        if self._between_batches:
            _forget_batch_in_flight(checkpoint)
        if self.config is not None:
            checkpoint[CONFIG_KEY] = dict(self.config)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state until training starts: before that, iterators still draw numbers."""
        self._restored = state_dict
        self._seconds_before = state_dict["seconds"]

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Change the optimizer's hyper-parameters in the state that will be restored."""
        groups = checkpoint["optimizer_states"][0]["param_groups"]
        for key, value in self.optimizer_overrides.items():
            for number, group in enumerate(groups):
                if key == "lr":
                    lr = value * group.get("lr_factor", 1.0)
                    _rescale_lr(group, number, checkpoint["lr_schedulers"], lr)
                else:
                    group[key] = value

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started


def _metrics_logs(trainer: pl.Trainer) -> list[MetricsLog]:
    return [logger for logger in trainer.loggers if isinstance(logger, MetricsLog)]


def _forget_batch_in_flight(checkpoint: dict[str, Any]) -> None:
    """Take back the count of the batch that was fetched when the checkpoint was taken.

    Lightning counts it again after a resume, and every period that counts batches, such as
    ``val_check_interval`` across epochs, would be one batch early from then on.
    """
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    for counts in (progress["total"], progress["current"]):
        counts["ready"] = counts["completed"]


def _rescale_lr(
    group: dict[str, Any], number: int, schedulers: list[dict[str, Any]], lr: float
) -> None:
    """Set a group's base learning rate to ``lr``, whatever the schedule has made of the old one."""
    ratio = lr / group.get("initial_lr", group["lr"])
    group["lr"] *= ratio
    if "initial_lr" in group:
        group["initial_lr"] = lr
    for scheduler in schedulers:
        for key in ("base_lrs", "_last_lr"):
            if key in scheduler:
                scheduler[key][number] *= ratio
