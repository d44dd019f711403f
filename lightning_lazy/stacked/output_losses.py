"""Losses of many cells at once, and their derivatives with respect to the outputs."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn import functional as F

from lightning_lazy.losses import SoftHingeLoss
from lightning_lazy.models.activations import SOFTPLUS_THRESHOLD
from lightning_lazy.stacked.refusing import refusing_unstackable

LossFunction = nn.Module | Callable[[Tensor, Tensor], Tensor]


class OutputLoss(Protocol):
    """A loss ℓ of the outputs F of C cells, shape ``(C, outputs, n)``: samples stand last."""

    def values(self, outputs: Tensor) -> Tensor:
        """Return ℓ of each cell, shape ``(C,)``."""
        ...

    def differentiate(self, outputs: Tensor, factor: float) -> Tensor:
        """Return factor · ∂ℓ/∂F, which may take the memory of the outputs."""
        ...


def output_loss(loss: LossFunction, example: Tensor, targets: Tensor) -> OutputLoss:
    """Return ``loss`` for stacked outputs on fixed targets.

    Args:
        loss: ℓ(output, target), a scalar of outputs ``(n, outputs)``.
        example: Outputs of one cell, for their shape, dtype and device.
        targets: Of the n samples.
    """
    if type(loss) is SoftHingeLoss:
        return StackedSoftHinge(loss, example, targets)
    return StackedLoss(loss, targets)


class StackedSoftHinge:
    """The soft hinge of Kanoh & Sugiyama 2021, equation 14, differentiated by hand.

    ∂ℓ/∂F = −weight · y sigmoid(β (1 − y F))

    Args:
        loss: The loss of a single cell.
        example: Outputs of one cell, shape ``(n, outputs)``.
        targets: Of the n samples.
    """

    def __init__(self, loss: SoftHingeLoss, example: Tensor, targets: Tensor) -> None:
        self.beta = loss.beta
        self.y = loss.target_outputs(example, targets).T.contiguous()
        self.weight = loss.factor
        if loss.outputs == "mean":
            self.weight /= example.shape[1]
        if loss.samples == "mean":
            self.weight /= len(example)
        self._shift = example.new_tensor(self.beta)
        self._slope = self.y * -self.beta

    def values(self, outputs: Tensor) -> Tensor:
        """Return ℓ of each cell."""
        elements = F.softplus(1.0 - outputs * self.y, self.beta, SOFTPLUS_THRESHOLD)
        return elements.sum((1, 2)) * self.weight

    def differentiate(self, outputs: Tensor, factor: float) -> Tensor:
        """Return factor · ∂ℓ/∂F in the memory of the outputs."""
        torch.addcmul(self._shift, outputs, self._slope, out=outputs)
        return outputs.sigmoid_().mul_(self.y * (-factor * self.weight))


class StackedLoss:
    """Any loss, differentiated by autograd with respect to the outputs alone.

    Args:
        loss: ℓ(output, target), a scalar of outputs ``(n, outputs)``.
        targets: Of the n samples.
    """

    def __init__(self, loss: LossFunction, targets: Tensor) -> None:
        self._loss, self._targets = loss, targets

    def _values(self, outputs: Tensor) -> Tensor:
        with refusing_unstackable(f"the loss {type(self._loss).__name__}"):
            return vmap(lambda output: self._loss(output.T, self._targets))(outputs)

    @torch.no_grad()
    def values(self, outputs: Tensor) -> Tensor:
        """Return ℓ of each cell."""
        return self._values(outputs)

    def differentiate(self, outputs: Tensor, factor: float) -> Tensor:
        """Return factor · ∂ℓ/∂F."""
        with torch.enable_grad():
            leaf = outputs.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self._values(leaf).sum() * factor, leaf)
        return gradient
