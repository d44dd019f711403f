"""One function on all ranks: measuring a module whose running averages differ between them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed

from lightning_lazy.laziness import undisturbed


@contextmanager
def measured_alike(pl_module: Any) -> Iterator[None]:
    """Let all ranks measure the same function, in evaluation mode and without a trace.

    `lightning_lazy.laziness.undisturbed` with `buffers_of_rank_zero`. Call it on all ranks.
    """
    with undisturbed(pl_module), buffers_of_rank_zero(pl_module):
        yield


@contextmanager
def buffers_of_rank_zero(pl_module: Any) -> Iterator[None]:
    """Give all ranks the buffers of rank 0 inside, and back their own outside.

    Running averages of BatchNorm are those of a rank's own shard between two training steps, so
    that ranks would measure different functions. Rank 0's are those that checkpoints hold.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        yield
        return
    buffers = list(pl_module.buffers())
    own = [buffer.detach().clone() for buffer in buffers]
    try:
        for kind in dict.fromkeys((buffer.device, buffer.dtype) for buffer in buffers):
            _broadcast([b for b in buffers if (b.device, b.dtype) == kind])
        yield
    finally:
        _overwrite(buffers, own)


def _broadcast(buffers: list[Tensor]) -> None:
    """Give buffers of one type the values of rank 0, in one message."""
    flat = torch.cat([buffer.detach().flatten() for buffer in buffers])
    distributed.broadcast(flat, src=0)
    parts = torch.split(flat, [buffer.numel() for buffer in buffers])
    _overwrite(buffers, [part.view_as(b) for part, b in zip(parts, buffers, strict=True)])


def _overwrite(buffers: list[Tensor], values: list[Tensor]) -> None:
    # In inference mode buffers that were made there can be written to as well.
    with torch.inference_mode():
        for buffer, value in zip(buffers, values, strict=True):
            buffer.copy_(value)
