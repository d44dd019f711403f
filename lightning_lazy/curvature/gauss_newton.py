"""Products with the generalised Gauss–Newton matrix of a loss."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import vjp

from lightning_lazy.curvature.functional import Parameters, directional_derivative
from lightning_lazy.curvature.hessian import HessianOperator
from lightning_lazy.curvature.hessian_routes import one_line_errors
from lightning_lazy.curvature.micro_batches import MicroBatchOperator
from lightning_lazy.curvature.vectors import Reduce, as_vector, identity

Outputs = Callable[[Parameters, Any], Tensor]
LossOfOutputs = Callable[[Tensor, Any], Tensor]


class GaussNewtonOperator(MicroBatchOperator):
    r"""The generalised Gauss–Newton matrix G of a loss of outputs, as a linear operator.

    .. math:: L(w) = \sum_b c_b \, \ell(f(w, b), b), \qquad
              v \mapsto \sum_b c_b \, J_b^\top \, \partial_f^2 \ell \, J_b \, v, \qquad
              J_b = \partial_w f(w, b)

    (Schraudolph 2002.) It is the Hessian of the loss of the outputs linearised in w, positive
    semi-definite where ℓ is convex in them. One product costs some three forward passes for
    J v, by forward-mode differentiation, and a forward and a backward pass for the rest.

    Args:
        outputs: ``outputs(parameters, batch)`` gives f, shape ``[n, ...]``.
        loss_of_outputs: ``loss_of_outputs(output, batch)`` gives ℓ, a scalar: a mean over the
            samples of a micro-batch.
        parameters: w by name, as in `HessianOperator`.
        batches: b, as in `HessianOperator`.
        weights: c.
        max_examples_at_once: Bounds the memory, as in `HessianOperator`.
        reduce: Adds a tensor up over all processes.

    Raises:
        InputError: As `HessianOperator`.
    """

    def __init__(
        self,
        outputs: Outputs,
        loss_of_outputs: LossOfOutputs,
        parameters: Parameters,
        batches: Sequence[Any],
        *,
        weights: Sequence[float] | None = None,
        max_examples_at_once: int | None = None,
        reduce: Reduce = identity,
    ) -> None:
        super().__init__(parameters, batches, weights, max_examples_at_once, reduce)
        self._outputs = outputs
        self._loss_of_outputs = loss_of_outputs

    def _product(self, number: int, direction: Parameters) -> Tensor:
        batch = self._batches[number]

        def outputs(w: Parameters) -> Tensor:
            return self._outputs(w, batch)

        with torch.no_grad(), one_line_errors():
            value, change = directional_derivative(outputs, self._at, direction)
            curvature = HessianOperator(
                lambda at, batch: self._loss_of_outputs(at["output"], batch),
                {"output": value},
                [batch],
                route="reverse",
            )
            pulled = curvature(change.reshape(-1)).view_as(value)
            _, pull_back = vjp(outputs, self._at)  # type: ignore[misc]
            return as_vector(pull_back(pulled)[0])
