"""The largest eigenvalues of the Hessian while a network trains."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lightning_lazy.callbacks._base import PeriodicCallback
from lightning_lazy.callbacks._curvature import (
    LossCurvature,
    LossOfOutputs,
    Matrix,
    Statistics,
    minimized_loss,
)
from lightning_lazy.callbacks._probe import Split, default_forward
from lightning_lazy.callbacks._training_loss import LossFunction
from lightning_lazy.checks import check_choice, check_number, check_size
from lightning_lazy.curvature.lanczos import Which, lanczos
from lightning_lazy.curvature.micro_batches import split_batch
from lightning_lazy.errors import InputError

_NAMES = {"LA": "top", "SA": "bottom", "LM": "largest"}


class HessianTopEigenvalues(PeriodicCallback):
    r"""Logs the top eigenvalues of the Hessian of the training loss, in any Lightning project.

    .. math:: H = \nabla_\theta^2 \, \frac1n \sum_i \ell(\theta; x_i, y_i)

    on a fixed probe set or on the current batch, over the parameters that are trained. The loss is
    that of the module's own ``training_step``, which runs in evaluation mode and leaves no trace:
    logging is silenced, metrics, buffers and random state are restored. For a
    `ScaledLightningModule` it is the minimised loss ℓ(F, y)/α² without the L2 term. Logs

    - ``curvature/hessian_top1``, ``_top2`` …: the ``k`` largest eigenvalues (``_bottom1`` … the
      smallest for ``which="SA"``, ``_largest1`` … those largest in magnitude for ``"LM"``);
      of the Gauss–Newton matrix ``curvature/gauss_newton_top1`` …;
    - ``curvature/hessian_error``: every one of them lies within this of an eigenvalue;
    - ``curvature/lr_times_top1``: times the learning rate, the largest of all parameter groups.
      Gradient descent is unstable along the first eigenvector where it exceeds 2;
    - ``curvature/hessian_overlap`` (if asked for): the share of the eigenvectors' span that lies in
      that of the last measurement, 1 if nothing has turned.

    Eigenvalues come from Lanczos iterations on exact Hessian-vector products, warm-started from the
    last eigenvectors, which the checkpoint holds. A warm start could stay with an eigenvector that
    another has overtaken, so every ``fresh_every``-th measurement starts from a random vector. It
    also measures in a standalone ``trainer.validate``.

    Args:
        k: Number of eigenvalues.
        every_n_steps: Updates between two measurements; ``None``: at the end of epochs.
        every_n_epochs: Epochs between two measurements.
        on: ``probe``, a fixed set; ``batch``, the batch of the last update (then nothing is
            measured at the start of training).
        split: The set that the probe is taken from, ``train`` or ``val``.
        size: Number of probe samples; ``None``: 1000, or all if there are fewer.
        batch_size: Samples in one pass: bounds the memory.
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
        include_l2: bool = False,
        autocast: bool = False,
        overlap: bool = False,
        tolerance: float = 1e-3,
        max_products: int = 200,
        fresh_every: int = 10,
        name: str | None = None,
    ) -> None:
        super().__init__(every_n_steps, every_n_epochs, name)
        self.k = check_size("k", k)
        check_choice("on", on, ("probe", "batch"))
        check_choice("which", which, get_args(Which))
        self.on, self.which = on, which
        self.curvature = LossCurvature(
            split, size, batch_size, matrix, loss_fn, forward, loss_of_outputs, statistics, autocast
        )
        self.probe = self.curvature.probe()
        self.include_l2, self.overlap = include_l2, overlap
        self.tolerance = check_number("tolerance", tolerance)
        self.max_products = check_size("max_products", max_products)
        self.fresh_every = check_size("fresh_every", fresh_every)
        self._measurements = 0
        self._vectors: Tensor | None = None
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

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Measure at initialisation, on the probe."""
        if self.on == "probe":
            super().on_train_start(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure if this update is a due one."""
        self._batch = batch if self.on == "batch" else None
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Measure in a standalone validation, outside of its inference mode."""
        if trainer.state.fn == "validate" and self.on == "probe":
            with torch.inference_mode(False), torch.enable_grad():
                self._publish(trainer, self.measure(trainer, pl_module))

    def measure(self, trainer: Any, pl_module: Any) -> dict[str, float]:
        """Return the eigenvalues over the batches of all ranks."""
        with self.curvature.operator(trainer, pl_module, self._batches(trainer)) as operator:
            last = self._vectors
            fresh = last is None or self._measurements % self.fresh_every == 0
            pairs = lanczos(
                operator,
                self.k,
                which=self.which,
                tolerance=self.tolerance,
                max_products=self.max_products,
                start=None if fresh else last,
                eigenvectors=True,
                seed=self._measurements,
            )
        self._measurements += 1
        shift = float(pl_module.l2) if self.include_l2 else 0.0
        kind = f"curvature/{self.curvature.matrix}"
        names = [f"{kind}_{_NAMES[self.which]}{i + 1}" for i in range(self.k)]
        values = {n: v + shift for n, v in zip(names, pairs.values.tolist(), strict=True)}
        values[f"{kind}_error"] = float(pairs.residuals.max())
        rates = [group["lr"] for one in trainer.optimizers for group in one.param_groups]
        if self.which == "LA" and rates:
            values["curvature/lr_times_top1"] = float(max(rates)) * values[names[0]]
        if self.overlap and last is not None and pairs.vectors is not None:
            shared = (last.to(pairs.vectors).T @ pairs.vectors).square().sum() / self.k
            values[f"{kind}_overlap"] = float(shared)
        finite = pairs.vectors is not None and bool(pairs.vectors.isfinite().all())
        self._vectors = pairs.vectors if finite else None
        return values

    def _batches(self, trainer: Any) -> list[Any]:
        if self.on == "probe":
            return self.probe.batches(trainer, whole=self.curvature.statistics == "batch")
        if self._batch is None:
            return []
        return split_batch(self._batch, self.probe.batch_size)

    def state_dict(self) -> dict[str, Any]:
        """Return the last eigenvectors, which the next measurement starts from."""
        own = {"vectors": self._vectors, "measurements": self._measurements}
        return super().state_dict() | own

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Start from the same eigenvectors."""
        super().load_state_dict(state_dict)
        self._vectors = state_dict["vectors"]
        self._measurements = state_dict["measurements"]
