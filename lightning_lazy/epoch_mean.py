"""A mean over an epoch that survives a kill and loses no digits."""

import torch
from torch import Tensor
from torchmetrics import Metric


class EpochMean(Metric):
    """Mean of numbers over batches and ranks, in double precision.

    Unlike ``torchmetrics.MeanMetric`` it does not round to the default dtype on its way, lets
    numbers that are not finite through, and is part of the module's ``state_dict`` if asked to be,
    so that an epoch that is interrupted goes on where it was.

    Args:
        persistent: Whether the sums are part of the ``state_dict``.
    """

    full_state_update = False
    higher_is_better = None
    is_differentiable = False
    total: Tensor
    count: Tensor

    def __init__(self, persistent: bool = False) -> None:
        super().__init__()
        zero = torch.zeros((), dtype=torch.float64)
        self.add_state("total", zero, dist_reduce_fx="sum", persistent=persistent)
        self.add_state("count", zero.clone(), dist_reduce_fx="sum", persistent=persistent)

    def update(self, values: Tensor, weight: float = 1) -> None:
        """Add numbers, of any shape, each of which counts ``weight`` times."""
        self.total = self.total + values.double().sum() * weight
        self.count = self.count + values.numel() * weight

    def compute(self) -> Tensor:
        """Return the mean, a scalar."""
        return self.total / self.count
