"""What the callbacks that look at the Hessian of the loss share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from lightning_lazy.callbacks._buffers import measured_alike
from lightning_lazy.callbacks._curvature_options import CurvatureOptions, minimized_loss
from lightning_lazy.callbacks._training_loss import repeatable, silenced, training_loss
from lightning_lazy.curvature.functional import (
    ModelFunction,
    batch_statistics,
    differentiable,
    trained_parameters,
)
from lightning_lazy.curvature.gauss_newton import GaussNewtonOperator
from lightning_lazy.curvature.hessian import HessianOperator
from lightning_lazy.curvature.micro_batches import MicroBatchOperator, count_examples, split_batch
from lightning_lazy.curvature.vectors import Reduce
from lightning_lazy.errors import InputError


class LossCurvature(CurvatureOptions):
    """The curvature that the options ask for, of the loss of a module in training."""

    def batches(self, callback: Any, trainer: Any, pl_module: Any) -> list[Any]:
        """Return this rank's batches of the callback's probe set.

        Raises:
            InputError: They can't be had, or there is nothing to differentiate in.
        """
        name = type(pl_module).__name__
        if not trained_parameters(pl_module):
            raise InputError(
                f"{type(callback).__name__} found no parameters that require gradients in {name}: "
                "leave the callback out"
            )
        several = isinstance(trainer.train_dataloader, Mapping | Sequence)
        own = self.matrix == "hessian" and self.loss_fn is None
        if several and own and self.split == "train":
            raise InputError(
                f"the training_step of {name} takes batches of several loaders at once: pass "
                "loss_fn=function(module, batch), for batches of the first one, or on='batch'"
            )
        batches: list[Any] = callback.probe.batches(trainer, whole=self.statistics == "batch")
        return batches

    @contextmanager
    def operator(
        self, trainer: Any, pl_module: Any, batches: list[Any]
    ) -> Iterator[MicroBatchOperator]:
        """Give the matrix of the loss over the batches of all ranks; inside, nothing is logged."""
        norms = batch_statistics(pl_module) if self.statistics == "batch" else nullcontext()
        with ExitStack() as stack:
            stack.enter_context(measured_alike(pl_module))
            for one in (norms, silenced(pl_module), differentiable(pl_module)):
                stack.enter_context(one)
            stack.enter_context(torch.autocast(pl_module.device.type, enabled=False))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(_clear_about_single_samples())
            yield self._build(trainer, pl_module, [_out_of_inference(batch) for batch in batches])

    def _build(self, trainer: Any, pl_module: Any, batches: list[Any]) -> MicroBatchOperator:
        def reduce(value: Tensor) -> Tensor:
            return trainer.strategy.reduce(value, reduce_op="sum")

        def as_asked(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
            """Return the function in the precision asked for, with the same draws every time."""

            def compute(*arguments: Any) -> Tensor:
                with self._precision(trainer):
                    return function(*arguments)

            return repeatable(compute)

        options: dict[str, Any] = {"weights": self._weights(pl_module, batches, reduce)}
        options["reduce"] = reduce
        dtype = self._dtype(pl_module)
        if self.matrix == "hessian":
            loss = ModelFunction(pl_module, as_asked(self.loss_fn or training_loss), dtype)
            return HessianOperator(loss.at, loss.current(), batches, **options)
        outputs = ModelFunction(pl_module, as_asked(self.forward), dtype)
        loss_of_outputs = partial(as_asked(self.loss_of_outputs), pl_module)
        return GaussNewtonOperator(
            outputs.at, loss_of_outputs, outputs.current(), batches, **options
        )

    def _precision(self, trainer: Any) -> AbstractContextManager[Any]:
        wanted = self.autocast or trainer.precision == "64-true"  # that sets the default type
        return trainer.precision_plugin.forward_context() if wanted else nullcontext()

    def _dtype(self, pl_module: Any) -> torch.dtype | None:
        """Return the type to compute in: weights in half precision are taken to single."""
        kinds = {p.dtype for p in trained_parameters(pl_module).values()}
        half = bool(kinds & {torch.float16, torch.bfloat16})
        return torch.float32 if half and not self.autocast else None

    def _weights(self, pl_module: Any, batches: list[Any], reduce: Reduce) -> list[float]:
        """Return the weights of this rank's batches in the loss over those of all ranks."""
        if self._reduction(pl_module) == "sum":
            return [1.0] * len(batches)
        sizes = [_examples(batch, alone=len(batches) == 1) for batch in batches]
        total = reduce(torch.tensor(float(sum(sizes)), device=pl_module.device)).item()
        return [size / total for size in sizes]

    def _reduction(self, pl_module: Any) -> str:
        """Return how the loss reduces over samples; that of a scaled module says it."""
        if self.reduction is not None:
            return self.reduction
        own = self.loss_fn is None and self.loss_of_outputs is minimized_loss
        loss = pl_module.loss if own and hasattr(pl_module, "minimized_loss") else None
        reduction: str = getattr(loss, "samples", getattr(loss, "reduction", "mean"))
        return reduction


@contextmanager
def _clear_about_single_samples() -> Iterator[None]:
    """Say what can be done about a last batch that is too small for BatchNorm."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InputError(
            "with statistics='batch' a batch must hold more than one sample, got one at the end of "
            "the probe set: change size or batch_size"
        ) from error


def parts_of(batch: Any, max_examples_at_once: int) -> list[Any]:
    """Return a batch in micro-batches; whole where its examples can't be told apart."""
    try:
        return split_batch(batch, max_examples_at_once)
    except InputError:
        return [batch]


def _examples(batch: Any, alone: bool) -> int:
    """Return the number of examples, the length of the inputs; any will do for one batch alone."""
    inputs = batch[0] if isinstance(batch, list | tuple) and batch else batch
    try:
        return count_examples(inputs)
    except InputError:
        if alone:
            return 1
        raise


def _out_of_inference(batch: Any) -> Any:
    """Return a batch whose tensors may take part in differentiation."""
    return apply_to_collection(batch, Tensor, lambda t: t.clone() if t.is_inference() else t)
