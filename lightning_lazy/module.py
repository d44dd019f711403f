"""Training of scaled, centred networks in Lightning."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_lazy.checks import check_choice, check_number, check_period
from lightning_lazy.curvature.functional import has_batch_norm
from lightning_lazy.data.dataset import IndexedBatch
from lightning_lazy.epoch_mean import EpochMean
from lightning_lazy.errors import InputError
from lightning_lazy.losses import num_correct
from lightning_lazy.reference_cache import ReferenceCache
from lightning_lazy.reporting import is_full_batch, publish
from lightning_lazy.scaling import Centering, ScaledModel, check_square

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
ScheduleFactory = Callable[[Optimizer], LRScheduler]


class ScaledLightningModule(pl.LightningModule):
    r"""Trains F = α (f(θ, x) − f(θ₀, x)) on the loss that keeps its speed independent of α.

    .. math:: L(\theta) = \ell(F(\theta, x), y) / \alpha^2 + \tfrac12 \, l2 \, \|\theta\|^2

    (Chizat, Oyallon & Bach 2019, equation 2; Kanoh & Sugiyama 2021, equation 3.) The L2 term is not
    divided by α², as coupled weight decay would not be.

    It logs ``train/loss`` (ℓ/α², without the L2 term), ``train/acc``, ``val/loss`` and ``val/acc``;
    with several validation sets, which the datamodule's ``val_names`` names, ``val/<set>/loss`` …
    ``val/loss`` is a mean over images, also for a loss that sums over the batch. Of soft targets
    (mixup) the class with the largest share counts as the right one. A net with one output and
    float targets regresses, and has no accuracy.

    Under DDP a loss that sums over samples sums over those of all ranks, and a full batch that does
    not divide by the ranks is the same full batch.

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
        reference_cache: Whether f(θ₀, x) is computed once per image and reused, to the last bit the
            same (`ReferenceCache`), where inputs come again: full batches, and images of this
            project's datamodules without augmentation, for nets without BatchNorm under
            ``centering="subtract"``. Else it costs a second forward pass in every step.

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
        reference_cache: bool = True,
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
        self.reference_cache = reference_cache
        self._caches: dict[int, ReferenceCache] | None = None  # by set of images
        self._last_batch: dict[str, Tensor] = {}
        self._loss_weight = self._share = 1.0  # see `_weigh_ranks`
        self.train_loss, self.train_acc = EpochMean(persistent=True), EpochMean(persistent=True)
        self.val_means = nn.ModuleDict()  # of every validation set, by name

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

    def uncentred(self, x: Tensor) -> Tensor:
        """Return f(θ, x), shape ``[batch, outputs]``, without the cost of the frozen copy."""
        output: Tensor = self.net(x)
        return output

    def minimized_loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return ℓ(output, target)/α², a scalar, for an output of this module."""
        return self.loss(output, target) / self.alpha**2

    def loss_of(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return the minimised loss of a batch ``(x, y)`` without the L2 term, logging nothing."""
        x, y = batch
        return self.minimized_loss(self.model(x), y)

    def penalty(self) -> Tensor:
        """Return ½·l2·‖θ‖² over the trained parameters, a scalar."""
        squares = [p.square().sum() for p in self.parameters() if p.requires_grad]
        return 0.5 * self.l2 * torch.stack(squares).sum()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the minimised loss of a batch ``(x, y)``, a scalar."""
        x, y = batch
        output = self.model(x, self._reference_output(batch))
        loss = self.minimized_loss(output, y)
        if self._loss_weight != 1:
            loss = self._loss_weight * loss
        if self.log_every_n_steps is None:
            self._add_to_means(loss.detach(), output.detach(), y)
        else:
            self._log_single(loss.detach(), output.detach(), y, self.log_every_n_steps)
        return loss + self.penalty() if self.l2 > 0 else loss

    def on_fit_start(self) -> None:
        """Refuse a scale whose square is lost in the run's precision, and mixup for a margin."""
        check_square(self.alpha, self.dtype)  # type: ignore[arg-type]
        mixup = getattr(self.trainer.datamodule, "mixup", None)  # type: ignore[attr-defined]
        if mixup is not None and not getattr(self.loss, "takes_mixtures", True):
            raise InputError(
                f"mixup={mixup:g} makes shares of the classes, which {self.loss} can't be fitted "
                "to: use a cross entropy, the squared loss with targets=one_hot, or mixup=null"
            )

    def on_train_start(self) -> None:
        """Make room for outputs of the frozen copy that will be needed again; weigh the ranks.

        Nets with BatchNorm compute them anew, since each pass counts in their statistics.
        """
        self._weigh_ranks()
        reference = self.model.reference
        cached = self.reference_cache and reference is not None and not has_batch_norm(reference)
        self._caches = {} if cached else None

    def _weigh_ranks(self) -> None:
        """Note what loss and accuracy of this rank count by, since DDP averages over ranks.

        That average is then the sum over all samples where the loss is a sum, and the mean over all
        where ranks have unequal shares of a full batch. (Those of other batches are equal.)
        """
        ranks = self.trainer.world_size
        share = getattr(self.trainer.train_dataloader, "share_of_all", None)
        self._share = 1.0 if share is None else ranks * share
        reduction = getattr(self.loss, "samples", getattr(self.loss, "reduction", "mean"))
        self._loss_weight = float(ranks) if reduction == "sum" else self._share

    def _reference_output(self, batch: Any) -> Tensor | None:
        """Return f(θ₀, x) from an earlier batch, or kept for a later one; ``None``: no use."""
        if self._caches is None or self.model.reference is None:
            return None
        x = batch[0]
        if isinstance(batch, IndexedBatch) and not x.requires_grad:
            cache = self._caches.setdefault(batch.source, ReferenceCache(self.model.reference))
            return cache.of_images(x, batch.places)
        if self.training and is_full_batch(self.trainer):
            return self._caches.setdefault(-1, ReferenceCache(self.model.reference)).of_batch(x)
        return None

    def _add_to_means(self, loss: Tensor, output: Tensor, y: Tensor) -> None:
        self.train_loss.update(loss, weight=len(y) / self._share)
        self.log("train/loss", self.train_loss, on_step=False, on_epoch=True, prog_bar=True)
        if _has_classes(output, y):
            self.train_acc.update(num_correct(output, y))
            self.log("train/acc", self.train_acc, on_step=False, on_epoch=True, prog_bar=True)

    def _log_single(self, loss: Tensor, output: Tensor, y: Tensor, period: int) -> None:
        step = self.trainer.global_step + 1
        if step == 1 or step % period == 0 or step == self.trainer.max_steps:
            self._last_batch = {"train/loss": loss}
            if _has_classes(output, y):
                correct = num_correct(output, y).to(loss.dtype)
                self._last_batch["train/acc"] = self._share * correct.mean()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Publish the values of a single batch, stamped with the update that they led to."""
        if self._last_batch:
            values = torch.stack(list(self._last_batch.values()))
            reduced = self.trainer.strategy.reduce(values).tolist()
            publish(self.trainer, dict(zip(self._last_batch, reduced, strict=True)))
            self._last_batch = {}

    def on_validation_start(self) -> None:
        """Make room for the means over the validation sets that this module has not seen yet."""
        for name in self._val_names():
            if name not in self.val_means:
                means = {"loss": EpochMean(), "acc": EpochMean()}
                self.val_means[name] = nn.ModuleDict(means).to(self.device)

    def _val_names(self) -> list[str]:
        """Return what metrics of the validation sets begin with."""
        count = len(self.trainer.num_val_batches)
        names = getattr(self.trainer.datamodule, "val_names", None)  # type: ignore[attr-defined]
        if count == 1:
            return ["val"]
        return [f"val/{name}" for name in (names or range(count))]

    def validation_step(
        self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Add a batch ``(x, y)`` to the means over its validation set."""
        x, y = batch
        name = self._val_names()[dataloader_idx]
        means: Any = self.val_means[name]
        output = self.model(x, self._reference_output(batch))
        per_sample = getattr(self.loss, "per_sample", None)
        losses = self.loss(output, y) if per_sample is None else per_sample(output, y)
        weight = len(y) if losses.ndim == 0 else 1
        means["loss"].update(losses / self.alpha**2, weight=weight)
        values = ["loss"]
        if _has_classes(output, y):
            means["acc"].update(num_correct(output, y))
            values.append("acc")
        for value in values:
            self.log(
                f"{name}/{value}",
                means[value],
                metric_attribute=f"val_means.{name}.{value}",
                prog_bar=dataloader_idx == 0,
                add_dataloader_idx=False,
            )

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


def _has_classes(output: Tensor, target: Tensor) -> bool:
    """Return whether there is an accuracy: not where a single output is fitted to numbers."""
    return output.shape[1] > 1 or not target.is_floating_point()
