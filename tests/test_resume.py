"""When checkpoints are written, and that they are whole. (Runs under kills: tests/faults.)"""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from trainers import QUIET

from lightning_lazy import InputError, RunFiles, ScaledLightningModule, read_checkpoint
from lightning_lazy.checkpoints import write_checkpoint
from lightning_lazy.data import ImageDataModule
from lightning_lazy.losses import CrossEntropyLoss
from lightning_lazy.models import TwoLayerNet


class Written(pl.Callback):
    """Notes with every batch the update of the last checkpoint, 0 before there is one."""

    def __init__(self, last: Path) -> None:
        self.last = last
        self.steps: list[int] = []

    def on_train_batch_start(self, *_: Any) -> None:
        self.steps.append(read_checkpoint(self.last)["global_step"] if self.last.exists() else 0)


@pytest.mark.parametrize(
    ("period", "steps"),
    [(1, [0, 0, 1, 2, 2, 3, 4, 4, 5]), (2, [0, 0, 0, 2, 2, 2, 4, 4, 4]), (3, [0] * 5 + [3] * 4)],
)
def test_checkpoints_come_at_updates_also_of_a_last_batch(
    tmp_path: Path, period: int, steps: list[int]
) -> None:
    # Three batches an epoch make two updates: one of two batches, one of the last batch alone.
    files = RunFiles(str(tmp_path), every_n_steps=period)
    written = Written(files.checkpoint_path)
    module = ScaledLightningModule(
        TwoLayerNet(64, 6, 10), CrossEntropyLoss(), partial(torch.optim.SGD, lr=0.1)
    )
    trainer = pl.Trainer(
        **QUIET, max_epochs=3, accumulate_grad_batches=2, callbacks=[files, written]
    )
    trainer.fit(module, datamodule=ImageDataModule("digits", n_train=60, n_val=20, batch_size=20))
    assert written.steps == steps


def test_a_checkpoint_is_replaced_only_by_a_complete_one(tmp_path: Path) -> None:
    class FullDisk:
        is_global_zero = True

        def save_checkpoint(self, path: Path, weights_only: bool) -> None:
            path.write_bytes(b"half")
            raise OSError("No space left on device")

    path = tmp_path / "last.ckpt"
    torch.save({"good": 1}, path)
    with pytest.raises(InputError, match="No space left"):
        write_checkpoint(FullDisk(), path)  # type: ignore[arg-type]
    assert read_checkpoint(path) == {"good": 1}
