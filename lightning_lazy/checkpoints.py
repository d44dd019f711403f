"""Checkpoints: written so that a kill can't harm them, read without executing what they say."""

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from lightning_lazy.errors import InputError
from lightning_lazy.replacing import beside, naming_refusals, put_in_place

CONFIG_KEY = "lightning_lazy_config"
LAST, PREVIOUS = "last.ckpt", "previous.ckpt"


def write_checkpoint(trainer: pl.Trainer, path: Path, keep_as: Path | None = None) -> None:
    """Save the run's state to ``path``; the file there is replaced only by a complete one.

    Call it on all ranks. The new file is written beside the old one, flushed to the disk and
    renamed into place, so that a kill at any moment leaves one good checkpoint.

    Args:
        trainer: Trainer of the run.
        path: Where the checkpoint is going to be.
        keep_as: New name of the checkpoint that is replaced; ``None``: it is not kept.

    Raises:
        InputError: The disk is full or read-only; the checkpoint that was there is intact.
    """
    prepare_checkpoint(trainer, path)
    if trainer.is_global_zero:
        put_in_place(path, keep_as)


def prepare_checkpoint(trainer: pl.Trainer, path: Path) -> None:
    """Save the run's state beside ``path``; `put_in_place` has it take the place of the old one.

    Raises:
        InputError: The disk is full or read-only.
    """
    new = beside(path)
    with naming_refusals(path):
        if trainer.is_global_zero:
            new.unlink(missing_ok=True)
        trainer.save_checkpoint(new, weights_only=False)
        if trainer.is_global_zero and not new.is_file():  # Lightning passes over refused access
            raise PermissionError("permission denied")


def check_undamaged(path: str | os.PathLike[str]) -> None:
    """Check that a checkpoint has every byte that was written, by the checksums that it holds.

    ``torch.load`` does not compare them: it reads a changed weight as if nothing had happened.

    Raises:
        InputError: The file is not there, was cut off, or some of its bytes have changed.
    """
    if not Path(path).is_file():
        previous = (Path(path).parent / PREVIOUS).is_file()
        offer = _offer(path) if previous else ": look in <run>/checkpoints"
        raise InputError(f"there is no checkpoint {path}{offer}")
    try:
        with zipfile.ZipFile(path) as archive:
            changed = archive.testzip()
    except Exception as error:  # what a damaged archive raises depends on the byte that is wrong
        raise _unreadable(path, error) from error
    if changed is not None:
        raise _unreadable(path, f"the checksum of {changed} is wrong")


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint of tensors and plain containers onto the CPU.

    Raises:
        InputError: The file is not there, is damaged, or holds other objects.
    """
    check_undamaged(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # as above: an archive may be whole and hold anything
        raise _unreadable(path, error) from error


def forget_batch_in_flight(checkpoint: dict[str, Any]) -> None:
    """Take back the count of the batch that was fetched when the checkpoint was taken.

    Lightning counts it again after a resume, and every period that counts batches, such as
    ``val_check_interval`` across epochs, would be one batch early from then on. An epoch's last
    batch would be left out where a validation has come before it.
    """
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    for counts in (progress["total"], progress["current"]):
        counts["ready"] = counts["completed"]
    progress["is_last_batch"] = False


def rescale_lr(
    group: dict[str, Any], number: int, schedulers: list[dict[str, Any]], lr: float
) -> None:
    """Set a group's base learning rate to ``lr``, whatever the schedule has made of the old one."""
    ratio = lr / group.get("initial_lr", group["lr"])
    group["lr"] *= ratio
    if "initial_lr" in group:
        group["initial_lr"] = lr
    for scheduler in schedulers:
        for key in ("base_lrs", "_last_lr"):
            if key in scheduler:
                scheduler[key][number] *= ratio


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


def _unreadable(path: str | os.PathLike[str], reason: object) -> InputError:
    first = (str(reason) or type(reason).__name__).splitlines()[0]
    return InputError(
        f"{path} can't be read as a checkpoint of tensors and plain containers ({first}): it is "
        f"damaged or was not written by this project{_offer(path)}"
    )


def _offer(path: str | os.PathLike[str]) -> str:
    """Return where a run can go on from without its last checkpoint."""
    if Path(path).name != LAST:
        return ""
    previous = Path(path).with_name(PREVIOUS)
    if previous.is_file():
        return f"; the one before it is {previous}: go on from there"
    return "; there is none before it: start again without it"
