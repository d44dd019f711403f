"""Training of scaled, centred networks in Lightning."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_lazy.checks import check_choice, check_number, check_period
from lightning_lazy.epoch_mean import EpochMean
from lightning_lazy.errors import InputError
from lightning_lazy.losses import num_correct
from lightning_lazy.reporting import is_full_batch, publish
from lightning_lazy.scaling import Centering, ScaledModel

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
ScheduleFactory = Callable[[Optimizer], LRScheduler]


class ScaledLightningModule(pl.LightningModule):
    r"""Trains F = α (f(θ, x) − f(θ₀, x)) on the loss that keeps its speed independent of α.

    .. math:: L(\theta) = \ell(F(\theta, x), y) / \alpha^2 + \tfrac12 \, l2 \, \|\theta\|^2

    (Chizat, Oyallon & Bach 2019, equation 2; Kanoh & Sugiyama 2021, equation 3.) The L2 term is not
    divided by α², as coupled weight decay would not be.

    It logs ``train/loss`` (ℓ/α², without the L2 term), ``train/acc``, ``val/loss`` and ``val/acc``.
    ``val/loss`` is a mean over images, also for a loss that sums over the batch.

    Args:
        net: Maps inputs to raw outputs ``[batch, outputs]``.
        loss: ℓ(output, target), a scalar; those of `lightning_lazy.losses` encode integer labels.
        optimizer: Makes an optimizer of parameters, such as ``partial(torch.optim.SGD, lr=0.1)``.
        schedule: Makes a learning-rate scheduler of an optimizer.
        alpha: Output scale α > 0.
        l2: Coefficient of the L2 term, ≥ 0; may be changed while training goes on.
        centering: See `ScaledModel`.
        schedule_interval: What the schedule counts: ``epoch`` or ``step``.
        log_every_n_steps: ``None`` logs means over the epoch. A number n logs the values of single
            batches, before their update, at step 1 and every n-th.

    Raises:
        InputError: ``alpha`` or ``centering`` is refused by `ScaledModel`, ``l2`` is negative or
            ``log_every_n_steps`` is below 1.
    """

    def __init__(
        self,
        net: nn.Module,
        loss: nn.Module | Callable[[Tensor, Tensor], Tensor],
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory | None = None,
        *,
        alpha: float = 1.0,
        l2: float = 0.0,
        centering: Centering = "subtract",
        schedule_interval: Literal["epoch", "step"] = "epoch",
        log_every_n_steps: int | None = None,
    ) -> None:
        super().__init__()
        check_period("log_every_n_steps", log_every_n_steps)
        check_choice("schedule_interval", schedule_interval, ("epoch", "step"))
        self.model = ScaledModel(net, alpha, centering)
        self.loss = loss
        self.optimizer = optimizer
        self.schedule = schedule
        self.l2 = check_number("l2", l2, zero=True)
        self.schedule_interval = schedule_interval
        self.log_every_n_steps = log_every_n_steps
        self._reuses_reference = False
        self._seen: tuple[Tensor, int, Tensor] | None = None
        self._last_batch: tuple[Tensor, Tensor] | None = None
        self.train_loss, self.train_acc = EpochMean(persistent=True), EpochMean(persistent=True)
        self.val_loss, self.val_acc = EpochMean(), EpochMean()

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; spare the name of the running hook the rounds of ``nn.Module``.

        Lightning sets it some forty times an update, which costs a small net a tenth of its time.
        """
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    @property
    def alpha(self) -> float:
        """The output scale α."""
        return self.model.alpha

    @property
    def net(self) -> nn.Module:
        """The trained net f, without centring and scale."""
        return self.model.net

    def forward(self, x: Tensor) -> Tensor:
        """Return F(θ, x), shape ``[batch, outputs]``."""
        return self.model(x)

    def minimized_loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return ℓ(output, target)/α², a scalar, for an output of this module."""
        return self.loss(output, target) / self.alpha**2

    def penalty(self) -> Tensor:
        """Return ½·l2·‖θ‖² over the trained parameters, a scalar."""
        squares = [p.square().sum() for p in self.parameters() if p.requires_grad]
        return 0.5 * self.l2 * torch.stack(squares).sum()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the minimised loss of a batch ``(x, y)``, a scalar."""
        x, y = batch
        output = self.model(x, self._known_reference(x))
        loss = self.minimized_loss(output, y)
        if self.log_every_n_steps is None:
            self._add_to_means(loss.detach(), output.detach(), y)
        else:
            self._log_single(loss.detach(), output.detach(), y, self.log_every_n_steps)
        return loss + self.penalty() if self.l2 > 0 else loss

    def on_fit_start(self) -> None:
        """Refuse a scale whose square is lost in the run's precision."""
        limits = torch.finfo(self.dtype)  # type: ignore[arg-type]
        if not limits.tiny <= self.alpha**2 <= limits.max or self.alpha**-2 < limits.tiny:
            raise InputError(
                f"alpha={self.alpha:g} can't be squared in {self.dtype}: choose alpha between "
                "1e-18 and 1e18, or up to 1e±150 in double precision (trainer=float64)"
            )

    def on_train_start(self) -> None:
        """Find out whether f(θ₀, x) has to be computed more than once."""
        reference = self.model.reference
        self._reuses_reference = (
            reference is not None
            and is_full_batch(self.trainer)
            and not any(isinstance(part, _NormBase) for part in reference.modules())
        )

    def _known_reference(self, x: Tensor) -> Tensor | None:
        """Return f(θ₀, x) if x is the batch of the last update, as full-batch training serves it.

        Nets with BatchNorm compute it anew, since each pass counts in their statistics.
        """
        if not self._reuses_reference or self.model.reference is None:
            return None
        if self._seen is None or self._seen[0] is not x or self._seen[1] != x._version:
            self._seen = (x, x._version, self.model.reference(x))
        return self._seen[2]

    def _add_to_means(self, loss: Tensor, output: Tensor, y: Tensor) -> None:
        self.train_loss.update(loss, weight=len(y))
        self.train_acc.update(num_correct(output, y))
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True, prog_bar=True)
        self.log("train/acc", self.train_acc, on_step=False, on_epoch=True, prog_bar=True)

    def _log_single(self, loss: Tensor, output: Tensor, y: Tensor, period: int) -> None:
        step = self.trainer.global_step + 1
        if step == 1 or step % period == 0 or step == self.trainer.max_steps:
            self._last_batch = (loss, num_correct(output, y).to(loss.dtype).mean())

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Publish the values of a single batch, stamped with the update that they led to."""
        if self._last_batch is not None:
            loss, acc = self.trainer.strategy.reduce(torch.stack(self._last_batch)).tolist()
            publish(self.trainer, {"train/loss": loss, "train/acc": acc})
            self._last_batch = None

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Add a batch ``(x, y)`` to the means over the validation set."""
        x, y = batch
        output = self.model(x)
        per_sample = getattr(self.loss, "per_sample", None)
        losses = self.loss(output, y) if per_sample is None else per_sample(output, y)
        weight = len(y) if losses.ndim == 0 else 1
        self.val_loss.update(losses / self.alpha**2, weight=weight)
        self.val_acc.update(num_correct(output, y))
        self.log("val/loss", self.val_loss, prog_bar=True, add_dataloader_idx=False)
        self.log("val/acc", self.val_acc, prog_bar=True, add_dataloader_idx=False)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the dtype of the weights to come: Lightning restores before it sets the precision.

        Weights in double precision would lose half of their digits in a module built in single.
        """
        name = next(iter(dict(self.named_parameters())))
        self.model.to(checkpoint["state_dict"][name].dtype)

    def configure_optimizers(self) -> Any:
        """Build the optimizer on the trained parameters, and the schedule on it."""
        optimizer = self.optimizer([p for p in self.parameters() if p.requires_grad])
        if self.schedule is None:
            return optimizer
        schedule = {"scheduler": self.schedule(optimizer), "interval": self.schedule_interval}
        return {"optimizer": optimizer, "lr_scheduler": schedule}
