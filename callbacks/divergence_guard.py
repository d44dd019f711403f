"""Stops a run whose loss explodes, and says at the end whether it diverged."""

import math
from typing import Any

import torch

from lightning_lazy.callbacks._base import PeriodicCallback
from lightning_lazy.errors import InputError
from lightning_lazy.reporting import is_full_batch


class DivergenceGuard(PeriodicCallback):
    """Ends a diverged run as a result, not as an error.

    Training stops where the loss is not finite or has grown beyond ``factor`` times its first
    value; lower peaks, such as a catapult's, pass. ``health/diverged`` is 1 if the run was stopped
    so or if it ends above its first loss, by whatever little, else 0; it is logged at the end. The
    run's exit is that of a success.

    The loss is that which ``training_step`` returns, averaged over ranks. With mini-batches, where
    single losses scatter, it is the mean since the last check; where one batch is the whole
    training set it is the last one.

    Args:
        every_n_steps: Updates between two checks; a loss that is not finite stays so, so that
            nothing is lost by checking rarely.
        factor: Growth of the loss that ends a run, > 1.
        name: Tells two instances apart.

    Raises:
        InputError: ``factor`` is not above 1.
    """

    def __init__(
        self, every_n_steps: int = 50, factor: float = 1e6, name: str | None = None
    ) -> None:
        super().__init__(every_n_steps=every_n_steps, name=name)
        if not factor > 1:
            raise InputError(f"factor must be above 1, got {factor}: the default is 1e6")
        self.factor = factor
        self._first = math.nan
        self._sum: torch.Tensor | None = None
        self._count = 0
        self._loss = math.nan
        self._stopped = False

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Nothing can have diverged yet."""

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take in the loss of this batch; check the mean since the last check if one is due."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if not torch.is_tensor(loss):
            return
        if self._sum is None or is_full_batch(trainer):
            self._sum, self._count = loss, 1
        else:
            self._sum, self._count = self._sum + loss, self._count + 1
        step = trainer.global_step
        if math.isnan(self._first) or step % self.every_n_steps == 0:
            self._check(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Give the verdict."""
        self._check(trainer)
        self._measure_once(trainer, pl_module)

    def measure(self, trainer: Any, pl_module: Any) -> dict[str, float]:
        """Return the verdict."""
        diverged = self._stopped or not self._loss <= self._first
        return {"health/diverged": float(diverged)}

    def _check(self, trainer: Any) -> None:
        if self._sum is None:
            return
        mean = trainer.strategy.reduce(self._sum.detach().double() / self._count)
        self._loss, self._sum = float(mean), None
        if math.isnan(self._first):
            self._first = self._loss
        limit = self.factor * abs(self._first)
        if not math.isfinite(self._loss) or (limit > 0 and self._loss > limit):
            self._stopped = True
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Return the first loss, the sum since the last check and the verdict so far."""
        return {
            **super().state_dict(),
            "first": self._first,
            "sum": self._sum,
            "count": self._count,
            "loss": self._loss,
            "stopped": self._stopped,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue as if nothing had happened."""
        super().load_state_dict(state_dict)
        self._first, self._sum = state_dict["first"], state_dict["sum"]
        self._count, self._loss = state_dict["count"], state_dict["loss"]
        self._stopped = state_dict["stopped"]
