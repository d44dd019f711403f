"""The empirical neural tangent kernel of any net."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lightning_lazy.checks import check_choice
from lightning_lazy.curvature.contractions import Outputs
from lightning_lazy.curvature.grouped_kernel import GroupedKernel
from lightning_lazy.curvature.sample_jacobians import Function, warn_slower
from lightning_lazy.errors import InputError

Route = Literal["auto", "layers", "jacobian", "products"]


def tangent_kernel(
    function: Function,
    parameters: Mapping[str, Tensor],
    batches: Sequence[Any],
    others: Sequence[Any] | None = None,
    *,
    outputs: Outputs = "full",
    route: Route = "auto",
) -> Tensor:
    r"""Return the empirical neural tangent kernel of a model h at parameters w.

    .. math:: \Theta_{ip,jq} = \langle \nabla_w h_p(w, x_i), \nabla_w h_q(w, x_j) \rangle

    (Jacot, Gabriel & Hongler 2018), or its sum over p = q. It is the sum of the kernels of groups
    of parameters, and each group takes the cheapest way (Novak, Sohl-Dickstein & Schoenholz 2022):

    - ``layers``: weights and biases of linear, 1d and 2d convolutional and normalisation layers
      (the latter without batch statistics), which enter through the layer's functional of torch
      once, as they are or times a number, in any code. One backward pass an output gives the
      derivatives in the layers' outputs. A layer then keeps its per-sample weight gradients or, if
      that takes fewer multiplications, these derivatives and its inputs, whose Gram matrices make
      up the kernel: so in linear layers, and in convolutions with few places.
    - ``jacobian``: everything else, by products of per-sample Jacobians.
    - ``products``: the same column by column, Θ e = J (Jᵀ e), where that takes fewer operations
      (many outputs, or more parameters than operations), or a Jacobian is too large to be held.

    That the layers' way applies is proved for the batch at hand and never assumed: the graph of
    derivatives must reach a parameter through its layer alone, and the outputs of a sample must
    have derivatives of exactly zero in what the layer puts out for other samples. Where samples
    depend on one another, as with batch statistics, the batches are part of the definition of h,
    and it costs as many backward passes over a batch as that has outputs.

    Args:
        function: ``function(w, batch)`` gives h(w) on a batch, shape ``[n, o]`` (or ``[n]``: then
            o = 1); for a module `ModelFunction.at`. It must be deterministic, and the samples must
            stand along the first axis of the tensors of a batch.
        parameters: w by name, floating point, on one device. All is computed in their type.
        batches: Micro-batches of inputs.
        others: Batches of the columns' samples; ``None``: the same.
        outputs: ``full``, or ``sum``: summed over outputs p = q.
        route: ``auto``, or one way for all parameters.

    Returns:
        The kernel, in the type of the parameters. ``full``: shape ``(n·o, m·o)``, all outputs of
        a sample one after the other; ``sum``: shape ``(n, m)``.

    Raises:
        InputError: There are no parameters or samples, outputs do not fit, or ``route="layers"``
            can't cover all parameters.
    """
    check_choice("outputs", outputs, get_args(Outputs))
    check_choice("route", route, get_args(Route))
    if not parameters:
        raise InputError("parameters must not be empty, got none; pass those that are trained")
    at = {name: p.detach().requires_grad_() for name, p in parameters.items()}
    with torch.enable_grad():
        kernel = GroupedKernel(function, at, batches, others, outputs)
        rest = _not_in_layers(kernel, route)
        if rest and (
            route == "products" or (route != "jacobian" and kernel.favours_products(rest))
        ):
            kernel.add_products(rest)
        elif rest:
            kernel.add_jacobians(rest)
    return kernel.matrix()


def _not_in_layers(kernel: GroupedKernel, route: Route) -> list[str]:
    """Add what goes by layers; return the names of the other parameters."""
    if route not in ("auto", "layers"):
        return list(kernel.at)
    try:
        rest = kernel.add_layers()
    except RuntimeError as error:  # as of checkpointed parts, which run again in a backward pass
        if route == "layers":
            raise
        warn_slower("the kernel can't go by the net's layers", error)
        kernel.total.zero_()
        return list(kernel.at)
    if route == "layers" and rest:
        raise InputError(
            f"route='layers' can't cover the parameters {', '.join(rest)}; use route='auto'"
        )
    return rest
