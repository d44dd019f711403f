"""A disk that gets full while a run writes: files can't grow beyond a size."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl


def limit_files(size: int | None) -> None:
    """Have what this process writes end at ``size`` bytes of a file; ``None``: nowhere.

    The kernel takes the bytes up to there and refuses the others with "File too large", as it does
    with "No space left on device" where a disk is full.
    """
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Limit the size of files for a while."""
    limit_files(size)
    try:
        yield
    finally:
        limit_files(None)


class FullDisk(pl.Callback):
    """Has the disk full from an update on; with ``size=None``, have room again.

    Args:
        step: The update, counted from 1.
        size: Bytes that a file may have.
    """

    def __init__(self, step: int, size: int) -> None:
        self.step, self.size = step, size

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Limit the size of files."""
        if trainer.global_step == self.step:
            limit_files(self.size)
