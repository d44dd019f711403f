"""What a net has learnt of the patterns P and Q of Li, Wei & Ma 2019."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

COMPONENTS = ("p_only", "q_only", "both")
"""Kinds of examples: x₂ = 0; x₁ = 0; neither."""


def components(x1: Tensor, x2: Tensor) -> Tensor:
    """Return the kind of each example, the place of its name in `COMPONENTS`.

    Args:
        x1: The P part of the inputs, shape (n, d).
        x2: The Q part, shape (n, d').

    Returns:
        int64 of shape (n,).
    """
    has_p, has_q = (x1 != 0).any(1), (x2 != 0).any(1)
    return torch.where(has_q, torch.where(has_p, 2, 1), 0)


def logistic_losses(output: Tensor, labels: Tensor) -> Tensor:
    """Return ℓ = log(1 + e^{−yf}) of each example, shape (n,), for labels ±1 and f of (n,)."""
    return F.softplus(-labels.to(output.dtype) * output, 1.0, 50.0)


def accumulate(past: Tensor, gradient: Tensor, *, lr: float, l2: float) -> Tensor:
    """Return (1 − ηλ)·past − η·gradient: the signal Ū, one update later.

    Started at 0 with ∇L̂(U_t) it is Ū_t of equation 3.4, and with the gradient of some examples,
    divided by N, their share in it: up to the sign W̄^(2) of equation 5.1. Started at U₀ with the
    noise ξ_t it is the noise part Ũ_t.
    """
    return (1 - lr * l2) * past - lr * gradient


def hidden_gradient(hidden: Tensor, output: Tensor, x: Tensor, labels: Tensor) -> Tensor:
    """Return ∇_U Σ_i ℓ(f(x_i), y_i) of f = u·relu(U x) with the logistic loss, shape (m, d).

    Args:
        hidden: U, shape (m, d).
        output: u, shape (m,).
        x: Shape (n, d).
        labels: ±1, shape (n,).
    """
    before = x @ hidden.T
    y = labels.to(x.dtype)
    slopes = -y * torch.sigmoid(-y * (before.relu() @ output))
    return ((before > 0) * output * slopes.unsqueeze(1)).T @ x


def second_difference(g: Callable[[Tensor], Tensor], z: Tensor, zeta: Tensor) -> float:
    """Return |g(z + ζ) + g(z − ζ) − 2 g(z)|, what tells the labels of Q apart (Lemma 4.2).

    A function that is linear between the three directions can't classify them.

    Args:
        g: Maps inputs of shape (3, d') to outputs of 3 numbers.
        z: Shape (d',).
        zeta: ζ, shape (d',).
    """
    plus, minus, middle = g(torch.stack([z + zeta, z - zeta, z])).reshape(3).unbind()
    return float((plus + minus - 2 * middle).abs())


class Margin(NamedTuple):
    """What r(x₁) − r(−x₁) = 2⟨α, x₁⟩ + rest is made of (Lemma 5.3).

    Attributes:
        alpha: ‖α‖₂, α in the span of given inputs.
        rest: Root mean square of the rest over x₁ ~ N(0, I/d).
    """

    alpha: float
    rest: float


def margin_direction(hidden: Tensor, output: Tensor, second_moment: Tensor) -> Margin:
    r"""Split the odd part of a ReLU net by the span of some inputs.

    .. math:: r(x) - r(-x) = \langle W^\top w, x \rangle

    since relu(a) − relu(−a) = a. α is half the projection of Wᵀw onto the span.

    Args:
        hidden: W, shape (m, d).
        output: w, shape (m,).
        second_moment: Σ x xᵀ over the inputs that span, shape (d, d).
    """
    odd = output @ hidden
    inside = span_projector(second_moment.to(odd)) @ odd
    rest = (odd - inside).norm() / math.sqrt(len(odd))
    return Margin(float(inside.norm()) / 2, float(rest))


def span_projector(second_moment: Tensor) -> Tensor:
    """Return the projector onto the range of Σ x xᵀ, shape (d, d), by its eigenvectors."""
    values, vectors = torch.linalg.eigh(second_moment)
    limit = values[-1] * len(values) * torch.finfo(values.dtype).eps
    kept = vectors[:, values > limit]
    return kept @ kept.T
