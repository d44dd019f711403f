"""From the losses and the kernel of a run to the phase of its learning rate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple

from lightning_lazy.checks import check_number
from lightning_lazy.errors import InputError

PhaseName = Literal["lazy", "catapult", "divergent", "none"]
Kernel = Literal["ntk", "hessian"]

_TAIL = 0.1
"""Share of a run, at its end, over which the loss of a converged one is flat."""
_ROUNDING = 1e-6
"""Relative difference of losses in single precision that never moved."""


@dataclass(frozen=True)
class Phase:
    """The phase that gradient descent was in, and why.

    Attributes:
        verdict: ``lazy``, ``catapult``, ``divergent`` or ``none`` of them.
        reason: The evidence that decided, in words.
        rise: Largest rise of the loss above its running minimum, in units of the first loss.
        first_loss: Loss before the first update.
        peak_loss: Largest loss.
        last_loss: Last loss.
        converged: Whether the loss is flat at the end, and the last gradient small if known.
        kernel: λ of what: ``ntk`` or, in its place, ``hessian``.
        kernel_start: λ₀, the top eigenvalue at the start.
        kernel_end: The top eigenvalue at the end: the final flatness, the lower the flatter.
        kernel_ratio: λ_end/λ₀.
        lr_times_start: η λ₀. A quadratic loss rises where η times the top eigenvalue of its
            Hessian is above 2.
        lr_times_end: η λ_end.
    """

    verdict: PhaseName
    reason: str
    rise: float
    first_loss: float
    peak_loss: float
    last_loss: float
    converged: bool
    kernel: Kernel
    kernel_start: float
    kernel_end: float
    kernel_ratio: float
    lr_times_start: float
    lr_times_end: float


def judge_phase(
    losses: Sequence[float],
    kernel_start: float,
    kernel_end: float,
    lr: float,
    *,
    kernel: Kernel = "ntk",
    last_gain: float | None = None,
    loss_tolerance: float = 1e-3,
    kernel_tolerance: float = 0.05,
) -> Phase:
    """Return the phase of a run of gradient descent (after Huang, Du, Xu & Liu 2020).

    With λ the top eigenvalue of the tangent kernel,

    - ``divergent``: the loss is not finite or ends above where it began, by more than rounding;
    - ``lazy``: after the first step the loss never rises above its running minimum, and λ stays;
    - ``catapult``: the loss converges after it rose, or λ dropped (a start above the two-cycle of
      the logistic loss drops λ without a rise), and λ did not grow;
    - ``none``: all else, such as a cycle below the first loss, a loss that rose and has not come to
      rest, or a kernel that grows, as on separable data.

    A cycle between points of equal loss, as degenerate data have, shows in ``last_gain`` alone.

    Args:
        losses: The loss before each update, in order; rises are told in units of the first.
        kernel_start: λ₀.
        kernel_end: λ at the end; not a number where it could not be measured.
        lr: η.
        kernel: Whose eigenvalue λ is. With ``hessian``, which falls with the loss in every phase,
            a drop counts only where ηλ₀ > 2.
        last_gain: η‖∇L‖², what the last update would gain to first order; ``None``: not known.
        loss_tolerance: Rise, and change at the end, that count as none.
        kernel_tolerance: Relative change of λ that counts as none.

    Raises:
        InputError: There are fewer than two losses, or a number is out of range.

    Examples:
        >>> judge_phase([1.0, 3.0, 0.5, 0.1, 0.1, 0.1], 4.0, 1.5, lr=1.0).verdict
        'catapult'
    """
    if len(losses) < 2:
        raise InputError(f"losses must be two or more, got {len(losses)}; train for more steps")
    tolerance = check_number("loss_tolerance", loss_tolerance)
    change = check_number("kernel_tolerance", kernel_tolerance)
    unit = abs(losses[0]) or 1.0
    rise = _largest_rise(losses) / unit
    tail = losses[-max(2, math.ceil(_TAIL * len(losses))) :]
    ratio = kernel_end / kernel_start if kernel_start else math.nan
    finite = all(map(math.isfinite, losses))
    counts = kernel == "ntk" or lr * kernel_start > 2
    signs = _Signs(
        finite=finite,
        above=losses[-1] - losses[0] > _ROUNDING * unit,
        rose=not rise <= tolerance,
        flat=finite and max(tail) - min(tail) <= tolerance * unit,
        moving=last_gain is not None and not last_gain <= tolerance * unit,
        kernel=_kernel_sign(ratio, change, counts),
    )
    verdict, reason = _decide(signs)
    return Phase(
        verdict=verdict,
        reason=reason,
        rise=rise,
        first_loss=losses[0],
        peak_loss=max((loss for loss in losses if not math.isnan(loss)), default=math.nan),
        last_loss=losses[-1],
        converged=signs.flat and not signs.moving,
        kernel=kernel,
        kernel_start=kernel_start,
        kernel_end=kernel_end,
        kernel_ratio=ratio,
        lr_times_start=lr * kernel_start,
        lr_times_end=lr * kernel_end,
    )


_KernelSign = Literal[
    "stayed", "dropped", "grew", "is not known", "dropped as the loss did, lr·λ₀ being below 2"
]


class _Signs(NamedTuple):
    """What the verdict depends on."""

    finite: bool
    above: bool
    rose: bool
    flat: bool
    moving: bool
    kernel: _KernelSign


def _decide(signs: _Signs) -> tuple[PhaseName, str]:
    """Return the verdict and its reason; the order of the cases matters."""
    kernel = f"λ {signs.kernel}"
    if not signs.finite or signs.above:
        end = "ends above where it began" if signs.finite else "is not finite"
        return "divergent", f"the loss {end}"
    if signs.flat and signs.moving:
        return "none", "the loss stands still while the steps go on: a cycle, or a very slow end"
    if not signs.rose and signs.kernel not in ("dropped", "grew", "is not known"):
        return "lazy", f"the loss never rose and {kernel}"
    if signs.kernel in ("grew", "is not known"):
        return "none", kernel
    if not signs.flat or signs.moving:
        return "none", "the loss has not come to rest"
    return "catapult", f"the loss {'rose first' if signs.rose else 'never rose'} and {kernel}"


def _kernel_sign(ratio: float, change: float, counts: bool) -> _KernelSign:
    if math.isnan(ratio):
        return "is not known"
    if ratio >= 1 + change:
        return "grew"
    if ratio > 1 - change:
        return "stayed"
    return "dropped" if counts else "dropped as the loss did, lr·λ₀ being below 2"


def _largest_rise(losses: Sequence[float]) -> float:
    """Return max_{t ≥ 1} (L_t − min_{s < t} L_s), at least 0."""
    lowest = accumulate(losses, min)
    return max(0.0, *(later - low for later, low in zip(losses[1:], lowest, strict=False)))
