"""Trains cells of every experiment on one, two and four processes: ``… <folder>``.

Libraries are imported and conf/ is read once. The processes are forks that train one cell after
another. Several of them are told apart as those of torchrun.
"""

import copy
import os
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from experiment_cells import TABLE, Cell
from experiments import CONF
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict
from PIL import Image
from pytorch_lightning.utilities import rank_zero_only
from torch import distributed

from lightning_lazy.resolvers import register_resolvers
from lightning_lazy.training import train

# devices=auto, as it is in trainer=ddp: those that torchrun has started, or one CPU.
COMMON = (
    "hydra.mode=RUN", "trainer=ddp", "trainer.accelerator=cpu", "trainer.precision=64-true",
    "figures.learning_curve=null", "callbacks.progress_bar=null",
)  # fmt: skip


class Run(NamedTuple):
    """A configuration and the folder that it is trained in."""

    config: DictConfig
    folder: Path


def draw_pictures(folder: Path) -> None:
    """Draw images of 32×32 pixels in three classes."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 16), ("test", 11)):
        for label in range(3):
            own = folder / split / str(label)
            own.mkdir(parents=True)
            for number in range(count):
                level = 40 + 70 * label + generator.integers(60, size=(32, 32, 3))
                Image.fromarray(level.astype(np.uint8)).save(own / f"{number:02}.png")


def composed() -> Iterator[tuple[str, Cell, DictConfig]]:
    """Give the cells, each with its name and its configuration on several devices."""
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for experiment, cells in TABLE.items():
            for number, cell in enumerate(cells):
                overrides = [f"experiment={experiment}", *COMMON, *cell.overrides]
                config = compose("config", overrides=overrides, return_hydra_config=True)
                yield f"{experiment}-{number}", cell, config


def alone(config: DictConfig, cell: Cell, devices: int) -> DictConfig:
    """Return the configuration of one process that trains on what several train on."""
    config = copy.deepcopy(config)
    config.trainer.strategy, config.trainer.devices = "auto", 1
    if config.batch_size == "full":
        return config
    if not cell.accumulated:
        config.batch_size *= devices
        return config
    batches = devices * config.trainer.get("accumulate_grad_batches", 1)
    with open_dict(config):
        config.trainer.accumulate_grad_batches = batches
    if config.every_n_steps is not None:
        config.trainer.val_check_interval = config.every_n_steps * batches
    return config


def all_runs(folder: Path) -> dict[str, list[Run]]:
    """Return the runs on one process alone, on as many as ``auto`` says, on two and on four."""
    runs: dict[str, list[Run]] = {"alone": [], "auto": [], "2": [], "4": []}
    for name, cell, config in composed():
        for devices in cell.devices:
            runs[str(devices)].append(Run(config, folder / str(devices) / name))
            path = folder / f"alone-{devices}" / name
            if config.batch_size == "full" and devices != cell.devices[0]:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(folder / f"alone-{cell.devices[0]}" / name)
            else:
                runs["alone"].append(Run(alone(config, cell, devices), path))
        if 4 in cell.devices:  # one of each paper, or two
            runs["auto"].append(Run(config, folder / "auto" / name))
            runs["alone"].append(Run(alone(config, cell, 1), folder / "alone-auto" / name))
    return runs


def train_all(runs: list[Run]) -> None:
    """Train in this process, which may be one of several."""
    for composition, folder in runs:
        print(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = copy.deepcopy(composition)
        config.hydra.runtime.output_dir = str(folder)
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config.hydra
        train(config)


def fork(runs: list[Run], log: Path, environment: dict[str, str]) -> int:
    """Start a process that trains and writes to ``log``; return its id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.environ.update(environment)
        rank_zero_only.rank = int(environment.get("RANK", "0"))
        train_all(runs)
        if distributed.is_initialized():
            distributed.barrier()  # what one ends with may end the others
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def environments(devices: int) -> list[dict[str, str]]:
    """Return what torchrun tells each of its processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        {
            "TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            "WORLD_SIZE": str(devices), "LOCAL_WORLD_SIZE": str(devices), "GROUP_RANK": "0",
            "RANK": str(rank), "LOCAL_RANK": str(rank),
        }
        for rank in range(devices)
    ]  # fmt: skip


def train_together(runs: list[Run], told: list[dict[str, str]], folder: Path) -> None:
    """Train in as many processes as are told something; if one fails, end the others."""
    children = {}
    for rank, environment in enumerate(told):
        log = folder / f"{runs[0].folder.parts[len(folder.parts)]}-{rank}.txt"
        children[fork(runs, log, environment)] = log
    while children:
        ended, status = os.wait()
        log = children.pop(ended)
        if status:
            for other in children:
                os.kill(other, signal.SIGKILL)
                os.waitpid(other, 0)
            raise RuntimeError(log.read_text())


def main(folder: Path) -> None:
    """Train all; leave ``done`` behind."""
    os.chdir(folder)
    torch.set_num_threads(1)
    draw_pictures(folder / "pictures")
    runs = all_runs(folder)
    for kind, own in runs.items():
        train_together(own, environments(int(kind)) if kind.isdigit() else [{}], folder)
    (folder / "done").touch()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]).resolve())
