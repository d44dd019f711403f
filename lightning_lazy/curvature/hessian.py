"""Products with the Hessian of a loss."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lightning_lazy.checks import check_choice
from lightning_lazy.curvature.functional import Parameters
from lightning_lazy.curvature.hessian_routes import (
    Loss,
    Product,
    forward_over_reverse,
    gradient_at,
    kept_graph,
    leaves_at,
    linearized,
    one_line_errors,
)
from lightning_lazy.curvature.micro_batches import MicroBatchOperator
from lightning_lazy.curvature.vectors import Reduce, as_vector, identity

Route = Literal["auto", "reverse", "kept_graph", "forward_over_reverse", "linearize"]


class HessianOperator(MicroBatchOperator):
    r"""The Hessian H of a loss that is a weighted mean over micro-batches, as a linear operator.

    .. math:: L(w) = \sum_b c_b \, \ell(w, b), \qquad v \mapsto \nabla^2 L(w) \, v

    Exact but for rounding; of nets with kinks (ReLU, max pooling) that of the smooth piece around
    w. Parameters that ℓ does not depend on have rows of zeros.

    Args:
        loss: ``loss(parameters, batch)`` gives ℓ, a scalar: a mean over the samples of a
            micro-batch. It must be deterministic. For the loss of a module see `ModuleHessian`.
        parameters: w by name, of one floating type on one device; copied. Flat vectors hold them
            in the order of the dictionary.
        batches: b. With BatchNorm in training mode they are part of the definition of L.
        weights: c; ``None``: equal weights that add up to 1. For a mean over all samples pass the
            share of the samples in each batch.
        max_examples_at_once: Bounds the memory: batches with more examples are split into
            micro-batches of at most so many, of which the loss is the mean. ``None``: they are
            taken as they are.
        route: How products are computed; in brackets time and peak memory of a product in units
            of a training step's, for a VGG-like net on 250 images (`benchmarks/curvature.py`):

            - ``reverse``: ∇⟨∇ℓ, v⟩ from scratch for every product [2.7, 2.1].
            - ``kept_graph``: the same, the graph of ∇ℓ kept for all micro-batches [1.8, 2.4].
            - ``forward_over_reverse``: the directional derivative of ∇ℓ [2.8, 3.7].
            - ``linearize``: `torch.func.linearize` of ∇ℓ once, which takes as long as some three
              to six products, for all micro-batches [1.7, 7.6]. It traces the loss with the present
              batch, which not every operation allows.
            - ``auto``: ``kept_graph`` for one micro-batch, else ``reverse``, whose memory is that
              of one micro-batch however many there are.
        reduce: Adds a tensor up over all processes. Each then passes batches of its own, maybe
            none, and gets the products of their union; ``weights`` add up to 1 over all.

    Raises:
        InputError: Parameters, weights or the route are not as above; in products, the loss is not
            a scalar that depends on the parameters, or can't be differentiated twice.
    """

    def __init__(
        self,
        loss: Loss,
        parameters: Parameters,
        batches: Sequence[Any],
        *,
        weights: Sequence[float] | None = None,
        max_examples_at_once: int | None = None,
        route: Route = "auto",
        reduce: Reduce = identity,
    ) -> None:
        check_choice("route", route, get_args(Route))
        super().__init__(parameters, batches, weights, max_examples_at_once, reduce)
        if route == "auto":
            route = "kept_graph" if len(self._batches) <= 1 else "reverse"
        self.route = route
        self._loss = loss
        self._kept: dict[int, Product] = {}

    def value(self) -> Tensor:
        """Return L(w)."""
        total = torch.zeros((), device=self.device, dtype=self.dtype)
        with torch.no_grad():
            for weight, batch in zip(self._weights, self._batches, strict=True):
                total += weight * self._loss(self._at, batch)
        return self._reduce(total)

    def gradient(self) -> Tensor:
        """Return ∇L(w), flat."""
        total = torch.zeros(self.dim, device=self.device, dtype=self.dtype)
        for weight, batch in zip(self._weights, self._batches, strict=True):
            leaves = leaves_at(self._at)
            gradient = gradient_at(self._loss, leaves, batch, create_graph=False)
            total.add_(as_vector(gradient), alpha=weight)
        return self._reduce(total)

    def _product(self, number: int, direction: Parameters) -> Tensor:
        with torch.enable_grad(), one_line_errors():
            if number in self._kept:
                return self._kept[number](direction)
            batch = self._batches[number]
            if self.route == "forward_over_reverse":
                return forward_over_reverse(self._loss, self._at, batch, direction)
            if self.route == "reverse":
                check = self.products == 1
                return kept_graph(self._loss, self._at, batch, check)(direction, keep=False)
            build = kept_graph if self.route == "kept_graph" else linearized
            self._kept[number] = build(self._loss, self._at, batch)
            return self._kept[number](direction)
