"""Which curvature of a loss a callback measures."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor

from lightning_lazy.callbacks._probe import Probe, Split, default_forward
from lightning_lazy.callbacks._start import refuse_sharded
from lightning_lazy.callbacks._training_loss import LossFunction, refuse_manual_optimization
from lightning_lazy.checks import check_choice
from lightning_lazy.curvature.module_hessian import Statistics
from lightning_lazy.errors import InputError

Matrix = Literal["hessian", "gauss_newton"]
Reduction = Literal["mean", "sum"]
LossOfOutputs = Callable[[Any, Tensor, Any], Tensor]


def minimized_loss(pl_module: Any, output: Tensor, batch: Any) -> Tensor:
    """Return the loss of outputs, for modules that have ``minimized_loss(output, target)``."""
    loss: Tensor = pl_module.minimized_loss(output, batch[1])
    return loss


@dataclass(frozen=True)
class CurvatureOptions:
    """Which matrix of which loss is looked at, and how.

    Args:
        split: The set that the probe is taken from.
        size: Number of probe samples.
        batch_size: Samples in one pass.
        matrix: The ``hessian`` or the ``gauss_newton`` matrix.
        loss_fn: ``loss_fn(pl_module, batch)``; ``None``: that of ``training_step``.
        forward: For Gauss–Newton: ``forward(pl_module, batch)`` gives the outputs.
        loss_of_outputs: For Gauss–Newton: ``loss_of_outputs(pl_module, output, batch)``.
        statistics: What BatchNorm normalises by.
        reduction: How the loss reduces over samples; ``None``: as a `ScaledLightningModule` says.
        autocast: Whether to compute under the Trainer's mixed precision.

    Raises:
        InputError: An option is unknown, or belongs to the other matrix.
    """

    split: Split = "train"
    size: int | None = None
    batch_size: int = 250
    matrix: Matrix = "hessian"
    loss_fn: LossFunction | None = None
    forward: Callable[[Any, Any], Any] = default_forward
    loss_of_outputs: LossOfOutputs = minimized_loss
    statistics: Statistics = "running"
    reduction: Reduction | None = None
    autocast: bool = False

    def __post_init__(self) -> None:
        check_choice("matrix", self.matrix, get_args(Matrix))
        check_choice("statistics", self.statistics, get_args(Statistics))
        if self.reduction is not None:
            check_choice("reduction", self.reduction, get_args(Reduction))
        if self.matrix == "gauss_newton" and self.loss_fn is not None:
            raise InputError(
                "loss_fn is that of matrix='hessian', got matrix='gauss_newton': pass "
                "loss_of_outputs, and forward where outputs are not those of the module"
            )
        outputs = (self.forward, self.loss_of_outputs)
        if self.matrix == "hessian" and outputs != (default_forward, minimized_loss):
            raise InputError(
                "forward and loss_of_outputs are those of matrix='gauss_newton', got "
                "matrix='hessian': pass loss_fn"
            )

    def probe(self) -> Probe:
        """Return the probe set, not loaded yet."""
        return Probe(self.split, self.size, self.batch_size)

    def check(self, callback: Any, trainer: Any, pl_module: Any) -> None:
        """Raise an `InputError` if this can't be measured, for the callback that wants it."""
        refuse_sharded(callback, trainer)
        name = type(callback).__name__
        if self.matrix == "hessian" and self.loss_fn is None:
            refuse_manual_optimization(pl_module, name)
        own = self.loss_of_outputs is minimized_loss
        if self.matrix == "gauss_newton" and own and not hasattr(pl_module, "minimized_loss"):
            raise InputError(
                f"{name} can't tell how {type(pl_module).__name__} makes its loss of its outputs: "
                "pass loss_of_outputs=function(module, output, batch)"
            )
