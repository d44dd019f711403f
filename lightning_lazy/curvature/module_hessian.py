"""The Hessian of a loss of a module, in whatever state the module is."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal, get_args

from torch import Tensor, nn

from lightning_lazy.checks import check_choice
from lightning_lazy.curvature.functional import ModelFunction, batch_statistics, differentiable
from lightning_lazy.curvature.hessian import HessianOperator, Route
from lightning_lazy.curvature.vectors import Reduce, identity
from lightning_lazy.laziness.isolation import undisturbed

Statistics = Literal["running", "batch"]


class ModuleHessian(HessianOperator):
    """The Hessian of a loss of a module in the parameters that are trained.

    The module is in evaluation mode in all products, and is left as it is: its parameters, buffers,
    gradients, modes and the global random numbers. Tied parameters count once.

    Args:
        module: Any module.
        loss_fn: ``loss_fn(module, batch)``, the mean loss of a batch, a scalar.
        batches: Batches that ``loss_fn`` takes.
        weights: Of the batches, as in `HessianOperator`.
        max_examples_at_once: Bounds the memory, as in `HessianOperator`.
        statistics: What BatchNorm normalises by: ``running`` averages, or those of each micro-batch
            (``batch``), which are then part of the definition.
        route: As in `HessianOperator`.
        reduce: Adds a tensor up over all processes.

    Raises:
        InputError: ``statistics`` is unknown, or as `HessianOperator`.

    Examples:
        >>> import torch
        >>> net = nn.Linear(2, 1, bias=False)
        >>> batch = torch.eye(2), torch.zeros(2, 1)
        >>> loss = lambda module, batch: nn.functional.mse_loss(module(batch[0]), batch[1])
        >>> ModuleHessian(net, loss, [batch])(torch.tensor([1.0, 0.0]))
        tensor([1., 0.])
    """

    def __init__(
        self,
        module: nn.Module,
        loss_fn: Callable[[Any, Any], Tensor],
        batches: Sequence[Any],
        *,
        weights: Sequence[float] | None = None,
        max_examples_at_once: int | None = None,
        statistics: Statistics = "running",
        route: Route = "auto",
        reduce: Reduce = identity,
    ) -> None:
        check_choice("statistics", statistics, get_args(Statistics))
        function = ModelFunction(module, loss_fn)
        super().__init__(
            function.at,
            function.current(),
            batches,
            weights=weights,
            max_examples_at_once=max_examples_at_once,
            route=route,
            reduce=reduce,
        )
        self._module = module
        self._statistics = statistics

    def __call__(self, vector: Tensor) -> Tensor:
        """Return the product with a vector of shape ``(dim,)``, as `HessianOperator`."""
        with self._as_measured():
            return super().__call__(vector)

    def value(self) -> Tensor:
        """Return L(w)."""
        with self._as_measured():
            return super().value()

    def gradient(self) -> Tensor:
        """Return ∇L(w), flat."""
        with self._as_measured():
            return super().gradient()

    @contextmanager
    def _as_measured(self) -> Iterator[None]:
        module = self._module
        norms = batch_statistics(module) if self._statistics == "batch" else nullcontext()
        with undisturbed(module), norms, differentiable(module):
            yield
