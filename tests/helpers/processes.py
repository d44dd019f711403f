"""Scripts that train on several processes, and what they have in common."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from trainers import QUIET


def run_apart(script: Path, *arguments: str, leaves: Path) -> None:
    """Run a script with the helpers of tests on its path; it must leave a file behind.

    gloo's threads may abort a process that has ended its work, so its exit says nothing.
    """
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert leaves.is_file(), done.stderr


def run_once(factory: pytest.TempPathFactory, script: Path) -> Path:
    """Run a script that fills a folder, for all of pytest's workers: the first does, others wait.

    It is given the folder, and leaves ``done`` there.
    """
    top = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        top = top.parent
    folder = top / script.stem
    with (top / f"{script.stem}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").is_file():
            folder.mkdir()
            run_apart(script, str(folder), leaves=folder / "done")
    return folder


def double_trainer(devices: int, **arguments: Any) -> pl.Trainer:
    """Return a Trainer on processes of the CPU in double precision, one thread each, seed 0."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    own = {"devices": devices, "strategy": "ddp_spawn" if devices > 1 else "auto"}
    return pl.Trainer(**(QUIET | own | {"precision": "64-true"} | arguments))
