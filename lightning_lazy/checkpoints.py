"""Checkpoints: written so that a kill can't harm them, read without executing what they say."""

import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from lightning_lazy.errors import InputError
from lightning_lazy.replacing import beside, put_in_place

CONFIG_KEY = "lightning_lazy_config"


def write_checkpoint(trainer: pl.Trainer, path: Path) -> None:
    """Save the run's state to ``path``; the file there is replaced only by a complete one.

    Call it on all ranks. The new file is written beside the old one, flushed to the disk and
    renamed into place, so that a kill at any moment leaves one good checkpoint.
    """
    prepare_checkpoint(trainer, path)
    if trainer.is_global_zero:
        put_in_place(path)


def prepare_checkpoint(trainer: pl.Trainer, path: Path) -> None:
    """Save the run's state beside ``path``; `put_in_place` has it take the place of the old one."""
    trainer.save_checkpoint(beside(path), weights_only=False)


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint of tensors and plain containers onto the CPU.

    Raises:
        InputError: The file is not there, is truncated, or holds other objects.
    """
    if not Path(path).is_file():
        raise InputError(f"there is no checkpoint {path}: look in <run>/checkpoints")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path} can't be read as a checkpoint of tensors and plain containers ({reason}): "
            "it is damaged or was not written by this project"
        ) from error


def load_checkpoint(
    path: str | os.PathLike[str], trusted: Sequence[str] = ()
) -> pl.LightningModule:
    """Rebuild the trained module from a checkpoint of ``train.py``, with no further argument.

    The configuration in the file names the classes to build. Only those of this project,
    ``torch.nn``, ``torch.optim`` and ``torchvision.models`` are built, so that a file from
    somebody else can't execute code.

    Args:
        path: A ``last.ckpt``.
        trusted: Further module prefixes that may be built from, e.g. ``["my_package."]``.

    Returns:
        The module with its trained weights, in evaluation mode, on the CPU.

    Raises:
        InputError: The file can't be read, holds no configuration, or names other classes.
    """
    checkpoint = read_checkpoint(path)
    if CONFIG_KEY not in checkpoint:
        raise InputError(
            f"{path} holds no configuration (its module was built by hand): build the module and "
            f"call module.load_state_dict(lightning_lazy.read_checkpoint({str(path)!r})"
            "['state_dict'])"
        )
    from lightning_lazy.build import SAFE_PREFIXES, build_module

    module = build_module(checkpoint[CONFIG_KEY], allowed=(*SAFE_PREFIXES, *trusted))
    weights = checkpoint["state_dict"]
    module.to(next(value for value in weights.values() if torch.is_tensor(value)).dtype)
    module.load_state_dict(weights)
    return module.eval()
