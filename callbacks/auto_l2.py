"""L2 regularisation that starts strong and decays when training gets worse."""

from typing import Any, Literal

import torch
from pytorch_lightning.utilities import rank_zero_warn

from lightning_lazy.callbacks._base import PeriodicCallback
from lightning_lazy.callbacks._l2 import L2Setter, module_l2, with_l2
from lightning_lazy.callbacks._probe import Probe
from lightning_lazy.callbacks._start import refuse_sharded
from lightning_lazy.callbacks._training_error import ErrorFunction, error_sums, measuring
from lightning_lazy.callbacks._training_loss import (
    LossFunction,
    refuse_manual_optimization,
    repeatable,
    training_loss,
)
from lightning_lazy.checks import check_choice, check_size
from lightning_lazy.curvature.functional import has_batch_norm
from lightning_lazy.errors import InputError
from lightning_lazy.optim.auto_l2 import AutoL2Controller, Reason

REASONS: dict[Reason, int] = {"loss": 1, "error": 2, "loss and error": 3}
"""The number that stands for each reason of a decay where only numbers are logged."""


class AutoL2(PeriodicCallback):
    r"""Chooses the coefficient λ of L2 while a network trains: Algorithm 1 of AutoL2.

    .. math:: L(\theta) + \tfrac12 \lambda \|\theta\|^2

    (Lewkowycz & Gur-Ari 2020, SM E.) λ starts large and is multiplied by ``factor`` where the
    training loss (without the L2 term) or the training error was worse than ever before in two
    measurements in a row; then it stays for ``refractory``/λ updates at least. In any Lightning
    project, λ is

    - the attribute ``l2`` of the module, a number that its training loss depends on, as that of a
      `ScaledLightningModule` does;
    - else ``weight_decay`` of the optimizer, which must be coupled: part of the gradient, as in SGD
      and Adam, not in AdamW. Groups of parameters keep their ratios, those without decay have none;
      the largest is λ. Where no group has any, all get λ.

    It logs ``l2/coefficient`` at the start and at every measurement, ``l2/loss`` and ``l2/error``,
    what was measured, and at a decay ``l2/decay``: 1 by the loss, 2 by the error, 3 by both. Each
    decay is also printed.

    λ₀ = 0.1 belongs to cross entropy divided by 2k, k classes (`NormalizedSoftmaxLoss`). With plain
    cross entropy the same dynamics are those of lr/(2k), 2k·λ₀ and refractory=2k·0.1. The paper
    finds no advantage together with a schedule of the learning rate.

    Args:
        l2: λ₀, above 0.
        factor: What a decay multiplies λ by, between 0 and 1.
        period: Updates between two measurements.
        refractory: λ times the number of updates that follow a decay without another, above 0.
        reset_on_decay: Whether a decay forgets the smallest loss and error.
        min_l2: λ does not fall below this.
        on: ``subset``: measure on a fixed part of the training set; ``batch``: on the batch of the
            last update, which is noisy.
        size: Samples of the subset; ``None``: 1000, or all if there are fewer.
        batch_size: Samples in one pass over the subset; with BatchNorm, which then normalises by
            their statistics, part of what is measured.
        loss_fn: ``loss_fn(pl_module, batch)``, the mean training loss without the L2 term; by
            default that of ``training_step`` with ``l2`` at 0.
        error_fn: ``error_fn(pl_module, batch)``, the share of wrong samples; by default that where
            the largest output of ``pl_module`` is not that of the class in the batch's second
            element. One that returns 0 leaves the decision to the loss.
        name: Enters the key of the state and the names of the metrics.

    Raises:
        InputError: An argument is out of range; at setup, there are two of them, the module
            optimises by itself and no ``loss_fn`` is given, or parameters are sharded; before the
            first update, there is no L2 to set, weight decay is decoupled, or loss or error can't
            be told.
    """

    def __init__(
        self,
        l2: float = 0.1,
        *,
        factor: float = 0.1,
        period: int = 5,
        refractory: float = 0.1,
        reset_on_decay: bool = False,
        min_l2: float = 0.0,
        on: Literal["subset", "batch"] = "subset",
        size: int | None = None,
        batch_size: int = 250,
        loss_fn: LossFunction | None = None,
        error_fn: ErrorFunction | None = None,
        name: str | None = None,
    ) -> None:
        self.period = check_size("period", period)
        super().__init__(every_n_steps=self.period, name=name)
        check_choice("on", on, ("subset", "batch"))
        self.on = on
        self.probe = Probe("train", size, batch_size)
        self.loss_fn, self.error_fn = loss_fn, error_fn
        self._controller = AutoL2Controller(l2, factor, refractory, reset_on_decay, min_l2)
        self._setter: L2Setter | None = None
        self._is_set = False
        self._batch: Any = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Refuse what can't be steered."""
        refuse_sharded(self, trainer)
        if sum(isinstance(one, AutoL2) for one in trainer.callbacks) > 1:
            raise InputError("two AutoL2 would set the same coefficient: leave one out")
        if self.loss_fn is None:
            refuse_manual_optimization(pl_module, type(self).__name__)
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Note that the optimizer is a new one."""
        self._is_set = False

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Set λ before the first update, after trying what will be measured."""
        if self._is_set:
            return
        is_new = self._setter is None
        if is_new:
            self._setter = self._find(trainer, pl_module, batch)
            self._loss_and_error(trainer, pl_module, batch)
            self._warn(trainer, pl_module)
        self._set(trainer, pl_module)
        self._is_set = True
        if is_new:
            self._publish(trainer, {"l2/coefficient": self._controller.l2})

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure if this update is a due one; with accumulated gradients not before the first."""
        if trainer.global_step > 0:
            self._batch = batch
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            self._batch = None

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Nothing is measured beside the period."""

    def measure(self, trainer: Any, pl_module: Any) -> dict[str, float]:
        """Measure, and let λ decay if it should."""
        loss, error = self._loss_and_error(trainer, pl_module, self._batch)
        before, step = self._controller.l2, trainer.global_step
        reason = self._controller.update(step, loss, error)
        values = {"l2/coefficient": self._controller.l2, "l2/loss": loss, "l2/error": error}
        if reason is None:
            return values
        self._set(trainer, pl_module)
        if trainer.is_global_zero:
            print(
                f"AutoL2: l2 {before:.3g} → {self._controller.l2:.3g} after {step} updates, since "
                f"the training {reason} rose (loss {loss:.4g}, error {error:.4g})",
                flush=True,
            )
        return values | {"l2/decay": REASONS[reason]}

    def _loss_and_error(self, trainer: Any, pl_module: Any, batch: Any) -> tuple[float, float]:
        """Return loss and error over the batches of all ranks."""
        # Batches go to ranks whole: with BatchNorm the outputs depend on what is in one.
        batches = [batch] if self.on == "batch" else self.probe.batches(trainer, whole=True)
        with measuring(trainer, pl_module):
            sums = error_sums(pl_module, batches, self.loss_fn, self.error_fn)
        loss, error, count = trainer.strategy.reduce(sums, reduce_op="sum").tolist()
        return loss / count, error / count

    def _find(self, trainer: Any, pl_module: Any, batch: Any) -> L2Setter:
        if len(trainer.optimizers) != 1:
            raise InputError(
                f"AutoL2 needs one optimizer, {type(pl_module).__name__} has "
                f"{len(trainer.optimizers)}: leave the callback out"
            )
        explicit = self._depends_on_l2(trainer, pl_module, batch)
        return L2Setter.find(trainer.optimizers[0], pl_module, explicit)

    def _depends_on_l2(self, trainer: Any, pl_module: Any, batch: Any) -> bool:
        """Return whether the attribute ``l2`` of the module is the coefficient of a term.

        It could also be what an optimizer was given as weight decay. Where ``training_step`` can't
        be asked, it counts as a coefficient.
        """
        own = getattr(pl_module, "l2", None)
        if torch.is_tensor(own) and own.dim() == 0:  # else it is a layer's weights
            raise InputError(
                f"AutoL2 sets a number, the l2 of {type(pl_module).__name__} is a tensor: make it "
                f"a number, self.l2 = {float(own):g}"
            )
        if module_l2(pl_module) is None:
            return False
        if hasattr(pl_module, "loss_of") or not pl_module.automatic_optimization:
            return True
        losses = []
        with measuring(trainer, pl_module):
            for value in (0.0, 1.0):
                with with_l2(pl_module, value):
                    losses.append(repeatable(training_loss)(pl_module, batch))
        return not torch.equal(*losses)

    def _set(self, trainer: Any, pl_module: Any) -> None:
        if self._setter is not None:
            self._setter.set(trainer.optimizers[0], pl_module, self._controller.l2)

    def _warn(self, trainer: Any, pl_module: Any) -> None:
        """Say if weights shrink to nothing before the first decay can come."""
        optimizer = trainer.optimizers[0]
        if not isinstance(optimizer, torch.optim.SGD) or has_batch_norm(pl_module):
            return
        rate = max(
            float(group.get("initial_lr", group["lr"])) / max(1 - group["momentum"], 1e-9)
            for group in optimizer.param_groups
        )
        shrinking = rate * self._controller.l2 * 3 * self.period
        if shrinking > 0.5:
            rank_zero_warn(
                "AutoL2 may shrink a net without BatchNorm to nothing before its first decay: lr / "
                f"(1 - momentum) · l2 · 3 · period = {shrinking:.2g} should be below 0.5: lower "
                "l2, or the period"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return λ, what the decisions depend on, and where λ stands."""
        setter = None if self._setter is None else vars(self._setter).copy()
        own = {"controller": self._controller.state_dict(), "setter": setter}
        return super().state_dict() | own

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue as if nothing had happened."""
        super().load_state_dict(state_dict)
        self._controller.load_state_dict(state_dict["controller"])
        if state_dict["setter"] is not None:
            self._setter = L2Setter(**state_dict["setter"])
