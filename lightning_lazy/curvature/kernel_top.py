"""The largest eigenvalue of a tangent kernel, without the kernel."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_lazy.curvature.functional import Parameters
from lightning_lazy.curvature.gauss_newton import GaussNewtonOperator
from lightning_lazy.curvature.lanczos import lanczos
from lightning_lazy.curvature.sample_jacobians import Function
from lightning_lazy.curvature.vectors import Reduce, identity
from lightning_lazy.errors import InputError


def largest_eigenvalue(
    function: Function,
    parameters: Parameters,
    batches: Sequence[Any],
    *,
    tolerance: float = 1e-6,
    reduce: Reduce = identity,
) -> float:
    r"""Return the top eigenvalue of Θ/n, the tangent kernel of n samples over n.

    It is that of JᵀJ/n, J the Jacobian of all outputs, found by Lanczos iterations.

    Args:
        function: ``function(w, batch)`` gives the outputs, with the samples along the first axis.
        parameters: w by name.
        batches: Micro-batches of inputs; those of this process.
        tolerance: Relative residual at which the iterations stop.
        reduce: Adds a tensor up over all processes.

    Returns:
        The eigenvalue; not a number where outputs or derivatives are not finite.

    Raises:
        InputError: There are no parameters.
    """
    if not parameters:
        raise InputError("parameters must not be empty, got none; pass those that are trained")
    with torch.no_grad():
        values = [function(parameters, batch) for batch in batches]
    like = next(iter(parameters.values()))
    own = [sum(map(len, values)), sum(int((~value.isfinite()).sum()) for value in values)]
    samples, broken = reduce(torch.tensor(own, dtype=torch.float64, device=like.device)).tolist()
    if broken:
        return float("nan")
    operator = GaussNewtonOperator(
        function, _half_square, parameters, batches, weights=[1 / samples] * len(batches),
        reduce=reduce,
    )  # fmt: skip
    return float(lanczos(operator, tolerance=tolerance).values[0])


def _half_square(output: Tensor, batch: Any) -> Tensor:
    return output.square().sum() / 2
