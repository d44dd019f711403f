"""The losses of a run, in the units in which gradient descent is told from its noise."""

import math
from typing import Any

import torch
from torch import Tensor

from lightning_lazy.reporting import batches_per_epoch, gather

_FLUSH = 50
"""Losses that are kept on the device before they are averaged over ranks and fetched."""

_EXPLODED = 1e6
"""A loss that is this many times the first says all by itself, within whatever pass."""


class LossHistory:
    """Losses that ``training_step`` returned, before each update, averaged over ranks.

    Attributes:
        losses: Those fetched so far, a number for each batch.
    """

    def __init__(self) -> None:
        self.losses: list[float] = []
        self._pending: list[Tensor] = []  # of this rank, since the last flush

    def add(self, trainer: Any, outputs: Any) -> None:
        """Take in what ``on_train_batch_end`` is given; on all ranks."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if not torch.is_tensor(loss):
            return
        # Lightning divides the loss by the number of batches whose gradients are added up.
        self._pending.append(loss.detach().double() * trainer.accumulate_grad_batches)
        if len(self._pending) >= _FLUSH:
            self.flush()

    def flush(self) -> None:
        """Fetch the losses in hand."""
        if self._pending:
            ranks = gather(torch.stack(self._pending).tolist())
            self.losses += [sum(losses) / len(ranks) for losses in zip(*ranks, strict=True)]
            self._pending = []

    def by_pass(self, trainer: Any) -> list[float]:
        """Return the means over passes through the training set, in order.

        The last one is that over as many batches as end the run, also where that is within a pass.
        The losses themselves are returned where a batch is the whole set, or where one of them is
        not finite or has grown a million times: that is no matter of noise.
        """
        self.flush()
        losses = self.losses
        batches = batches_per_epoch(trainer)
        calm = all(loss <= _EXPLODED * abs(losses[0]) for loss in losses)
        if batches == 1 or not calm:
            return list(losses)
        size = round(batches) if math.isfinite(batches) else _FLUSH
        starts = list(range(0, len(losses) - size + 1, size))
        if starts and starts[-1] + size < len(losses):
            starts.append(len(losses) - size)
        return [math.fsum(losses[first : first + size]) / size for first in starts]
