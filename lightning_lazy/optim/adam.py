"""Adam whose second moment is that of the gradient times the output scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_lazy.errors import InputError
from lightning_lazy.optim.base import FoldedOptimizer, Params, check_range


class ScaledAdam(FoldedOptimizer):
    """The α-folded Adam, after Kanoh & Sugiyama 2021, §2.

    With G the gradient of the minimised loss ℓ/α², which falls like 1/α,

        m ← β₁ m + (1 - β₁) G,    v ← β₂ v + (1 - β₂) (α G)²,
        θ ← θ - η m̂ / (√v̂ + ε),    m̂ = m/(1 - β₁ᵗ),    v̂ = v/(1 - β₂ᵗ),    m₀ = v₀ = 0,

    the first moment that of G, the second that of α G. So it is the plain Adam with the rate η/α on
    gradients α G. At α = 1 the steps are those of `torch.optim.Adam` to the last bit. There is no
    weight decay: L2 belongs into the loss.

    In float32, α² must stay clear of overflow: α between 1e-15 and 1e15.

    Args:
        params: parameters or parameter groups; every option can be set for a group.
        lr: η, at least 0.
        alpha: α, the output scale of the model, above 0.
        betas: (β₁, β₂), each in [0, 1).
        eps: ε, at least 0.
        foreach: False to update one tensor after the other, which needs less memory at the peak;
            None or True for all tensors of a group at once. The numbers are the same.

    Raises:
        InputError: an option out of range.
    """

    def __init__(
        self,
        params: Params,
        lr: float,
        *,
        alpha: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        foreach: bool | None = None,
    ) -> None:
        defaults = {"lr": lr, "alpha": alpha, "betas": betas, "eps": eps, "foreach": foreach}
        super().__init__(params, defaults)

    def _check(self, group: dict[str, Any]) -> None:
        if not isinstance(group["betas"], Sequence) or len(group["betas"]) != 2:
            raise InputError(f"betas must be two numbers, got {group['betas']!r}; pass (β₁, β₂)")
        # A plain tuple: configs pass lists of their own kind, which no checkpoint could hold.
        group["betas"] = tuple(check_range("betas", beta, 0, 1) for beta in group["betas"])

    def _update(self, params: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> None:
        states = [self._state(param) for param in params]
        first = [state["exp_avg"] for state in states]
        second = [state["exp_avg_sq"] for state in states]
        beta1, beta2 = group["betas"]
        for state in states:
            state["step"] += 1
        # Parameters that had no gradient at times have taken fewer steps than others.
        sizes = [-group["lr"] / (1 - beta1 ** state["step"]) for state in states]
        roots = [(1 - beta2 ** state["step"]) ** 0.5 for state in states]
        torch._foreach_lerp_(first, grads, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, grads, grads, value=(1 - beta2) * group["alpha"] ** 2)
        scale = torch._foreach_sqrt(second)
        torch._foreach_div_(scale, roots)
        torch._foreach_add_(scale, group["eps"])
        torch._foreach_addcdiv_(params, first, scale, sizes)

    def _state(self, param: Tensor) -> dict[str, Any]:
        state = self.state[param]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(param)
            state["exp_avg_sq"] = torch.zeros_like(param)
        return state
