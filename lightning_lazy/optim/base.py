"""What the α-folded optimizers share: checked options and the walk over the parameter groups."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_lazy.errors import InputError
from lightning_lazy.scaling import check_square

Params = Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]


def check_range(
    name: str, value: float, low: float, high: float, *, open_low: bool = False
) -> float:
    """Return `value` as a float where it lies in [low, high), or in (low, high) if `open_low`.

    Raises:
        InputError: it does not.
    """
    number = float(value)
    if not low <= number < high or (open_low and number == low):
        bracket = "(" if open_low else "["
        raise InputError(
            f"{name} must lie in {bracket}{low:g}, {high:g}), got {value!r}; change {name}"
        )
    return number


class FoldedOptimizer(Optimizer):
    """Base of the optimizers whose second moment is that of α·G, G the gradient.

    Args:
        params: parameters or parameter groups; every option can be set for a group.
        defaults: the options.
    """

    @abstractmethod
    def _check(self, group: dict[str, Any]) -> None:
        """Check and convert the options of a group in place."""

    @abstractmethod
    def _update(self, params: list[Tensor], grads: list[Tensor], group: dict[str, Any]) -> None:
        """Move `params`, all on one device and of one dtype where `foreach` is not False."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters.

        Args:
            param_group: `params` and the options that differ from the defaults.

        Raises:
            InputError: an option out of range, an α² that is lost in a parameter's precision, or a
                complex parameter.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        group["lr"] = check_range("lr", group["lr"], 0, math.inf)
        group["alpha"] = check_range("alpha", group["alpha"], 0, math.inf, open_low=True)
        group["eps"] = check_range("eps", group["eps"], 0, math.inf)
        self._check(group)
        if any(param.is_complex() for param in group["params"]):
            raise InputError(
                f"{type(self).__name__} needs real parameters, got complex ones; "
                "train their real and imaginary parts"
            )
        for dtype in {param.dtype for param in group["params"]}:
            check_square(group["alpha"], dtype)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step.

        Args:
            closure: evaluates the loss anew and its gradients, and returns the loss; optional.

        Returns:
            What `closure` returned, else None.

        Raises:
            InputError: a sparse gradient.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            grads = [param.grad for param in params]
            if any(grad.is_sparse for grad in grads):
                raise InputError(
                    f"{type(self).__name__} needs dense gradients, got a sparse one; "
                    "build the embedding with sparse=False"
                )
            if group["foreach"] is False:
                for param, grad in zip(params, grads, strict=True):
                    self._update([param], [grad], group)
            elif params:
                self._update(params, grads, group)
        return loss
