"""RMSProp whose second moment is that of the gradient times the output scale."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_lazy.optim.base import FoldedOptimizer, Params, check_range


class ScaledRMSprop(FoldedOptimizer):
    """The α-folded RMSProp, Algorithm 1 of Kanoh & Sugiyama 2021.

    With G the gradient of the minimised loss ℓ/α², which falls like 1/α,

        v ← ρ v + (1 - ρ) (α G)²,    θ ← θ - η G / (√v + ε),    v₀ = 0,

    so that v, and with it the effective rate η/(√v + ε), does not depend on α (equation 10). ε
    stands outside the root as in equation (6); the algorithm as printed has it inside. At α = 1 the
    steps are those of `torch.optim.RMSprop(alpha=rho, eps=eps)` to the last bit. There is no weight
    decay and no momentum: L2 belongs into the loss.

    In float32, α² must stay clear of overflow: α between 1e-15 and 1e15.

    Args:
        params: parameters or parameter groups; every option can be set for a group.
        lr: η, at least 0.
        alpha: α, the output scale of the model (not the smoothing constant, which is `rho`),
            above 0.
        rho: ρ, in [0, 1).
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
        rho: float = 0.999,
        eps: float = 1e-8,
        foreach: bool | None = None,
    ) -> None:
        defaults = {"lr": lr, "alpha": alpha, "rho": rho, "eps": eps, "foreach": foreach}
        super().__init__(params, defaults)

    def _check(self, group: dict[str, Any]) -> None:
        group["rho"] = check_range("rho", group["rho"], 0, 1)

    def _update(self, params: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> None:
        second = []
        for param in params:
            state = self.state[param]
            if not state:
                state["square_avg"] = torch.zeros_like(param)
            second.append(state["square_avg"])
        rho, alpha = group["rho"], group["alpha"]
        torch._foreach_mul_(second, rho)
        torch._foreach_addcmul_(second, grads, grads, value=(1 - rho) * alpha**2)
        scale = torch._foreach_sqrt(second)
        torch._foreach_add_(scale, group["eps"])
        torch._foreach_addcdiv_(params, grads, scale, value=-group["lr"])
