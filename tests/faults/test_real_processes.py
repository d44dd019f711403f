"""Runs of ``train.py`` that are killed from outside go on, by the README's commands, bit for bit.

One run of each family, at a random moment after its first checkpoint. Oracle: the same run, which
nobody kills, in the process of this test; of several ranks, in forks of another process.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from grids import cells_of

from lightning_lazy import read_checkpoint

TRAIN = str(Path(__file__).parents[2] / "train.py")
ALONE = [sys.executable, TRAIN]
TORCHRUN = [
    sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", TRAIN
]  # fmt: skip

pytestmark = pytest.mark.slow

QUICK = ("figures.learning_curve=null", "callbacks.progress_bar=null", "data.n_val=50")
TWO_LAYER = (
    "data.n_train=150", "batch_size=30", "max_epochs=60", "model.width=16", "data.augment=true",
    "optimizer=scaled_adam", "lr=0.003", "checkpoint_every_n_steps=7", *QUICK
)  # fmt: skip
NOISY_CNN = (
    "model=vgg_narrow", "model.plan=[4,M,8,M]", "model.batch_norm=true", "data.n_train=110",
    "batch_size=20", "data.augment=true", "loss=cross_entropy", "optimizer=momentum", "lr=0.05",
    "schedule=inverse_time", "+trainer.accumulate_grad_batches=2", "checkpoint_every_n_steps=4",
    "+callbacks.noise._target_=lightning_lazy.callbacks.PreActivationNoise",
    "+callbacks.noise.std=0.3", "+callbacks.noise.schedule=lr",
    "+callbacks.gradient._target_=lightning_lazy.callbacks.GradientNoise",
    "+callbacks.gradient.std=0.01", *QUICK,
)  # fmt: skip
AUTO_L2 = (
    "callbacks=auto_l2", "callbacks.auto_l2.refractory=0.03", "loss=normalized_softmax",
    "data.n_train=150", "batch_size=30", "max_epochs=40", "model.width=16", "centering=none",
    "optimizer=momentum", "lr=0.03", "checkpoint_every_n_steps=6", *QUICK
)  # fmt: skip
GRID = (
    "experiment=kanoh/phase_diagram_quick", "data=digits", "data.resolution=null",
    "data.n_train=40", "data.n_val=50", "model.width=8", "max_steps=200",
    "stacked.axes.alpha=1e-2:1e2:5", "stacked.axes.lr=1e-3:1e5:5", "stacked.memory_budget=300000",
    "stacked.checkpoint_every_n_steps=20", "stacked.check_every_n_steps=10", "figures.paper=null",
    "callbacks.progress_bar=null", "sweep_figure=null",
)  # fmt: skip
# Three batches of each rank make an epoch, of which the last one makes an update of its own.
RANKS = (*NOISY_CNN, "max_epochs=30", "trainer=ddp", "trainer.accelerator=cpu")


def start(command: list[str], *arguments: str, folder: Path) -> "subprocess.Popen[bytes]":
    with (folder / "errors").open("w") as errors:
        return subprocess.Popen(
            [*command, *arguments], cwd=folder, stdout=subprocess.DEVNULL, stderr=errors,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip


def run(command: list[str], *arguments: str, folder: Path) -> None:
    code = start(command, *arguments, folder=folder).wait()
    assert code == 0, (folder / "errors").read_text()


def descendants(pid: int) -> list[int]:
    """The process and all that it has started."""
    rows = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    parents = dict(map(int, row.split()) for row in rows)
    family = [pid]
    for one in family:
        family += [child for child, parent in parents.items() if parent == one]
    return family


def kill_after_a_checkpoint(command: list[str], arguments: tuple[str, ...], folder: Path) -> Path:
    """Run until some moment after the first checkpoint; kill all processes of the run at once.

    Returns:
        The checkpoint.
    """
    process = start(command, *arguments, "name=killed", folder=folder)
    deadline = time.monotonic() + 120
    while not (found := list(folder.glob("runs/killed/**/last.ckpt"))):
        assert process.poll() is None, (folder / "errors").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(random.Random(str(arguments)).random() * 0.2)
    for pid in descendants(process.pid):
        os.kill(pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not list(folder.glob("runs/killed/**/summary.json"))
    return found[0]


def assert_same_training(folder: Path) -> None:
    (killed,), (whole,) = ((folder / "runs" / n).iterdir() for n in ("killed", "whole"))
    assert sorted(path.name for path in (folder / "runs").iterdir()) == ["killed", "whole"]
    assert (killed / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    one, other = (read_checkpoint(f / "checkpoints/last.ckpt") for f in (killed, whole))
    for name, value in one["state_dict"].items():
        if torch.is_tensor(value):
            assert torch.equal(value, other["state_dict"][name]), name


@pytest.mark.parametrize(
    "arguments",
    [TWO_LAYER, (*NOISY_CNN, "max_epochs=50"), AUTO_L2],
    ids=["two_layer", "noisy_cnn", "auto_l2"],
)
def test_a_killed_run_goes_on(
    arguments: tuple[str, ...], train: Callable[..., str], tmp_path: Path
) -> None:
    last = kill_after_a_checkpoint(ALONE, arguments, tmp_path)
    run(ALONE, f"ckpt_path={last}", folder=tmp_path)
    train(*arguments, "name=whole")
    assert_same_training(tmp_path)


def test_a_killed_grid_goes_on(train: Callable[..., str], tmp_path: Path) -> None:
    kill_after_a_checkpoint(ALONE, GRID, tmp_path)
    run(ALONE, *GRID, "name=killed", folder=tmp_path)  # the same command
    train(*GRID, "name=whole")
    (killed,), (whole,) = (
        [path.parent for path in (tmp_path / "runs" / name).glob("**/cells.csv")]
        for name in ("killed", "whole")
    )
    table = cells_of(whole)
    assert table.equals(cells_of(killed))
    assert (table["steps"] < 200).any()  # some have diverged: chunks shrink on the way
    assert len(table) == 75


@pytest.mark.ddp
def test_killed_ranks_go_on(tmp_path: Path) -> None:
    forks = ("trainer.devices=2", "trainer.strategy=ddp_fork")
    last = kill_after_a_checkpoint(TORCHRUN, RANKS, tmp_path)
    run(TORCHRUN, f"ckpt_path={last}", folder=tmp_path)
    run(ALONE, *RANKS, *forks, "name=whole", folder=tmp_path)
    assert_same_training(tmp_path)
