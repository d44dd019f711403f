"""Mixup: training images and their labels, two at a time, as a function of (seed, epoch, image)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_lazy.data.counter import INDEX_BITS, INDEX_MASK, below, derive_seed, random_words
from lightning_lazy.data.dataset import RawBatch
from lightning_lazy.losses.targets import Targets, encode_targets

_STREAM = 1
"""Keeps these draws apart from those of crops, which have the same seed and keys."""


@dataclass(frozen=True)
class Mixup:
    r"""Makes inputs and soft targets of a batch of bytes and of their partners.

    .. math:: x = s x_i + (1 - s) x_j, \quad y = s y_i + (1 - s) y_j, \quad s \sim Beta(a, a)

    (Zhang, Cissé, Dauphin & Lopez-Paz 2018.) The partner j is any image of the training set, as
    augmentation shows it in this epoch; j and s are drawn for each image i and are a pure function
    of (seed, epoch, i), so neither the device nor the rest of the batch, nor workers or ranks,
    change them. A plain index leaves its image as it is.

    Attributes:
        transform: Makes inputs and labels of bytes.
        alpha: a, above 0: towards 0 nothing is mixed, 1 is the uniform distribution.
        outputs: Classes, or 1 where labels are −1 and +1.
        seed: Seed of the draws.
    """

    transform: Callable[[RawBatch, torch.dtype], tuple[Tensor, Tensor]]
    alpha: float
    outputs: int
    seed: int = 0

    def partners(self, keys: Tensor, size: int) -> Tensor:
        """Keys of the partners j, of the same epochs.

        Args:
            keys: int64 tensor of shape (n,), see `counter`.
            size: Images in the training set.

        Returns:
            int64 tensor of shape (n,).
        """
        return keys & ~INDEX_MASK | below(self._words(keys)[0], size)

    def shares(self, keys: Tensor) -> Tensor:
        """The shares s of the images i.

        Devroye (1996, "Random variate generation in one line of code") gives them in closed form of
        two uniform numbers, for any a.

        Args:
            keys: int64 tensor of shape (n,).

        Returns:
            float64 tensor of shape (n,), values in [0, 1]; 1 for a plain index.
        """
        u, v = (self._words(keys)[1:].double() + 0.5) / 2**32
        cosine = torch.cos(2 * math.pi * v)
        spread = torch.expm1(-u.log() / self.alpha) * cosine.square()
        share = 0.5 + 0.5 * cosine.sign() / (1 + 1 / spread).sqrt()
        return share.masked_fill(keys >> INDEX_BITS == 0, 1.0)

    def __call__(self, raw: RawBatch, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a batch.

        Args:
            raw: The batch, on any device.
            dtype: Floating type of the result.

        Returns:
            x as the transform makes it, and of a batch with partners the targets of shape
            (n, outputs): shares of the classes, or for one output a number from −1 to +1. Of any
            other batch y are the labels.
        """
        x, labels = self.transform(raw, dtype)
        if raw.partners is None or raw.keys is None:
            return x, labels
        other_x, other_labels = self.transform(raw.partners, dtype)
        share = self.shares(raw.keys).to(dtype)
        y, other_y = self._encoded(labels, dtype), self._encoded(other_labels, dtype)
        return torch.lerp(other_x, x, share.view(-1, *[1] * (x.dim() - 1))), torch.lerp(
            other_y, y, share.view(-1, 1)
        )

    def _words(self, keys: Tensor) -> Tensor:
        return random_words(derive_seed(self.seed, _STREAM), keys, 3)

    def _encoded(self, labels: Tensor, dtype: torch.dtype) -> Tensor:
        kind: Targets = "one_hot" if self.outputs > 1 else "binary"
        return encode_targets(labels, self.outputs, kind, dtype)
