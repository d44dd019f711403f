"""Ways to differentiate a loss twice along a direction."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, jvp, linearize
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from lightning_lazy.curvature.functional import Parameters
from lightning_lazy.curvature.vectors import as_vector
from lightning_lazy.errors import InputError

Loss = Callable[[Parameters, Any], Tensor]
Product = Callable[[Parameters], Tensor]


def leaves_at(at: Parameters) -> Parameters:
    """Return parameters that a graph may start from."""
    return {name: p.detach().requires_grad_() for name, p in at.items()}


def gradient_at(loss: Loss, leaves: Parameters, batch: Any, create_graph: bool) -> Parameters:
    """Return the gradient of a loss of a batch, in the parameters ``leaves``."""
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


def kept_graph(loss: Loss, at: Parameters, batch: Any, check: bool = True) -> Callable[..., Tensor]:
    """Return v ↦ ∇⟨∇ℓ, v⟩ on the graph of ∇ℓ, which is kept unless asked otherwise."""
    leaves = leaves_at(at)
    gradient = gradient_at(loss, leaves, batch, create_graph=True)
    # Gradients in parameters that the loss is linear in may be constants.
    curved = {name: part for name, part in gradient.items() if part.requires_grad}
    if check:
        _refuse_cut_graph(list(curved.values()))

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


def _refuse_cut_graph(gradients: list[Tensor]) -> None:
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


def forward_over_reverse(loss: Loss, at: Parameters, batch: Any, direction: Parameters) -> Tensor:
    """Return the product, as the directional derivative of the gradient."""
    return as_vector(jvp(_gradient_function(loss, batch), (at,), (direction,))[1])  # type: ignore[misc]


def linearized(loss: Loss, at: Parameters, batch: Any) -> Product:
    """Return v ↦ the product, from a linearisation of the gradient that is built once."""
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
def one_line_errors() -> Iterator[None]:
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
