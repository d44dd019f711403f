"""Runs on several processes: who may start them, one folder for all, and how they end."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch.multiprocessing.spawn import ProcessExitedException

from lightning_lazy.errors import InputError

_SEVERAL = ("trainer=ddp", "trainer=multinode", "trainer.devices=", "trainer.num_nodes=")
_IN_PROCESS = ("spawn", "fork", "notebook", "single")


def refuse_subprocesses(trainer: Mapping[str, Any]) -> None:
    """Refuse a strategy that starts train.py anew for every device inside a multirun.

    Each such process would run the whole multirun again, in a second folder. Tasks of a SLURM job
    are started by SLURM, for one run each.

    Args:
        trainer: The Trainer's configuration.

    Raises:
        InputError: The strategy launches subprocesses, or torchrun has started the multirun.
    """
    strategy = trainer.get("strategy", "auto")
    name = str(strategy.get("_target_") if isinstance(strategy, Mapping) else strategy)
    in_process = any(word in name for word in _IN_PROCESS)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise InputError(
            "torchrun starts one run on several devices, not a multirun: leave torchrun away and "
            "use trainer.strategy=ddp_spawn, or one run at a time"
        )
    by_slurm = int(os.environ.get("SLURM_NTASKS", "1")) > 1
    if asks_for_several(trainer) and not in_process and not by_slurm:
        raise InputError(
            f"trainer.strategy={name} on several devices can't run inside a multirun, since it "
            "starts train.py again for every device: use trainer.strategy=ddp_spawn, or one run "
            "at a time"
        )


def asks_for_several(trainer: Mapping[str, Any]) -> bool:
    """Return whether a Trainer's configuration asks for more than one device.

    >>> asks_for_several({"accelerator": "cpu", "devices": "auto"})
    False
    >>> asks_for_several({"accelerator": "cpu", "devices": 2})
    True
    """
    if trainer.get("num_nodes", 1) != 1:
        return True
    devices = trainer.get("devices", "auto")
    if str(devices) in ("auto", "-1"):
        return trainer.get("accelerator", "auto") != "cpu" and torch.cuda.device_count() > 1
    if isinstance(devices, list | tuple):
        return len(devices) > 1
    return str(devices) != "1"


def rank_arguments(arguments: list[str]) -> list[str]:
    """Return the arguments of ``train.py`` in one of the processes that others start.

    torchrun and SLURM start it once for each device, and Hydra would make as many folders. Rank 0
    makes that of the run; the others write no files and are in the present one.
    """
    rank = _rank_in_launch(arguments)
    settled = any(text.startswith("hydra.run.dir=") for text in arguments)
    if rank == 0 or settled:
        return arguments
    return [*arguments, "hydra.run.dir=.", "hydra.output_subdir=null"]


def _rank_in_launch(arguments: list[str]) -> int:
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ.get("RANK", "0"))
    # Tasks of SLURM may also be runs of their own, such as agents of a sweep.
    if any(text.startswith(_SEVERAL) for text in arguments):
        return int(os.environ.get("SLURM_PROCID", "0"))
    return 0


def devices_of_torchrun(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Return a Trainer's configuration with ``devices=auto`` for as many as torchrun started here.

    Lightning would take all devices of the machine, and one of a CPU.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and str(trainer.get("devices", "auto")) == "auto":
        return {**trainer, "devices": int(os.environ["LOCAL_WORLD_SIZE"])}
    return dict(trainer)


def check_launch(trainer: pl.Trainer) -> None:
    """Check that a Trainer expects the processes that there are or will be.

    Raises:
        InputError: torchrun has started more or fewer, or nothing starts those of other machines.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        own = getattr(trainer.strategy, "cluster_environment", None)
        if (
            trainer.num_nodes > 1
            and isinstance(own, LightningEnvironment)
            and "NODE_RANK" not in os.environ
        ):
            raise InputError(
                f"trainer.num_nodes={trainer.num_nodes} needs torchrun or srun, which start "
                "train.py on each machine, got neither: see conf/trainer/multinode.yaml, or use "
                "trainer=ddp"
            )
        return
    started, expected = int(os.environ["WORLD_SIZE"]), trainer.num_devices * trainer.num_nodes
    if started != expected:
        raise InputError(
            f"torchrun has started {started} processes, the Trainer expects {expected}: use "
            "trainer=ddp, or trainer=multinode with as many trainer.num_nodes as --nnodes, and "
            "leave trainer.devices away"
        )


class TogetherToTheEnd(pl.Callback):
    """Has all ranks wait until rank 0 has written its files; put it last in the list.

    A process that is ended by its threads, as gloo's do, takes the others with it.
    """

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Wait."""
        trainer.strategy.barrier("files")


@contextmanager
def finished_in_spite_of_aborts(folder: Path) -> Iterator[None]:
    """Take it for a success if a process is aborted after the run's summary has been written.

    Threads of gloo may abort a process that has ended its work.

    Args:
        folder: Folder of the run.

    Raises:
        ProcessExitedException: A process has ended otherwise, or before.
    """
    summary = folder / "summary.json"
    before = summary.stat().st_mtime_ns if summary.is_file() else None
    try:
        yield
    except ProcessExitedException as error:
        written = summary.is_file() and summary.stat().st_mtime_ns != before
        if error.signal_name != "SIGABRT" or not written:
            raise
