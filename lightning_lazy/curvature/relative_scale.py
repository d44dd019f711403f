"""The inverse relative scale κ: whether a net is about to train lazily, from its start alone."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import vjp

from lightning_lazy.checks import check_number, check_size
from lightning_lazy.curvature.functional import Parameters, directional_derivative
from lightning_lazy.curvature.plain_norms import PlainNorms
from lightning_lazy.curvature.vectors import Reduce, as_dict, as_vector, identity, random_unit
from lightning_lazy.errors import InputError

Function = Callable[[Parameters, Any], Tensor]


@dataclass(frozen=True)
class RelativeScale:
    """The inverse relative scale of a model and what it is made of, Euclidean and operator norms.

    Attributes:
        kappa: κ, see `relative_scale`; infinite where Dh(w) = 0.
        distance: ‖h(w) − y*‖.
        differential: ‖Dh(w)‖, from below.
        differential_error: A singular value of Dh(w) lies within this of ``differential``, the
            largest but for an unlucky start.
        second: ‖D²h(w)‖, from below: the largest of ``second_values``.
        second_values: What the starts reached, first that from the top right singular vector of
            Dh(w), then the random ones. Their spread is the error bar of ``second``.
        iterations: Passes over the batches that all norms took together.
        converged: Whether every residual fell below the tolerance.
    """

    kappa: float
    distance: float
    differential: float
    differential_error: float
    second: float
    second_values: tuple[float, ...]
    iterations: int
    converged: bool


@dataclass(frozen=True)
class _Ascent:
    """How a power iteration ended: the value reached, the residual there, the passes it took."""

    value: float
    residual: float
    iterations: int
    converged: bool


@torch.no_grad()
def relative_scale(
    function: Function,
    parameters: Parameters,
    batches: Sequence[Any],
    targets: Sequence[Tensor],
    *,
    starts: int = 8,
    iterations: int = 100,
    tolerance: float = 1e-2,
    seed: int = 0,
    reduce: Reduce = identity,
) -> RelativeScale:
    r"""Return the inverse relative scale of a model at given parameters.

    .. math:: \kappa_h(w) = \|h(w) - y^*\| \, \frac{\|D^2 h(w)\|}{\|Dh(w)\|^2}

    (Chizat, Oyallon & Bach 2019, equation 1.) Training by the squared loss is lazy where κ ≪ 1, and
    κ of αh falls like 1/α where h(w) = 0. κ does not change when the norm of the outputs is
    multiplied by a constant, such as 1/√n for a mean over n samples; sums are used here.

    No Jacobian is formed; some six vectors of the size of w are held. ‖Dh‖ comes from power steps
    on DhᵀDh. As H_z = D²⟨z, h⟩ is symmetric,

    .. math:: \|D^2h\| = \sup_{z, u, v} \langle z, D^2h[u, v] \rangle = \sup_z \|H_z\|
              = \sup_{z, u} |\langle u, H_z u \rangle| = \sup_u \|D^2h[u, u]\|

    over unit vectors, so u = v suffices at the top. On the way there the two are kept apart: the
    trilinear form is maximised over z, then u, then z, then v, and so on, each time exactly (the
    higher-order power method, De Lathauwer, De Moor & Vandewalle 2000). So the value never falls,
    for an indefinite H_z either, without a shift that would slow it down. It may end in a local
    maximum, of which a net with two layers can have one for every hidden unit; hence the starts.

    Of nets with kinks (ReLU, max pooling) D²h is that of the smooth piece around w: what happens
    beyond its kinks is not seen. A linear net has κ = 0.

    Args:
        function: ``function(w, batch)`` gives h(w) on a batch, shape ``[n, ...]``; for a module
            `ModelFunction.at`. It must be deterministic.
        parameters: w by name, floating point, on one device. All is computed in their type.
        batches: Micro-batches of inputs; the memory needed is that of one. With BatchNorm in
            training mode they are part of the definition of h.
        targets: y* on every batch, in the shape of the outputs.
        starts: Random starts for ‖D²h‖, beside the top right singular vector of Dh.
        iterations: Largest number of passes over the batches for ‖Dh‖, and for ‖D²h‖ from each
            start. One costs some 5 forward passes for ‖Dh‖, some 10 for ‖D²h‖.
        tolerance: Residual, relative to the norm, at which an iteration stops.
        seed: Of the starts, which are drawn on the CPU from a generator of their own.
        reduce: Adds a tensor up over all processes. Each then passes batches of its own, maybe
            none, and gets the result of their union.

    Raises:
        InputError: There are no parameters or no samples, batches and targets do not fit, or a
            number is out of range.
    """
    check_size("starts", starts)
    check_size("iterations", iterations)
    tolerance = check_number("tolerance", tolerance)
    if not parameters:
        raise InputError("parameters must not be empty, got none; pass those that are trained")
    at = {name: p.detach() for name, p in parameters.items()}
    distance = _distance(function, at, batches, targets, reduce)

    def first_step(u: Tensor, _: Tensor) -> tuple[Tensor, float]:
        return _normal_product(function, at, u, batches, reduce)

    def second_step(u: Tensor, v: Tensor) -> tuple[Tensor, float]:
        slope = _derivative(function, as_dict(v, at))
        with PlainNorms():
            return _normal_product(slope, at, u, batches, reduce)

    generator = torch.Generator().manual_seed(seed)
    like = as_vector(at)
    first, start = _ascend(first_step, random_unit(like, generator), False, iterations, tolerance)
    seconds = []
    for _ in range(starts + 1):
        seconds.append(_ascend(second_step, start, True, iterations, tolerance)[0])
        start = random_unit(like, generator)
    values = tuple(ascent.value for ascent in seconds)
    second = max(values)
    return RelativeScale(
        kappa=distance * second / first.value**2 if first.value else math.inf,
        distance=distance,
        differential=first.value,
        differential_error=first.residual / math.sqrt(2),
        second=second,
        second_values=values,
        iterations=sum(ascent.iterations for ascent in (first, *seconds)),
        converged=all(ascent.converged for ascent in (first, *seconds)),
    )


def _distance(
    function: Function,
    at: Parameters,
    batches: Sequence[Any],
    targets: Sequence[Tensor],
    reduce: Reduce,
) -> float:
    """Return ‖h(w) − y*‖ over all batches and processes."""
    if len(batches) != len(targets):
        raise InputError(
            f"expected a target for each of {len(batches)} batches, got {len(targets)}; pass as "
            "many targets as batches"
        )
    square, samples = _zero(at), _zero(at)
    for batch, target in zip(batches, targets, strict=True):
        output = function(at, batch)
        if target.shape != output.shape:
            raise InputError(
                f"targets must have the shape of the outputs {list(output.shape)}, got "
                f"{list(target.shape)}; reshape or encode them"
            )
        square += (output - target).double().square().sum()
        samples += len(output)
    if not reduce(samples):
        raise InputError("batches must hold at least one sample, got none; pass some inputs")
    return float(reduce(square).sqrt())


def _ascend(
    step: Callable[[Tensor, Tensor], tuple[Tensor, float]],
    start: Tensor,
    alternate: bool,
    iterations: int,
    tolerance: float,
) -> tuple[_Ascent, Tensor]:
    """Maximise ‖A u‖ over unit u, or ‖A_v u‖ = ‖A_u v‖ over unit u and v, by power steps.

    Args:
        step: ``step(u, v)`` gives AᵀA u and ‖A u‖.
        start: The first u, and v.
        alternate: Whether A depends on v: then u and v take turns.
        iterations: Largest number of steps.
        tolerance: Stop where ‖Aᵀz − ‖A u‖ u‖ ≤ tolerance ‖A u‖, with z = A u/‖A u‖.

    Returns:
        How it ended, and the last u.
    """
    u = v = start
    value = residual = math.nan
    taken = 0
    while taken < iterations:
        taken += 1
        product, value = step(u, v)
        product = product / value if value else product
        residual = _norm(product - value * u)
        if not residual > tolerance * value:
            break
        new = product / _norm(product)
        u, v = (v, new) if alternate else (new, new)
    return _Ascent(value, residual, taken, residual <= tolerance * value), u


def _normal_product(
    function: Function, at: Parameters, u: Tensor, batches: Sequence[Any], reduce: Reduce
) -> tuple[Tensor, float]:
    """Return AᵀA u and ‖A u‖ for A = D function(w), over all batches and processes."""
    direction = as_dict(u, at)
    product, square = torch.zeros_like(u), _zero(at)
    for batch in batches:
        output = _on(function, batch)
        _, change = directional_derivative(output, at, direction)
        _, pull_back = vjp(output, at)  # type: ignore[misc]
        product += as_vector(pull_back(change)[0])
        square += change.double().square().sum()
    return reduce(product), float(reduce(square).sqrt())


def _derivative(function: Function, direction: Parameters) -> Function:
    """Return w ↦ D function(w)[direction], whose derivative along u is D² function(w)[u, ·]."""

    def derivative(w: Parameters, batch: Any) -> Tensor:
        return directional_derivative(_on(function, batch), w, direction)[1]

    return derivative


def _on(function: Function, batch: Any) -> Callable[[Parameters], Tensor]:
    return lambda w: function(w, batch)


def _norm(vector: Tensor) -> float:
    return float(vector.double().norm())


def _zero(at: Parameters) -> Tensor:
    return torch.zeros((), dtype=torch.float64, device=next(iter(at.values())).device)
