"""When the validation accuracy peaks, and the coefficient of L2 that it predicts."""

import math
from typing import Any

import torch
from pytorch_lightning.utilities import rank_zero_warn

from lightning_lazy.callbacks._base import PeriodicCallback
from lightning_lazy.callbacks._l2 import present_l2
from lightning_lazy.callbacks.auto_l2 import AutoL2
from lightning_lazy.checks import check_number
from lightning_lazy.errors import InputError
from lightning_lazy.reporting import steps_per_epoch


class PeakTime(PeriodicCallback):
    r"""Logs when the validation accuracy came within 0.5% of its best so far.

    With L2 of coefficient λ that time follows (Lewkowycz & Gur-Ari 2020, §1 and §3)

    .. math:: t_* \approx c / \lambda

    so that one short run at a large λ gives the λ for a long one, c over its length. After every
    validation it logs

    - ``l2/peak_step``: t*, in updates;
    - ``l2/peak_epoch``: t*, in epochs;
    - ``l2/peak_c``: c = λ·t*, t* in epochs;
    - ``l2/peak_lr_c``: lr·λ·t*, which without momentum does not depend on lr either;
    - ``l2/predicted``: c / ``budget``, where a budget is given.

    and prints them at the end. Those with λ are left out where there is no L2 term or `AutoL2`
    changes it. t* is known to the distance of two validations: see ``Trainer(val_check_interval)``.

    Args:
        metric: Name of the accuracy, any metric that is logged in validation and grows.
        tolerance: Distance from the best, in units of the metric.
        l2: λ; ``None``: that of the module (an attribute ``l2``), else the largest weight decay of
            the optimizer.
        lr: Learning rate; ``None``: the largest of the optimizer at the start.
        budget: Length in epochs of the run that λ is predicted for. With a learning rate that falls
            at 0.3 of its length, the paper takes 0.3 of the length.
        name: Tells two instances apart, such as one for each of several validation sets.

    Raises:
        InputError: An argument is out of range; at the start of training, there is no validation,
            a budget but no L2 term, or no telling which λ counts; after the first validation, the
            metric is not there.
    """

    def __init__(
        self,
        metric: str = "val/acc",
        *,
        tolerance: float = 0.005,
        l2: float | None = None,
        lr: float | None = None,
        budget: float | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.metric = metric
        self.tolerance = check_number("tolerance", tolerance, zero=True)
        self.l2 = None if l2 is None else check_number("l2", l2)
        self.lr = None if lr is None else check_number("lr", lr)
        self.budget = None if budget is None else check_number("budget", budget)
        self._l2 = self._lr = math.nan
        self._steps: list[int] = []  # of the measurements above all before them
        self._best: list[float] = []  # what was measured then

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Note λ and the learning rate; a resumed run has done so."""
        if not trainer.enable_validation:
            raise InputError(
                f"PeakTime needs a validation set to see {self.metric!r} peak: give the Trainer "
                "one, and limit_val_batches above 0"
            )
        if math.isnan(self._l2):
            self._l2 = self._present_l2(trainer, pl_module) if self.l2 is None else self.l2
            groups = [group for own in trainer.optimizers for group in own.param_groups]
            rates = [float(group.get("initial_lr", group["lr"])) for group in groups]
            self._lr = max(rates, default=math.nan) if self.lr is None else self.lr
        if self.budget is not None and not self._l2 > 0:
            raise InputError(
                f"PeakTime can't predict l2 for a budget of {self.budget:g} epochs from a run "
                "without L2 of one strength: set l2 (or weight_decay), above 0"
            )

    def _present_l2(self, trainer: Any, pl_module: Any) -> float:
        if any(isinstance(one, AutoL2) for one in trainer.callbacks):
            return 0.0
        return present_l2(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Nothing is measured beside validations."""

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Nothing is measured beside validations."""

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Look at the accuracy of this validation."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._measure_once(trainer, pl_module)

    def measure(self, trainer: Any, pl_module: Any) -> dict[str, float]:
        """Return the times and constants so far."""
        value = self._accuracy(trainer, pl_module)
        if value > max(self._best, default=-math.inf):
            # No other measurement can be the first within any distance of a later best.
            self._steps.append(trainer.global_step)
            self._best.append(value)
        return self._values(trainer)

    def _accuracy(self, trainer: Any, pl_module: Any) -> float:
        """Return the metric, a mean over ranks where it is not the same on all."""
        found = trainer.callback_metrics
        if self.metric not in found:
            raise InputError(
                f"PeakTime found no {self.metric!r} after a validation, there are "
                f"{', '.join(sorted(found)) or 'no metrics'}: pass metric=…"
            )
        own = torch.tensor(float(found[self.metric]), device=pl_module.device, dtype=torch.float64)
        return float(trainer.strategy.reduce(own, reduce_op="mean"))

    def _values(self, trainer: Any) -> dict[str, float]:
        if not self._best:
            return {}
        near = self._best[-1] - self.tolerance
        step = next(s for s, v in zip(self._steps, self._best, strict=True) if v >= near)
        epoch = step / steps_per_epoch(trainer)
        values = {"l2/peak_step": float(step)}
        if epoch > 0:  # an endless stream of data has no epochs
            values["l2/peak_epoch"] = epoch
        if self._l2 > 0 and epoch > 0:
            c = self._l2 * epoch
            values |= {"l2/peak_c": c, "l2/peak_lr_c": self._lr * c}
            if self.budget is not None:
                values["l2/predicted"] = c / self.budget
        return values

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Print what has been found."""
        if not self._best:
            rank_zero_warn(f"PeakTime saw no number as {self.metric!r}: no time to a peak")
        elif trainer.is_global_zero:
            print(self._describe(self._values(trainer)), flush=True)

    def _describe(self, values: dict[str, float]) -> str:
        lines = [
            f"PeakTime: {self.metric} came within {self.tolerance:g} of its best, "
            f"{self._best[-1]:.4g}, after {values['l2/peak_step']:g} updates"
        ]
        if "l2/peak_c" in values:
            lines.append(
                f"  t* = {values['l2/peak_epoch']:.4g} epochs, c = l2·t* = "
                f"{values['l2/peak_c']:.4g}, lr·l2·t* = {values['l2/peak_lr_c']:.4g} "
                f"(l2 = {self._l2:.4g}, lr = {self._lr:.4g})"
            )
        if "l2/predicted" in values:
            lines.append(f"  predicted l2 for {self.budget:g} epochs: {values['l2/predicted']:.4g}")
        if self._steps[-1] == self._measured_at:
            lines.append("  caution: the last measurement was the best, the peak may lie beyond it")
        return "\n".join(lines)

    def state_dict(self) -> dict[str, Any]:
        """Return the measurements that still count."""
        own = {"l2": self._l2, "lr": self._lr, "steps": self._steps, "best": self._best}
        return super().state_dict() | own

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue as if nothing had happened."""
        super().load_state_dict(state_dict)
        self._l2, self._lr = state_dict["l2"], state_dict["lr"]
        self._steps, self._best = list(state_dict["steps"]), list(state_dict["best"])
