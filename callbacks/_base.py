"""What all callbacks of this project share: both Lightning packages, periods, names."""

import copy
from typing import Any

import pytorch_lightning as pl

from lightning_lazy.checks import check_period, check_size
from lightning_lazy.reporting import is_full_batch, publish

try:
    from lightning.pytorch import Callback as _LightningCallback

    _BASES: tuple[type, ...] = (pl.Callback, _LightningCallback)
except ModuleNotFoundError:
    _BASES = (pl.Callback,)

GuestCallback: Any = type("GuestCallback", _BASES, {"__module__": __name__})
"""A callback of ``pytorch_lightning`` and, where that is installed, of ``lightning.pytorch``."""


class NamedCallback(GuestCallback):
    """A callback of which two instances can live side by side.

    Args:
        name: Tells them apart: it enters the key of their state and the names of their metrics,
            ``<metric>/<name>``.
    """

    def __init__(self, name: str | None = None) -> None:
        super().__init__()
        self.name = name

    @property
    def state_key(self) -> str:
        """The key of this callback's state in checkpoints."""
        kind = type(self).__name__
        return kind if self.name is None else f"{kind}[{self.name}]"

    def _publish(self, trainer: Any, values: dict[str, float]) -> None:
        suffix = "" if self.name is None else f"/{self.name}"
        if values:
            publish(trainer, {key + suffix: value for key, value in values.items()})


class PeriodicCallback(NamedCallback):
    """A callback that measures at the start, periodically, and at the end of training.

    Subclasses give `measure`. What it returns is published under the names it gives, stamped with
    the number of updates done.

    Args:
        every_n_steps: Updates between two measurements; ``None``: at the end of epochs.
        every_n_epochs: Epochs between two measurements; counts updates where one batch is the whole
            training set.
        name: Tells two instances of one callback apart, see `NamedCallback`.
    """

    def __init__(
        self, every_n_steps: int | None = None, every_n_epochs: int = 1, name: str | None = None
    ) -> None:
        super().__init__(name)
        check_period("every_n_steps", every_n_steps)
        check_size("every_n_epochs", every_n_epochs)
        self.every_n_steps = every_n_steps
        self.every_n_epochs = every_n_epochs
        self._measured_at = -1
        self._fresh: dict[str, Any] | None = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Begin anew where training does: one callback may see several runs, one after another.

        A checkpoint that the run goes on from is read after this.
        """
        if stage != "fit" or trainer.global_step > 0:
            return
        own = [name for name in vars(self) if name[0] == "_" or name == "probe"]
        own.remove("_fresh")
        if self._fresh is None:
            self._fresh = copy.deepcopy({name: getattr(self, name) for name in own})
            return
        for name in own:
            delattr(self, name)
        self.__dict__.update(copy.deepcopy(self._fresh))

    def measure(self, trainer: Any, pl_module: Any) -> dict[str, float]:
        """Return the metrics at this moment, the same on all ranks."""
        raise NotImplementedError

    def _measure_once(self, trainer: Any, pl_module: Any) -> None:
        if self._measured_at == trainer.global_step:
            return
        self._measured_at = trainer.global_step
        self._publish(trainer, self.measure(trainer, pl_module))

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Measure at initialisation; a resumed run has done so."""
        if trainer.global_step == 0:
            self._measure_once(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure if this update is a due one."""
        period = self.every_n_steps
        if period is None:
            if not is_full_batch(trainer):
                return
            period = self.every_n_epochs
        if trainer.global_step % period == 0:
            self._measure_once(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Measure if this epoch is a due one."""
        due = (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if self.every_n_steps is None and due and not is_full_batch(trainer):
            self._measure_once(trainer, pl_module)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Measure the trained network."""
        self._measure_once(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the step of the last measurement."""
        return {"measured_at": self._measured_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue after the last measurement."""
        self._measured_at = state_dict["measured_at"]
