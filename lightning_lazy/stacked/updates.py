"""Steps of many cells at once: each cell has its own learning rate and output scale."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_lazy.checks import check_number
from lightning_lazy.errors import InputError
from lightning_lazy.stacked.grid import Cell, OptimizerName

_STATE: dict[OptimizerName, tuple[str, ...]] = {
    "sgd": (),
    "momentum": ("velocity",),
    "rmsprop": ("second",),
    "scaled_rmsprop": ("second",),
    "adam": ("first", "second"),
    "scaled_adam": ("first", "second"),
}


class OptimizerOptions:
    """The constants of all optimizers, as those of ``conf/optimizer``.

    Args:
        momentum: μ of gradient descent with momentum.
        rho: ρ of RMSProp.
        eps: ε of RMSProp and Adam.
        betas: (β₁, β₂) of Adam.

    Raises:
        InputError: One is out of range.
    """

    def __init__(
        self,
        momentum: float = 0.9,
        rho: float = 0.999,
        eps: float = 1e-8,
        betas: Sequence[float] = (0.9, 0.999),
    ) -> None:
        if not isinstance(betas, Sequence) or len(betas) != 2:
            raise InputError(f"betas must be two numbers, got {betas!r}; pass (β₁, β₂)")
        self.momentum = _decay("momentum", momentum)
        self.rho = _decay("rho", rho)
        self.betas = (_decay("betas", betas[0]), _decay("betas", betas[1]))
        self.eps = check_number("eps", eps, zero=True)


class StackedOptimizer:
    r"""One optimizer for C cells, on gradients g = α G, which do not fall with α.

    With G the gradient of the minimised loss of a cell, every optimizer is its plain form on g with
    a rate r and a floor e of the cell's own:

    - gradient descent and momentum: r = η/α;
    - RMSProp and Adam: η G/(√v + ε) = η g/(√(α²v) + αε), so r = η, e = αε;
    - their α-folded forms (Kanoh & Sugiyama 2021, Algorithm 1): r = η/α, e = ε.

    Args:
        name: Which optimizer.
        cells: The cells, for their η and α.
        parameters: Stacked parameters by name, shapes ``(C, …)``; moved in place.
        options: μ, ρ, ε and the β of Adam.

    Attributes:
        steps: Steps done.
        state: Stacked moments by kind and name of parameter.
    """

    def __init__(
        self,
        name: OptimizerName,
        cells: Sequence[Cell],
        parameters: dict[str, Tensor],
        options: OptimizerOptions,
    ) -> None:
        self.name = name
        self.options = options
        self.steps = 0
        self._parameters = parameters
        self._make_scratch()
        example = next(iter(parameters.values()))
        lr = example.new_tensor([cell.lr for cell in cells])
        alpha = example.new_tensor([cell.alpha for cell in cells])
        plain = name in ("rmsprop", "adam")
        self._alpha = alpha
        self._rate = lr if plain else lr / alpha
        self._eps = options.eps * (alpha if plain else torch.ones_like(alpha))
        self.state: dict[str, dict[str, Tensor]] = {
            kind: {key: torch.zeros_like(value) for key, value in parameters.items()}
            for kind in _STATE[name]
        }

    def _make_scratch(self) -> None:
        """Make room for √v, which every step needs."""
        second = "second" in _STATE[self.name]
        self._root = {k: torch.empty_like(p) for k, p in self._parameters.items() if second}

    @staticmethod
    def tensors(name: OptimizerName) -> int:
        """Return how many tensors of the parameters' size a step needs, gradients left out."""
        return len(_STATE[name]) + ("second" in _STATE[name])

    def step(self, gradients: dict[str, Tensor]) -> None:
        """Move the parameters.

        Args:
            gradients: g by name; overwritten.
        """
        self.steps += 1
        for key, parameter in self._parameters.items():
            self._move(key, parameter, gradients[key])

    def _move(self, key: str, parameter: Tensor, gradient: Tensor) -> None:
        """Move one stacked parameter."""
        state = {kind: tensors[key] for kind, tensors in self.state.items()}
        shape = (-1, *[1] * (parameter.ndim - 1))
        rate = -self._rate.view(shape)
        if self.name == "sgd":
            parameter.addcmul_(gradient, rate)
            return
        if self.name == "momentum":
            velocity = state["velocity"].mul_(self.options.momentum).add_(gradient)
            parameter.addcmul_(velocity, rate)
            return
        second = state["second"]
        if "first" in state:
            beta1, beta2 = self.options.betas
            second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            first = state["first"].lerp_(gradient, 1 - beta1)
            torch.mul(first, rate / (1 - beta1**self.steps), out=gradient)
            root = torch.sqrt(second, out=self._root[key]).div_((1 - beta2**self.steps) ** 0.5)
        else:
            rho = self.options.rho
            second.mul_(rho).addcmul_(gradient, gradient, value=1 - rho)
            gradient.mul_(rate)
            root = torch.sqrt(second, out=self._root[key])
        parameter.addcdiv_(gradient, root.add_(self._eps.view(shape)))

    def effective_lr(self, place: int) -> float:
        """Return the median factor in front of G in one cell's steps, η/(√v + ε).

        Of parameters with v = 0, whose gradient has always been zero, none counts; a cell of such
        parameters only has not a number. Momentum counts as gradient descent.

        Args:
            place: Place of the cell in the stack.
        """
        factor = self._alpha[place] * self._rate[place]
        if "second" not in self.state or self.steps == 0:
            return float(factor)
        debt = 1 - self.options.betas[1] ** self.steps if "first" in self.state else 1.0
        second = torch.cat([value[place].flatten() for value in self.state["second"].values()])
        root = (second[second > 0] / debt).sqrt_()
        return float((factor / root.add_(self._eps[place])).nanmedian())

    def keep(self, places: Tensor, parameters: dict[str, Tensor]) -> None:
        """Go on with some cells only.

        Args:
            places: Their places in the stack.
            parameters: Their stacked parameters.
        """
        self._parameters = parameters
        self._make_scratch()
        self._alpha, self._rate, self._eps = (
            value[places] for value in (self._alpha, self._rate, self._eps)
        )
        self.state = {
            kind: {key: value[places] for key, value in tensors.items()}
            for kind, tensors in self.state.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Return steps and moments."""
        return {"steps": self.steps, "state": self.state}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        self.steps = saved["steps"]
        for kind, tensors in self.state.items():
            for key, value in tensors.items():
                value.copy_(saved["state"][kind][key])


def _decay(name: str, value: float) -> float:
    number = check_number(name, value, zero=True)
    if number >= 1:
        raise InputError(f"{name} must be below 1, got {value!r}; change {name}")
    return number
