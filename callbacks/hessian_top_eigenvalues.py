"""The largest eigenvalues of the Hessian while a network trains."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from pytorch_lightning.utilities import rank_zero_warn

from lightning_lazy.callbacks._base import PeriodicCallback
from lightning_lazy.callbacks._curvature import LossCurvature, parts_of
from lightning_lazy.callbacks._curvature_options import (
    LossOfOutputs,
    Matrix,
    Reduction,
    minimized_loss,
)
from lightning_lazy.callbacks._probe import Split, default_forward
from lightning_lazy.callbacks._tracked_eigenpairs import TrackedEigenpairs
from lightning_lazy.callbacks._training_loss import LossFunction
from lightning_lazy.checks import check_choice
from lightning_lazy.curvature.lanczos import Which
from lightning_lazy.curvature.module_hessian import Statistics
from lightning_lazy.curvature.vectors import ShiftedOperator
from lightning_lazy.errors import InputError

_NAMES = {"LA": "top", "SA": "bottom", "LM": "largest"}


class HessianTopEigenvalues(PeriodicCallback):
    r"""Logs the top eigenvalues of the Hessian of the training loss, in any Lightning project.

    .. math:: H = \nabla_\theta^2 \, \frac1n \sum_i \ell(\theta; x_i, y_i)

    on a fixed probe set or on the current batch, over the parameters that are trained. The loss is
    that of the module's own ``training_step``, which runs in evaluation mode and leaves no trace:
    logging is silenced, metrics, buffers and random state are restored. Where it draws, it draws
    the same every time. For a `ScaledLightningModule` it is the minimised loss ℓ(F, y)/α² without
    the L2 term. Logs

    - ``curvature/hessian_top1``, ``_top2`` …: the ``k`` largest eigenvalues (``_bottom1`` … the
      smallest for ``which="SA"``, ``_largest1`` … those largest in magnitude for ``"LM"``);
      of the Gauss–Newton matrix ``curvature/gauss_newton_top1`` …;
    - ``curvature/hessian_error``: every one of them lies within this of an eigenvalue, rounding in
      the products aside;
    - ``curvature/hessian_products``: Hessian-vector products that it took;
    - ``curvature/lr_times_top1``: times the learning rate, the largest of all parameter groups.
      Gradient descent is unstable along the first eigenvector where it exceeds 2;
    - ``curvature/hessian_overlap`` (if asked for): the share of the eigenvectors' span that lies in
      that of the last measurement, 1 if nothing has turned.

    Eigenvalues come from Lanczos iterations on exact Hessian-vector products, warm-started from the
    last eigenvectors, which the checkpoint holds (`lightning_lazy.curvature.vectors.warm_start`). A
    warm start could stay with an eigenvector that another has overtaken, so every
    ``fresh_every``-th measurement starts from a random vector. It also measures in a standalone
    ``trainer.validate``.

    Args:
        k: Number of eigenvalues.
        every_n_steps: Updates between two measurements; ``None``: at the end of epochs.
        every_n_epochs: Epochs between two measurements.
        on: ``probe``, a fixed set; ``batch``, the batch of the last update (then nothing is
            measured at the start of training).
        split: The set that the probe is taken from, ``train`` or ``val``.
        size: Number of probe samples; ``None``: 1000, or all if there are fewer.
        batch_size: Samples in one pass: bounds the memory (``max_examples_at_once`` of a
            `HessianOperator`).
        which: ``LA``, largest; ``SA``, smallest; ``LM``, largest in magnitude.
        matrix: ``hessian``; ``gauss_newton``: JᵀH_ℓJ, the Hessian of the loss of the linearised
            outputs.
        loss_fn: ``loss_fn(pl_module, batch)``, the mean loss of a batch, a scalar; by default that
            of ``training_step``.
        forward: For Gauss–Newton: ``forward(pl_module, batch)`` gives the outputs; by default
            ``pl_module`` is called on the batch's first element.
        loss_of_outputs: For Gauss–Newton: ``loss_of_outputs(pl_module, output, batch)``, the mean
            loss; a `ScaledLightningModule` needs none.
        statistics: What BatchNorm normalises by: ``running`` averages, or those of each ``batch``
            of ``batch_size`` samples, which are then part of the definition.
        reduction: How the loss reduces over samples, ``mean`` or ``sum``; then H is that of the sum
            over the whole probe set. ``None``: as the loss of a `ScaledLightningModule` says,
            else ``mean``.
        include_l2: Whether the L2 term of a `ScaledLightningModule` counts: it adds ``l2``.
        autocast: Whether to compute under the Trainer's mixed precision.
        overlap: Whether to log the overlap of eigenvectors.
        tolerance: Residual, relative to the eigenvalue, at which Lanczos stops.
        max_products: Largest number of Hessian-vector products in one measurement.
        fresh_every: Measurements from one random start to the next; 1: no warm starts.
        name: Tells two instances apart.

    Raises:
        InputError: At setup, the module optimises by itself and no ``loss_fn`` is given, its loss
            of outputs is not known, or parameters are sharded; at the start of training, the probe
            set can't be had.
    """

    def __init__(
        self,
        k: int = 1,
        *,
        every_n_steps: int | None = None,
        every_n_epochs: int = 1,
        on: Literal["probe", "batch"] = "probe",
        split: Split = "train",
        size: int | None = None,
        batch_size: int = 250,
        which: Which = "LA",
        matrix: Matrix = "hessian",
        loss_fn: LossFunction | None = None,
        forward: Callable[[Any, Any], Any] = default_forward,
        loss_of_outputs: LossOfOutputs = minimized_loss,
        statistics: Statistics = "running",
        reduction: Reduction | None = None,
        include_l2: bool = False,
        autocast: bool = False,
        overlap: bool = False,
        tolerance: float = 1e-3,
        max_products: int = 200,
        fresh_every: int = 10,
        name: str | None = None,
    ) -> None:
        super().__init__(every_n_steps, every_n_epochs, name)
        check_choice("on", on, ("probe", "batch"))
        check_choice("which", which, get_args(Which))
        if on == "batch" and size is not None:
            raise InputError(
                f"size is that of the probe set, got {size} with on='batch': leave it out"
            )
        self.k, self.on, self.which = k, on, which
        self.curvature = LossCurvature(
            split, size, batch_size, matrix, loss_fn, forward, loss_of_outputs, statistics,
            reduction, autocast,
        )  # fmt: skip
        self.probe = self.curvature.probe()
        self.include_l2, self.overlap = include_l2, overlap
        self._tracked = TrackedEigenpairs(
            k, which=which, tolerance=tolerance, max_products=max_products, fresh_every=fresh_every
        )
        self._batch: Any = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Refuse what can't be measured."""
        self.curvature.check(self, trainer, pl_module)
        if self.include_l2 and not hasattr(pl_module, "l2"):
            raise InputError(
                f"include_l2=True needs a module with an l2, {type(pl_module).__name__} has none: "
                "add the term in loss_fn"
            )
        super().setup(trainer, pl_module, stage)

    def _measure_once(self, trainer: Any, pl_module: Any) -> None:
        updated = trainer.global_step > 0 and self._batch is not None
        if self.on == "probe" or updated:
            super()._measure_once(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure if this update is a due one."""
        self._batch = batch if self.on == "batch" else None
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Measure in a standalone validation, outside of its inference mode."""
        if trainer.state.fn != "validate" or self.on == "batch":
            return
        if self.probe.split == "train" and trainer.train_dataloader is None:
            rank_zero_warn(
                "a standalone validation has no train loader: the Hessian is not measured; "
                "split='val' measures it on the validation set"
            )
            return
        with torch.inference_mode(False), torch.enable_grad():
            self._publish(trainer, self.measure(trainer, pl_module))

    def measure(self, trainer: Any, pl_module: Any) -> dict[str, float]:
        """Return the eigenvalues over the batches of all ranks."""
        if self.on == "batch":
            batches = parts_of(self._batch, self.probe.batch_size)
        else:
            batches = self.curvature.batches(self, trainer, pl_module)
        with self.curvature.operator(trainer, pl_module, batches) as operator:
            l2 = float(pl_module.l2) if self.include_l2 else 0.0
            pairs, overlap = self._tracked.find(ShiftedOperator(operator, l2) if l2 else operator)
        kind = f"curvature/{self.curvature.matrix}"
        names = [f"{kind}_{_NAMES[self.which]}{i + 1}" for i in range(self.k)]
        values = dict(zip(names, pairs.values.tolist(), strict=True))
        values[f"{kind}_error"] = float(pairs.residuals.max())
        values[f"{kind}_products"] = float(pairs.products)
        rates = [group["lr"] for one in trainer.optimizers for group in one.param_groups]
        if self.which == "LA" and rates:
            values["curvature/lr_times_top1"] = float(max(rates)) * values[names[0]]
        if self.overlap and overlap is not None:
            values[f"{kind}_overlap"] = overlap
        return values

    def state_dict(self) -> dict[str, Any]:
        """Return the last eigenvectors, which the next measurement starts from."""
        return super().state_dict() | self._tracked.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Start from the same eigenvectors."""
        super().load_state_dict(state_dict)
        self._tracked.load_state_dict(state_dict)
