"""Losses that treat each output by itself: squared, soft hinge, logistic, exponential."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from lightning_lazy.checks import check_number
from lightning_lazy.losses.base import Loss, Reduction
from lightning_lazy.losses.targets import Targets
from lightning_lazy.models.activations import SOFTPLUS_THRESHOLD


class SquaredLoss(Loss):
    """Squared error ℓ = (f - y)².

    The default, mean over the batch and over the outputs with one-hot targets, is the loss of
    Chizat, Oyallon & Bach 2019, §3.2; `factor=0.5` is their §3.1, `samples="sum", factor=0.5` the
    loss of Lewkowycz & Gur-Ari 2020, §4. Float targets may be anything.

    Args:
        samples: `mean` or `sum` over the batch.
        outputs: `mean` or `sum` over the outputs.
        factor: constant that multiplies the loss, above 0.
        targets: how integer labels are encoded; a net with one output needs `binary` or
            `one_vs_all`.

    Examples:
        >>> import torch
        >>> float(SquaredLoss()(torch.tensor([[1.0, 2.0]]), torch.tensor([0])))
        2.0
    """

    def __init__(
        self,
        samples: Reduction = "mean",
        outputs: Reduction = "mean",
        factor: float = 1.0,
        targets: Targets = "one_hot",
    ) -> None:
        super().__init__(samples, outputs, factor, targets)

    def _elements(self, output: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(output, target, reduction="none")

    def _total(self, output: Tensor, target: Tensor, weight: float) -> Tensor:
        return F.mse_loss(output, target, reduction="sum") * weight


class MarginLoss(Loss):
    """A loss of the margin y·f, with y = ±1.

    A soft target y between -1 and +1 enters through the margin alone: ℓ(y·f). At y = 0 it is a
    constant that pulls nowhere; it is not the mixture of the losses of the two classes, so for
    mixup take the cross entropy or the squared loss.
    """

    encodings = ("one_vs_all", "binary")

    @property
    def takes_mixtures(self) -> bool:
        """False: a margin has no meaning for a mixture of classes."""
        return False


class SoftHingeLoss(MarginLoss):
    """Soft hinge ℓ = (1/β) ln(1 + e^{β(1 - y f)}), equation (14) of Kanoh & Sugiyama 2021.

    The default is the mean over the batch and over the ten one-vs-all outputs. The softplus is
    exact to rounding, in its first two derivatives as well.

    Args:
        beta: β, above 0: 20 in the paper; the larger, the closer to the hinge.
        samples: `mean` or `sum` over the batch.
        outputs: `mean` or `sum` over the outputs.
        factor: constant that multiplies the loss, above 0.
        targets: how integer labels are encoded: `one_vs_all` (for one output ±1) or `binary`.

    Raises:
        InputError: `beta` or another argument out of range.
    """

    def __init__(
        self,
        beta: float = 20.0,
        samples: Reduction = "mean",
        outputs: Reduction = "mean",
        factor: float = 1.0,
        targets: Targets = "one_vs_all",
    ) -> None:
        super().__init__(samples, outputs, factor, targets)
        self.beta = check_number("beta", beta)

    def _elements(self, output: Tensor, target: Tensor) -> Tensor:
        return F.softplus(1.0 - output * target, self.beta, SOFTPLUS_THRESHOLD)

    def extra_repr(self) -> str:
        """Options, for printing."""
        return f"beta={self.beta:.6g}, {super().extra_repr()}"


class LogisticLoss(MarginLoss):
    """Logistic loss ℓ = ln(1 + e^{-y f}) (Huang, Du, Xu & Liu 2020; Li, Wei & Ma 2019).

    The default is the mean over the batch and over the outputs.

    Args:
        samples: `mean` or `sum` over the batch.
        outputs: `mean` or `sum` over the outputs.
        factor: constant that multiplies the loss, above 0.
        targets: how integer labels are encoded: `one_vs_all` (for one output ±1) or `binary`.

    Examples:
        >>> import torch
        >>> loss = LogisticLoss()(torch.zeros(3, 1), torch.tensor([0, 1, 1]))
        >>> bool(torch.isclose(loss, torch.tensor(2.0).log()))
        True
    """

    def _elements(self, output: Tensor, target: Tensor) -> Tensor:
        return F.softplus(-(output * target), 1.0, SOFTPLUS_THRESHOLD)


class ExponentialLoss(MarginLoss):
    """Exponential loss ℓ = e^{-y f} (Huang, Du, Xu & Liu 2020).

    The default is the mean over the batch and over the outputs. It is infinite only where the
    exponential of a margin is: the mean is taken without forming the sum, which could overflow.

    Args:
        samples: `mean` or `sum` over the batch.
        outputs: `mean` or `sum` over the outputs.
        factor: constant that multiplies the loss, above 0.
        targets: how integer labels are encoded: `one_vs_all` (for one output ±1) or `binary`.
    """

    def _elements(self, output: Tensor, target: Tensor) -> Tensor:
        return (-(output * target)).exp()

    def _sum(self, elements: Tensor, weight: float, dim: int | None) -> Tensor:
        return (elements * weight).sum(dim)
