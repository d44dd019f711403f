"""Running averages under data parallelism."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed


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
        with torch.no_grad():
            for buffer in buffers:
                distributed.broadcast(buffer, src=0)
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, own, strict=True):
                buffer.copy_(value)
