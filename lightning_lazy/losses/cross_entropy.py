"""Cross entropy, plain and in the normalisation of Lewkowycz & Gur-Ari."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from lightning_lazy.errors import InputError
from lightning_lazy.losses.base import Loss, Reduction, match_targets, shape_error
from lightning_lazy.losses.targets import Targets, class_index, label_error

# No label is left out: torch would skip -100 without a word.
_IGNORE_NONE = -(2**63)


class CrossEntropyLoss(Loss):
    """Cross entropy ℓ = -Σ_c y_c ln softmax(f)_c, the sum over the k ≥ 2 classes.

    Integer labels are one-hot, never formed; float targets y are class probabilities (mixup) and
    give the same sum.

    Args:
        samples: `mean` or `sum` over the batch.
        outputs: `sum` for the usual cross entropy, `mean` to divide it by k.
        factor: constant that multiplies the loss, above 0.
        targets: `one_hot`, the only encoding that makes sense here.

    Raises:
        InputError: an unknown option, or a factor that is not above 0.

    Examples:
        >>> import torch
        >>> loss = CrossEntropyLoss()(torch.zeros(3, 10), torch.tensor([1, 2, 3]))
        >>> bool(torch.isclose(loss, torch.tensor(10.0).log()))
        True
    """

    encodings = ("one_hot",)

    def __init__(
        self,
        samples: Reduction = "mean",
        outputs: Reduction = "sum",
        factor: float = 1.0,
        targets: Targets = "one_hot",
    ) -> None:
        super().__init__(samples, outputs, factor, targets)

    def per_sample(self, output: Tensor, target: Tensor) -> Tensor:
        """Loss of each sample, factor included, shape `[batch]`; arguments as for `forward`.

        Args:
            output: shape `[batch, outputs]`.
            target: integer labels `[batch]` or probabilities of the output's shape.

        Returns:
            Shape `[batch]`, in the output's dtype.
        """
        weight = self._output_weight(output)
        return self._entropy(output, self._encode(output, target), "none") * weight

    def _output_weight(self, output: Tensor) -> float:
        weight = super()._output_weight(output)
        if output.shape[1] == 1:
            raise InputError("cross entropy must have two outputs or more, got 1; use LogisticLoss")
        return weight

    def _encode(self, output: Tensor, target: Tensor) -> Tensor:
        """Labels as int64, or float targets in the output's dtype."""
        if target.is_floating_point():
            return match_targets(output, target)
        if target.shape != output.shape[:1]:
            raise shape_error(output, target)
        return class_index(target)

    def _entropy(self, output: Tensor, target: Tensor, reduction: str) -> Tensor:
        if target.is_floating_point():
            return F.cross_entropy(output, target, reduction=reduction)
        try:
            return F.cross_entropy(output, target, ignore_index=_IGNORE_NONE, reduction=reduction)
        except IndexError as error:
            raise label_error(target, output.shape[1], error) from error

    def _total(self, output: Tensor, target: Tensor, weight: float) -> Tensor:
        return self._entropy(output, target, "sum") * weight


class NormalizedSoftmaxLoss(CrossEntropyLoss):
    """Cross entropy divided by 2k, k classes (Lewkowycz & Gur-Ari 2020, SM A).

    So CE/20 for ten classes, as a mean over the batch. Their λ belongs to this normalisation.

    Args:
        samples: `mean` or `sum` over the batch.
        outputs: `mean` divides by 2k, as in the paper; `sum` by 2.
        factor: constant that multiplies the loss, above 0.
        targets: `one_hot`.

    Raises:
        InputError: an unknown option, or a factor that is not above 0.
    """

    def __init__(
        self,
        samples: Reduction = "mean",
        outputs: Reduction = "mean",
        factor: float = 1.0,
        targets: Targets = "one_hot",
    ) -> None:
        super().__init__(samples, outputs, factor, targets)

    def _output_weight(self, output: Tensor) -> float:
        return super()._output_weight(output) / 2
