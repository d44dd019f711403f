"""What the callbacks that look at the Hessian of the loss share."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lightning_lazy.callbacks._probe import Probe, Split, default_forward, first_element
from lightning_lazy.callbacks._start import refuse_sharded
from lightning_lazy.callbacks._training_loss import (
    LossFunction,
    refuse_manual_optimization,
    silenced,
    training_loss,
)
from lightning_lazy.checks import check_choice
from lightning_lazy.curvature.functional import ModelFunction, batch_statistics, differentiable
from lightning_lazy.curvature.gauss_newton import GaussNewtonOperator
from lightning_lazy.curvature.hessian import HessianOperator
from lightning_lazy.curvature.micro_batches import MicroBatchOperator, count_examples
from lightning_lazy.errors import InputError
from lightning_lazy.laziness import undisturbed

Matrix = Literal["hessian", "gauss_newton"]
Statistics = Literal["running", "batch"]
LossOfOutputs = Callable[[Any, Tensor, Any], Tensor]


def minimized_loss(pl_module: Any, output: Tensor, batch: Any) -> Tensor:
    """Return the loss of outputs, for modules that have ``minimized_loss(output, target)``."""
    loss: Tensor = pl_module.minimized_loss(output, batch[1])
    return loss


@dataclass(frozen=True)
class LossCurvature:
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
        autocast: Whether to compute under the Trainer's mixed precision.

    Raises:
        InputError: An option is unknown.
    """

    split: Split = "train"
    size: int | None = None
    batch_size: int = 250
    matrix: Matrix = "hessian"
    loss_fn: LossFunction | None = None
    forward: Callable[[Any, Any], Any] = default_forward
    loss_of_outputs: LossOfOutputs = minimized_loss
    statistics: Statistics = "running"
    autocast: bool = False

    def __post_init__(self) -> None:
        check_choice("matrix", self.matrix, get_args(Matrix))
        check_choice("statistics", self.statistics, get_args(Statistics))

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

    @contextmanager
    def operator(
        self, trainer: Any, pl_module: Any, batches: list[Any]
    ) -> Iterator[MicroBatchOperator]:
        """Give the matrix of the loss over the batches of all ranks; inside, nothing is logged."""
        norms = batch_statistics(pl_module) if self.statistics == "batch" else nullcontext()
        precision = trainer.precision_plugin.forward_context() if self.autocast else nullcontext()
        with ExitStack() as stack:
            stack.enter_context(undisturbed(pl_module))
            for one in (norms, silenced(pl_module), precision, differentiable(pl_module)):
                stack.enter_context(one)
            stack.enter_context(torch.enable_grad())
            yield self._build(trainer, pl_module, batches)

    def _build(self, trainer: Any, pl_module: Any, batches: list[Any]) -> MicroBatchOperator:
        def reduce(value: Tensor) -> Tensor:
            return trainer.strategy.reduce(value, reduce_op="sum")

        sizes = [self._examples(batch) for batch in batches]
        total = reduce(torch.tensor(float(sum(sizes)), device=pl_module.device)).item()
        weights = [size / total for size in sizes]
        if self.matrix == "hessian":
            loss = ModelFunction(pl_module, self.loss_fn or training_loss)
            parameters = loss.current()
            return HessianOperator(loss.at, parameters, batches, weights=weights, reduce=reduce)
        function = ModelFunction(pl_module, self.forward)
        return GaussNewtonOperator(
            function.at,
            lambda output, batch: self.loss_of_outputs(pl_module, output, batch),
            function.current(),
            batches,
            weights=weights,
            reduce=reduce,
        )

    def _examples(self, batch: Any) -> int:
        """Return the number of examples: the length of the inputs, else of all tensors."""
        if torch.is_tensor(batch) or isinstance(batch, list | tuple):
            return len(first_element(batch))
        return count_examples(batch)
