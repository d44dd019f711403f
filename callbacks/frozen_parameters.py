"""Watches for parameters whose updates are lost to rounding."""

from typing import Any

from torch import Tensor

from lightning_lazy.callbacks._base import PeriodicCallback
from lightning_lazy.callbacks._start import refuse_manual
from lightning_lazy.laziness.frozen_share import count_frozen


class FrozenParameters(PeriodicCallback):
    """Logs the share of live parameters that an update no longer moves, ``health/frozen_share``.

    At a large output scale and a small learning rate lr·gradient falls below the spacing of floats:
    the network stands still for want of precision, which looks like laziness and is none (Kanoh &
    Sugiyama 2021, §4.1). Parameters whose gradient is zero do not count; see
    `lightning_lazy.laziness.count_frozen`. At the end of a run that has converged the share may be
    large for an honest reason; it is a warning where it is large from the start.

    Works with automatic optimisation of one optimizer. One check costs a copy of the parameters.

    Args:
        every_n_steps: Updates between two checks; the first update is always checked, the last one
            where the Trainer has ``max_steps``.
        name: Tells two instances apart.

    Raises:
        InputError: At setup, the module optimises by itself.
    """

    def __init__(self, every_n_steps: int = 50, name: str | None = None) -> None:
        super().__init__(every_n_steps=every_n_steps, name=name)
        self._before: list[Tensor] = []

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Refuse a module with updates of its own making."""
        refuse_manual(self, pl_module, "watches the updates of one optimizer")
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Nothing has moved yet."""

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Keep the parameters if the update to come is a due one."""
        step = trainer.global_step + 1
        if step == 1 or step % self.every_n_steps == 0 or step == trainer.max_steps:
            self._before = [p.detach().clone() for p in _moving(optimizer)]

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Compare the parameters with those before the update."""
        if self._before:
            self._measure_once(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Checks count updates only."""

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """The last update has been checked if the number of updates was known."""

    def measure(self, trainer: Any, pl_module: Any) -> dict[str, float]:
        """Return the share, equal on all ranks since gradients are."""
        parameters = _moving(trainer.optimizers[0])
        frozen, live = count_frozen(self._before, parameters, [p.grad for p in parameters])
        self._before = []
        return {"health/frozen_share": float(frozen / live)} if live > 0 else {}


def _moving(optimizer: Any) -> list[Tensor]:
    """Return the parameters of groups whose learning rate is not zero."""
    return [p for group in optimizer.param_groups if group["lr"] != 0 for p in group["params"]]
