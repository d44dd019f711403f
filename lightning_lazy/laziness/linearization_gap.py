"""How far a trained net is from its linearisation at the start."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from lightning_lazy.curvature.functional import (
    ModelFunction,
    Parameters,
    directional_derivative,
)
from lightning_lazy.errors import InputError


@dataclass(frozen=True)
class LinearizationGap:
    """Distances from the linearisation h̄(w) = h(w₀) + Dh(w₀)(w − w₀), over a set of samples.

    Attributes:
        gap: ‖h(w) − h̄(w)‖ / ‖h(w₀) − y‖: what the linearisation misses, relative to what there was
            to learn; not a number where the targets are unknown.
        nonlinear_share: ‖h(w) − h̄(w)‖ / ‖h(w) − h(w₀)‖: relative to what has changed; 0 where
            nothing has.
    """

    gap: float
    nonlinear_share: float


@torch.no_grad()
def gap_sums(
    function: ModelFunction,
    start: Parameters,
    now: Parameters,
    batches: Iterable[Any],
    target: Callable[[Any, Tensor], Tensor | None],
) -> Tensor:
    """Return three sums of squares over the samples of ``batches``, to be added over ranks.

    Costs a forward pass and a directional derivative, some three forward passes in all.

    Args:
        function: The model h.
        start: w₀.
        now: w.
        batches: Batches of inputs, as ``function`` takes them.
        target: ``target(batch, output)`` gives y in the shape of the outputs, or ``None`` where
            there is none; the first sum is then not a number.

    Returns:
        ‖h(w₀) − y‖², ‖h(w) − h(w₀)‖² and ‖h(w) − h̄(w)‖², float64 of shape (3,).

    Raises:
        InputError: A target has another shape than the outputs.
    """
    device = next(iter(start.values())).device
    direction = {name: now[name] - first for name, first in start.items()}
    sums = torch.zeros(3, dtype=torch.float64, device=device)
    for batch in batches:

        def outputs(w: Parameters, batch: Any = batch) -> Tensor:
            return function.at(w, batch)

        before, change = directional_derivative(outputs, start, direction)
        after = outputs(now)
        y = target(batch, before)
        if y is not None and y.shape != before.shape:
            raise _unlike(before, y)
        wanted = torch.full_like(before, math.nan) if y is None else before - y
        differences = (wanted, after - before, after - (before + change))
        sums += torch.stack([part.double().square().sum() for part in differences])
    return sums


def linearization_gap(sums: Tensor) -> LinearizationGap:
    r"""Return the relative distances that sums as from `gap_sums` mean.

    .. math:: \frac{\|h(w) - \bar h(w)\|}{\|h(w_0) - y\|}, \qquad
              \frac{\|h(w) - \bar h(w)\|}{\|h(w) - h(w_0)\|}

    With h = F, the scaled model, the first is of order 1/α under lazy training (Chizat, Oyallon &
    Bach 2019, theorem 2.2 and §1.2).
    """
    wanted, changed, missed = sums.tolist()
    return LinearizationGap(_ratio(missed, wanted), _ratio(missed, changed))


def _ratio(part: float, whole: float) -> float:
    if whole == 0:
        return math.inf if part > 0 else 0.0
    return math.sqrt(part / whole)


def as_outputs(output: Tensor, target: Tensor) -> Tensor:
    """Return a target in the shape of the outputs.

    Floats are taken as they are. Class labels become 1 at the label and 0 elsewhere, along axis 1
    as in torch's losses; of nets with one output they become ±1, positive where above 0.

    Raises:
        InputError: The shapes do not fit.
    """
    if target.is_floating_point() and target.numel() == output.numel():
        return target.view_as(output).to(output.dtype)
    if not target.is_floating_point():
        if target.numel() == output.numel():
            return ((target > 0).to(output.dtype) * 2 - 1).view_as(output)
        if target.shape == output.shape[:1] + output.shape[2:]:
            return one_hot(target.long(), output.shape[1]).movedim(-1, 1).to(output.dtype)
    raise _unlike(output, target)


def _unlike(output: Tensor, target: Tensor) -> InputError:
    return InputError(
        f"can't compare outputs of shape {list(output.shape)} with targets of shape "
        f"{list(target.shape)}: pass target=function(module, batch, output) to the callback, or "
        "a function that returns None where there is no target"
    )
