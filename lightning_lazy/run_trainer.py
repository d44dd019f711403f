"""The Trainer of ``train.py``: built from a configuration, run, and brought to its end."""

import logging
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from lightning_lazy.build import accepts, build, check_kind
from lightning_lazy.errors import InputError
from lightning_lazy.figures.run_figures import RunFigures
from lightning_lazy.processes import (
    TogetherToTheEnd,
    check_launch,
    devices_of_torchrun,
    finished_in_spite_of_aborts,
)
from lightning_lazy.run_files import RunFiles


def build_trainer(plain: dict[str, Any], folder: Path, files: RunFiles | None) -> pl.Trainer:
    """Build the Trainer of a run with its callbacks and loggers.

    Args:
        plain: The resolved configuration.
        folder: Folder of the run.
        files: Keeps checkpoints and summary; ``None``: the module does.

    Raises:
        InputError: A callback or the Trainer is something else, a logger can't be started, or
            torchrun has started another number of processes.
    """
    callbacks = {key: build(node) for key, node in plain["callbacks"].items() if node is not None}
    # What Lightning says about devices and loggers does not concern a user of train.py. (The second
    # package is imported by the callbacks and sets levels of its own.)
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for key, one in callbacks.items():
        _check_callback(key, one)
    loggers = []
    for node in filter(None, plain["logger"].values()):
        own = {key: str(folder) for key in ("folder", "save_dir") if accepts(node["_target_"], key)}
        loggers.append(build({**own, **{k: v for k, v in node.items() if v is not None}}))
    for logger in loggers:
        _start_logger(logger, plain)
    figures = RunFigures(str(folder), plain["figures"])
    shows_progress = any(isinstance(one, pl.callbacks.ProgressBar) for one in callbacks.values())
    trainer: pl.Trainer = build(
        {
            "enable_progress_bar": shows_progress,
            "default_root_dir": str(folder),
            **devices_of_torchrun(plain["trainer"]),
        },
        callbacks=[
            *([] if files is None else [files]),
            *callbacks.values(),
            figures,
            TogetherToTheEnd(),
        ],
        logger=loggers,
    )
    check_kind("trainer", trainer, pl.Trainer)
    check_launch(trainer)
    return trainer


def _check_callback(key: str, built: object) -> None:
    """Check that a callback is one, of either of Lightning's packages.

    Raises:
        InputError: It is something else.
    """
    if not hasattr(built, "on_train_start"):
        raise InputError(
            f"callbacks.{key} must build a callback of Lightning, got one of type "
            f"{type(built).__name__}: change callbacks.{key}._target_ or leave out _partial_"
        )


def _start_logger(logger: Any, plain: dict[str, Any]) -> None:
    """Log the configuration, with which loggers open their run.

    Raises:
        InputError: It can't be opened: its settings are wrong, or a service asks for a login.
    """
    try:
        logger.log_hyperparams(plain)
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{type(logger).__name__} can't be started ({reason}): change its settings in logger, "
            "or leave it out"
        ) from error


def fit(trainer: pl.Trainer, module: Any, data: Any, ckpt_path: str | None, folder: Path) -> None:
    """Fit, and end what would otherwise run on into the next run of a multirun."""
    try:
        with warnings.catch_warnings():
            # Images are in memory: workers would only copy them.
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
            warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
            with finished_in_spite_of_aborts(folder):
                trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    finally:
        _finish_wandb(trainer)


def _finish_wandb(trainer: pl.Trainer) -> None:
    """End the W&B run, which the next run of a multirun would otherwise be written into."""
    if any(isinstance(logger, pl.loggers.WandbLogger) for logger in trainer.loggers):
        import wandb

        wandb.finish()
