"""Lowers the learning rate when the training loss is low enough."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR

from lightning_lazy.callbacks._base import PeriodicCallback
from lightning_lazy.callbacks._probe import Probe
from lightning_lazy.callbacks._start import refuse_sharded
from lightning_lazy.callbacks._training_error import measuring
from lightning_lazy.callbacks._training_loss import (
    LossFunction,
    refuse_manual_optimization,
    training_loss,
)
from lightning_lazy.checks import check_number
from lightning_lazy.curvature.micro_batches import count_examples
from lightning_lazy.errors import InputError


class AnnealOnLoss(PeriodicCallback):
    """Multiplies the learning rate when the training loss falls below a threshold; stops at last.

    With one threshold ε₁ + q log 2 and ``stop`` = ε₂ it is algorithm L-S of Li, Wei & Ma 2019, with
    ``stop`` alone algorithm S. Works in any Lightning project.

    The loss is that of ``training_step`` without the L2 term (a module's attribute ``l2`` counts as
    0, weight decay is no part of it), at the weights of the moment, on a fixed part of the training
    set: without dropout and noise, with BatchNorm in batch statistics, summed over ranks, so that
    all ranks decide alike. A loss that passes several thresholds at once passes all of them.

    All groups of parameters are multiplied, and the base rates of schedulers, which go on from
    there. Logs at the start and at every threshold ``anneal/stage``, the number of thresholds
    passed, ``anneal/loss`` and ``anneal/lr``, the largest learning rate.

    Args:
        thresholds: Losses, descending.
        factors: What each of them multiplies the learning rates by, above 0.
        stop: Loss below which training ends, below all thresholds; ``None``: it goes on.
        every_n_steps: Updates between two measurements; ``None``: at the end of epochs.
        every_n_epochs: Epochs between two measurements.
        size: Samples of the training set; ``None``: 1000, or all if there are fewer.
        batch_size: Samples in one pass; with BatchNorm part of what is measured.
        loss_fn: ``loss_fn(pl_module, batch)``, the mean loss; by default that of
            ``training_step``.
        name: Tells two instances apart.

    Raises:
        InputError: Thresholds and factors do not belong together or are out of range; at setup, the
            module optimises by itself and no ``loss_fn`` is given, or parameters are sharded; at
            the start of training, a scheduler sets rates of its own.
    """

    def __init__(
        self,
        thresholds: Sequence[float] = (),
        factors: Sequence[float] = (),
        *,
        stop: float | None = None,
        every_n_steps: int | None = None,
        every_n_epochs: int = 1,
        size: int | None = None,
        batch_size: int = 250,
        loss_fn: LossFunction | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(every_n_steps, every_n_epochs, name)
        self.thresholds = [check_number("thresholds", one) for one in thresholds]
        self.factors = [check_number("factors", one) for one in factors]
        self.stop = None if stop is None else check_number("stop", stop)
        _check(self.thresholds, self.factors, self.stop)
        self.probe = Probe("train", size, batch_size)
        self.loss_fn = loss_fn
        self._stage = 0
        self._stopped_at: float | None = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Refuse what can't be measured."""
        refuse_sharded(self, trainer)
        if self.loss_fn is None:
            refuse_manual_optimization(pl_module, type(self).__name__)
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Refuse schedulers that would undo it; measure; a run that was stopped stays so."""
        for scheduler in _schedulers(trainer):
            if isinstance(scheduler, OneCycleLR | CyclicLR):
                raise InputError(
                    f"AnnealOnLoss can't lower the learning rates of {type(scheduler).__name__}, "
                    "which sets them between bounds of its own: use another scheduler, or none"
                )
        super().on_train_start(trainer, pl_module)
        if self.stop is not None and self._stopped_at is not None and self._stopped_at < self.stop:
            trainer.should_stop = True

    def measure(self, trainer: Any, pl_module: Any) -> dict[str, float]:
        """Measure the loss and act on it; return what has changed."""
        loss = self._loss(trainer, pl_module)
        passed = [
            factor
            for threshold, factor in zip(self.thresholds, self.factors, strict=True)
            if loss < threshold
        ][self._stage :]
        for factor in passed:
            scale_learning_rates(trainer, factor)
        self._stage += len(passed)
        if self.stop is not None and loss < self.stop:
            self._stopped_at = loss
            trainer.should_stop = True
        if not passed and trainer.global_step > 0:
            return {}
        rates = [group["lr"] for one in trainer.optimizers for group in one.param_groups]
        return {
            "anneal/stage": float(self._stage),
            "anneal/loss": loss,
            "anneal/lr": float(max(rates)),
        }

    def _loss(self, trainer: Any, pl_module: Any) -> float:
        """Return the mean loss over the samples of all ranks."""
        sums = torch.zeros(2, dtype=torch.float64, device=pl_module.device)
        with measuring(trainer, pl_module):
            # Batches go to ranks whole: with BatchNorm the loss depends on what is in one.
            for batch in self.probe.batches(trainer, whole=True):
                size = count_examples(batch[0] if isinstance(batch, list | tuple) else batch)
                loss = torch.as_tensor((self.loss_fn or training_loss)(pl_module, batch))
                sums += size * torch.stack([loss.to(sums).reshape(()), torch.ones_like(sums[0])])
        total, count = trainer.strategy.reduce(sums, reduce_op="sum").tolist()
        return total / count

    def state_dict(self) -> dict[str, Any]:
        """Return how many thresholds are passed; the rates themselves are the optimizer's."""
        own = {"stage": self._stage, "stopped_at": self._stopped_at}
        return super().state_dict() | own

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue as if nothing had happened."""
        super().load_state_dict(state_dict)
        self._stage, self._stopped_at = state_dict["stage"], state_dict["stopped_at"]


def scale_learning_rates(trainer: Any, factor: float) -> None:
    """Multiply the learning rates of all optimizers, and what their schedulers start from."""
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            for key in ("lr", "initial_lr"):
                if key in group:
                    group[key] = group[key] * factor
    for scheduler in _schedulers(trainer):
        for key in ("base_lrs", "_last_lr"):
            if hasattr(scheduler, key):
                setattr(scheduler, key, [rate * factor for rate in getattr(scheduler, key)])


def _schedulers(trainer: Any) -> Iterator[Any]:
    """Give the schedulers of a run, also those inside of others."""
    waiting = [config.scheduler for config in trainer.lr_scheduler_configs]
    while waiting:
        one = waiting.pop()
        yield one
        waiting += getattr(one, "_schedulers", [])


def _check(thresholds: list[float], factors: list[float], stop: float | None) -> None:
    if len(thresholds) != len(factors):
        raise InputError(
            f"AnnealOnLoss needs a factor for every threshold, got {len(thresholds)} thresholds "
            f"and {len(factors)} factors: add or drop some"
        )
    losses = thresholds if stop is None else [*thresholds, stop]
    if not losses:
        raise InputError("AnnealOnLoss needs thresholds or stop, got none: pass a loss")
    if any(one <= other for one, other in zip(losses, losses[1:], strict=False)):
        raise InputError(f"thresholds must descend, to stop at last, got {losses}: sort them")
