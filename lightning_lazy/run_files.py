"""What a run leaves in its folder, and how it goes on after a kill."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from torch import nn
from torchmetrics import Metric

from lightning_lazy.checkpoints import (
    CONFIG_KEY,
    LAST,
    PREVIOUS,
    check_undamaged,
    forget_batch_in_flight,
    prepare_checkpoint,
    rescale_lr,
    write_checkpoint,
)
from lightning_lazy.checks import check_period, check_size
from lightning_lazy.metrics_log import MetricsLog
from lightning_lazy.random_state import get_random_state, set_random_state
from lightning_lazy.replacing import check_writable, put_in_place, replace_file
from lightning_lazy.reporting import gather, is_full_batch, steps_per_epoch
from lightning_lazy.summary import describe_environment, summarize


class RunFiles(pl.Callback):
    """Keeps the folder of a run: checkpoints, the metrics' clock, the summary.

    Put it first in the list of callbacks. Checkpoints are taken between batches, when the next
    batch starts, so that the validation and the rows of the last step belong to them. A resumed
    run restores the random number generators and the persistent torchmetrics of every rank, and
    cuts `MetricsLog` back to the rows that the checkpoint knows of: it continues bit for bit.

    The checkpoint before the last one is kept as ``previous.ckpt``, in case that the last one gets
    damaged. While a third one is written, they take three times the room of one.

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
        self._last_is_good = False  # last.ckpt is this run's, and was written or read whole
        self._restored: dict[str, Any] | None = None
        self._seconds_before = 0.0
        self._started = 0.0

    @property
    def checkpoint_path(self) -> Path:
        """Where the last checkpoint is."""
        return self.folder / "checkpoints" / LAST

    @property
    def _previous_path(self) -> Path:
        return self.folder / "checkpoints" / PREVIOUS

    @property
    def _keep_as(self) -> Path | None:
        """Where the last checkpoint goes when the next takes its place.

        It is dropped where it is not this run's, or where the run goes on from the previous one
        since it is damaged.
        """
        return self._previous_path if self._last_is_good else None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Make the folders and give the metrics log its clock.

        Raises:
            InputError: The folder can't be written.
        """
        self._started = time.monotonic()
        if trainer.is_global_zero:
            for path in (self.checkpoint_path, *(log.path for log in _metrics_logs(trainer))):
                check_writable(path)

        def clock() -> tuple[int, float]:
            return trainer.global_step, trainer.global_step / steps_per_epoch(trainer)

        for log in _metrics_logs(trainer):
            log.set_clock(clock)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Continue where the checkpoint was taken; nothing draws random numbers after this."""
        if self._restored is None:
            if trainer.is_global_zero:  # of an older run in this folder, if any
                self._previous_path.unlink(missing_ok=True)
            return
        states = self._restored["random"]
        set_random_state(states[trainer.global_rank % len(states)])
        sums = self._restored.get("metrics", [])
        if len(sums) == trainer.world_size:  # other ranks have other shares
            _set_metrics(pl_module, sums[trainer.global_rank])
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
            write_checkpoint(trainer, self.checkpoint_path, self._keep_as)
            self._between_batches = False
            self._last_is_good = True

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
        accumulated = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if period and step % period == 0 and (accumulated or trainer.is_last_batch):
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
            put_in_place(self.checkpoint_path, self._keep_as)
            self._at_end, self._last_is_good = False, True
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
        own = checkpoint["callbacks"][self.state_key]
        own["rows"] = rows[0] if rows else 0
        own["metrics"] = gather({name: m.state_dict() for name, m in _metrics_of(pl_module)})
        if self._between_batches:
            forget_batch_in_flight(checkpoint)
        if self.config is not None:
            checkpoint[CONFIG_KEY] = dict(self.config)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state until training starts: before that, iterators still draw numbers."""
        self._restored = state_dict
        self._seconds_before = state_dict["seconds"]

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note where the run goes on from; change the optimizer's hyper-parameters in its state.

        Raises:
            InputError: Bytes of the checkpoint have changed, which Lightning does not notice.
        """
        origin = Path(str(trainer.ckpt_path))
        if origin.is_file():
            check_undamaged(origin)
        self._last_is_good = origin.resolve() == self.checkpoint_path.resolve()
        groups = checkpoint["optimizer_states"][0]["param_groups"]
        for key, value in self.optimizer_overrides.items():
            for number, group in enumerate(groups):
                if key == "lr":
                    lr = value * group.get("lr_factor", 1.0)
                    rescale_lr(group, number, checkpoint["lr_schedulers"], lr)
                else:
                    group[key] = value

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started


def _metrics_of(module: nn.Module) -> list[tuple[str, Metric]]:
    return [(name, part) for name, part in module.named_modules() if isinstance(part, Metric)]


def _set_metrics(module: nn.Module, states: Mapping[str, Any]) -> None:
    """Have metrics go on from this rank's sums; a checkpoint's weights hold those of rank 0."""
    for name, metric in _metrics_of(module):
        if name in states:
            metric.load_state_dict(states[name])


def _metrics_logs(trainer: pl.Trainer) -> list[MetricsLog]:
    return [logger for logger in trainer.loggers if isinstance(logger, MetricsLog)]
