"""Products with the Hessian of a loss."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.func import grad, jvp, linearize
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from lightning_lazy.checks import check_choice
from lightning_lazy.curvature.functional import Parameters
from lightning_lazy.curvature.micro_batches import MicroBatchOperator
from lightning_lazy.curvature.vectors import Reduce, as_vector, identity
from lightning_lazy.errors import InputError

Loss = Callable[[Parameters, Any], Tensor]
Route = Literal["auto", "reverse", "kept_graph", "forward_over_reverse", "linearize"]
Product = Callable[[Parameters], Tensor]


class HessianOperator(MicroBatchOperator):
    r"""The Hessian H of a loss that is a weighted mean over micro-batches, as a linear operator.

    .. math:: L(w) = \sum_b c_b \, \ell(w, b), \qquad v \mapsto \nabla^2 L(w) \, v

    Exact but for rounding; of nets with kinks (ReLU, max pooling) that of the smooth piece around
    w. Parameters that ℓ does not depend on have rows of zeros.

    Args:
        loss: ``loss(parameters, batch)`` gives ℓ, a scalar: a mean over the samples of a
            micro-batch. It must be deterministic. For a module use `torch.func.functional_call`
            or `ModelFunction.at`.
        parameters: w by name, of one floating type on one device; copied. Flat vectors hold them
            in the order of the dictionary.
        batches: Micro-batches, which bound the memory (`split_batch`). With BatchNorm in training
            mode they are part of the definition of L.
        weights: c; ``None``: equal weights that add up to 1. For a mean over all samples pass the
            share of the samples in each micro-batch.
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
        route: Route = "auto",
        reduce: Reduce = identity,
    ) -> None:
        check_choice("route", route, get_args(Route))
        super().__init__(parameters, batches, weights, reduce)
        if route == "auto":
            route = "kept_graph" if len(batches) <= 1 else "reverse"
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
            leaves = _leaves(self._at)
            gradient = _gradient(self._loss, leaves, batch, create_graph=False)
            total.add_(as_vector(gradient), alpha=weight)
        return self._reduce(total)

    def _product(self, number: int, direction: Parameters) -> Tensor:
        with torch.enable_grad(), _one_line_errors():
            if number in self._kept:
                return self._kept[number](direction)
            batch = self._batches[number]
            if self.route == "forward_over_reverse":
                return _forward_over_reverse(self._loss, self._at, batch, direction)
            if self.route == "reverse":
                check = self.products == 1
                return _kept_graph(self._loss, self._at, batch, check)(direction, keep=False)
            build = _kept_graph if self.route == "kept_graph" else _linearized
            self._kept[number] = build(self._loss, self._at, batch)
            return self._kept[number](direction)


def _leaves(at: Parameters) -> Parameters:
    return {name: p.detach().requires_grad_() for name, p in at.items()}


def _gradient(loss: Loss, leaves: Parameters, batch: Any, create_graph: bool) -> Parameters:
    with torch.enable_grad():
        value = _scalar(loss(leaves, batch))
        if not value.requires_grad:
            raise InputError(
                "the loss must depend on the parameters that it is given, got one that does not; "
                "compute it from them, without no_grad or detach"
            )
        parts = torch.autograd.grad(
            value, list(leaves.values()), create_graph=create_graph, materialize_grads=True
        )
    return dict(zip(leaves, parts, strict=True))


def _scalar(value: Tensor) -> Tensor:
    if value.numel() != 1:
        raise InputError(
            f"the loss must be a scalar, got shape {list(value.shape)}; average it over the samples"
        )
    return value.reshape(())


def _kept_graph(
    loss: Loss, at: Parameters, batch: Any, check: bool = True
) -> Callable[..., Tensor]:
    """Return v ↦ ∇⟨∇ℓ, v⟩ on the graph of ∇ℓ, which is kept unless asked otherwise."""
    leaves = _leaves(at)
    gradient = _gradient(loss, leaves, batch, create_graph=True)
    # Gradients in parameters that the loss is linear in may be constants.
    curved = {name: part for name, part in gradient.items() if part.requires_grad}
    if check:
        _check_graph(list(curved.values()))

    def product(direction: Parameters, keep: bool = True) -> Tensor:
        if not curved:
            return torch.zeros_like(as_vector(at))
        parts = torch.autograd.grad(
            list(curved.values()),
            list(leaves.values()),
            [direction[name] for name in curved],
            retain_graph=keep,
            materialize_grads=True,
        )
        return as_vector(dict(zip(leaves, parts, strict=True)))

    return product


def _check_graph(gradients: list[Tensor]) -> None:
    """Refuse a graph that is cut where a function can be differentiated only once.

    Behind the cut, where torch leaves a node that is an error, a product would silently be zero.
    """
    waiting = [gradient.grad_fn for gradient in gradients]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        if node is None:
            continue
        if node.name() == "torch::autograd::Error":
            raise RuntimeError("a function of the net is marked with once_differentiable")
        new = {following for following, _ in node.next_functions} - seen
        seen |= new
        waiting += new


def _forward_over_reverse(loss: Loss, at: Parameters, batch: Any, direction: Parameters) -> Tensor:
    return as_vector(jvp(_gradient_function(loss, batch), (at,), (direction,))[1])  # type: ignore[misc]


def _linearized(loss: Loss, at: Parameters, batch: Any) -> Product:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.fx's, of its own graphs
        _, product = linearize(_gradient_function(loss, batch), at)
    return lambda direction: as_vector(product(direction))


def _gradient_function(loss: Loss, batch: Any) -> Callable[[Parameters], Parameters]:
    def value(w: Parameters) -> Tensor:
        with _PlainSquaredError():
            return _scalar(loss(w, batch))

    return grad(value)


class _PlainSquaredError(TorchFunctionMode):
    """Computes `mse_loss` from elementary operations.

    Forward-mode differentiation of its own backward pass fails (pytorch issue 123996) and, when it
    is traced, ends the process.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = {key: value for key, value in (kwargs or {}).items() if value is not None}
        if func is not F.mse_loss or len(args) != 2 or options.keys() - {"reduction"}:
            return func(*args, **(kwargs or {}))
        squares = (args[0] - args[1]).square()
        reduction = options.get("reduction", "mean")
        return squares if reduction == "none" else getattr(squares, reduction)()


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn torch's errors about operations without the derivatives needed into one clear line."""
    signs = ("not implemented", "not been implemented", "once_differentiable", "double backward")
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        if not any(sign in str(error) for sign in (*signs, "setup_context")):
            raise
        raise InputError(
            f"the loss can't be differentiated twice ({reason}); replace that operation, such as "
            "fused attention by sdpa_kernel(SDPBackend.MATH) and compiled modules by eager ones, "
            "or try another route"
        ) from error
