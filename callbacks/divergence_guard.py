"""Stops a run whose loss explodes, and says at the end whether it diverged."""

import math
from typing import Any

import torch
from torch import Tensor

from lightning_lazy.callbacks._base import PeriodicCallback
from lightning_lazy.callbacks._start import refuse_manual
from lightning_lazy.errors import InputError
from lightning_lazy.reporting import gather, is_full_batch


class DivergenceGuard(PeriodicCallback):
    """Ends a diverged run as a result, not as an error.

    Training stops where the loss is not finite or has grown beyond ``factor`` times its first
    value; lower peaks, such as a catapult's, pass. ``health/diverged`` is 1 if the run was stopped
    so or if it ends above its first loss, else 0; it is logged at the end. The run's exit is that
    of a success.

    The loss is that which ``training_step`` returns, averaged over ranks. Where one batch is the
    whole training set, the last loss is compared with the first, by whatever little it lies above.
    With mini-batches, whose losses scatter, the mean over the last ``every_n_steps`` batches or
    more is compared with the loss of the first batch, and must lie above it by three standard
    errors of that difference.

    Args:
        every_n_steps: Updates between two checks; a loss that was not finite in between is seen at
            the next one.
        factor: Growth of the loss that ends a run, > 1.
        name: Tells two instances apart.

    Raises:
        InputError: ``factor`` is not above 1; at setup, the module optimises by itself.
    """

    def __init__(
        self, every_n_steps: int = 50, factor: float = 1e6, name: str | None = None
    ) -> None:
        super().__init__(every_n_steps=every_n_steps, name=name)
        if not factor > 1:
            raise InputError(f"factor must be above 1, got {factor}: the default is 1e6")
        self.factor = factor
        self._first = math.nan
        self._sums: Tensor | None = None  # since the last check: count, Σ loss, Σ loss²
        self._restored: list[list[float]] = []  # the same of a checkpoint, for each rank
        self._window: list[float] = [0.0, 0.0, 0.0]  # the same, of the last check's window
        self._stopped = False
        self._above = False
        self._last_loss: Tensor | None = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Refuse a module whose losses are not seen."""
        refuse_manual(self, pl_module, "judges the loss that training_step returns")
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Nothing can have diverged yet; go on from this rank's sums."""
        if self._restored:
            sums = torch.tensor(self._restored, dtype=torch.float64, device=pl_module.device)
            self._sums = sums[trainer.global_rank :: trainer.world_size].sum(0)
            self._restored = []

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take in the loss of this batch; check if a check is due."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if not torch.is_tensor(loss):
            return
        due = math.isnan(self._first) or trainer.global_step % self.every_n_steps == 0
        if is_full_batch(trainer):
            self._last_loss = loss
            if due:
                self._sums = _moments(loss)
        else:
            self._sums = _moments(loss) if self._sums is None else self._sums + _moments(loss)
        if due:
            self._check(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Give the verdict on the last loss, or on a window that is not too short."""
        full_batch = is_full_batch(trainer)
        if full_batch and self._last_loss is not None:
            self._sums = _moments(self._last_loss)
        elif self._sums is not None:
            before = torch.tensor(self._window, dtype=torch.float64, device=self._sums.device)
            self._sums = self._sums + before / trainer.world_size
        self._check(trainer)
        count, mean, deviation = _statistics(self._window)
        error = 0.0
        if not full_batch and count > 0:
            # The first loss is that of one batch and scatters as those of the window do. Losses in
            # single precision that never moved differ in their last digits.
            error = 3 * deviation * math.sqrt(1 + 1 / count) + 1e-6 * abs(self._first)
        self._above = not mean <= self._first + error
        self._measure_once(trainer, pl_module)

    def measure(self, trainer: Any, pl_module: Any) -> dict[str, float]:
        """Return the verdict."""
        return {"health/diverged": float(self._stopped or self._above)}

    def _check(self, trainer: Any) -> None:
        """Close the window; stop all ranks if its loss has exploded."""
        if self._sums is None:
            return
        self._window = trainer.strategy.reduce(self._sums, reduce_op="sum").tolist()
        self._sums = None
        mean = _statistics(self._window)[1]
        if math.isnan(self._first):
            self._first = mean
        limit = self.factor * abs(self._first)
        if not math.isfinite(mean) or 0 < limit < mean:
            self._stopped = True
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Return the first loss, the sums of both windows and the verdict so far; on all ranks."""
        return {
            **super().state_dict(),
            "first": self._first,
            "sums": [] if self._sums is None else gather(self._sums.tolist()),
            "window": self._window,
            "stopped": self._stopped,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue as if nothing had happened."""
        super().load_state_dict(state_dict)
        self._first, self._stopped = state_dict["first"], state_dict["stopped"]
        self._restored, self._window = state_dict["sums"], state_dict["window"]


def _moments(loss: Tensor) -> Tensor:
    """Return 1, loss and loss², in double precision."""
    value = loss.detach().double()
    return torch.stack((torch.ones_like(value), value, value.square()))


def _statistics(sums: list[float]) -> tuple[float, float, float]:
    """Return count, mean and standard deviation; the mean of no loss is not a number."""
    count, total, squares = sums
    if count == 0:
        return 0.0, math.nan, math.nan
    mean = total / count
    return count, mean, math.sqrt(max(squares / count - mean**2, 0.0))
