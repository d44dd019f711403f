"""Losses, with all that the papers vary: reduction, factor, encoding of class labels."""

from lightning_lazy.losses.base import Loss
from lightning_lazy.losses.cross_entropy import CrossEntropyLoss, NormalizedSoftmaxLoss
from lightning_lazy.losses.elementwise import (
    ExponentialLoss,
    LogisticLoss,
    MarginLoss,
    SoftHingeLoss,
    SquaredLoss,
)
from lightning_lazy.losses.targets import accuracy, encode_targets, num_correct

__all__ = [
    "CrossEntropyLoss",
    "ExponentialLoss",
    "LogisticLoss",
    "Loss",
    "MarginLoss",
    "NormalizedSoftmaxLoss",
    "SoftHingeLoss",
    "SquaredLoss",
    "accuracy",
    "encode_targets",
    "num_correct",
]
