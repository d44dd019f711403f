"""Shards of a grid: SLURM tasks by submitit, and processes started by hand."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from submitit.core.utils import FailedJobError

from lightning_lazy.stacked import missing_shards, read_cells

Train = Callable[..., str]
TRAIN = Path(__file__).parent.parent / "train.py"
# Twelve cells, each a stack of its own, so that its numbers do not depend on its neighbours.
SMALL = (
    "experiment=kanoh/phase_diagram_quick", "data=digits", "data.resolution=null", "data.n_val=60",
    "data.n_train=40", "model.width=8", "max_steps=20", "stacked.axes.alpha=[0.1,10]",
    "stacked.axes.lr=1e-3:1e-1:3", "stacked.axes.optimizer=[sgd,adam]",
    "stacked.memory_budget=60000", "++figures.paper=null", "sweep_figure=null",
)  # fmt: skip


def cells(folder: Path) -> pd.DataFrame:
    """The table without the times, which no two runs share."""
    return read_cells(folder).drop(columns="seconds")


@pytest.fixture
def whole(train: Train) -> pd.DataFrame:
    """The grid in one process."""
    train(*SMALL, "hydra.mode=RUN", "hydra.run.dir=whole")
    return cells(Path("whole"))


@pytest.mark.slow
def test_tasks_of_submitit_make_the_grid(train: Train, whole: pd.DataFrame) -> None:
    train(*SMALL, "stacked.shard=1/2,2/2", "hydra/launcher=submitit_local")
    (folder,) = Path("runs/kanoh/phase_diagram_quick").iterdir()
    assert [len(read_cells(folder / str(job))) for job in range(2)] == [6, 6]
    pd.testing.assert_frame_equal(cells(folder), whole, rtol=0, atol=0)
    tasks = {path.parent.name for path in folder.glob(".submitit/*/*_result.pkl")}
    assert len(tasks) == 2, "each in a process of its own"
    assert "already finished" in train(*SMALL, "stacked.shard=1/2,2/2")


@pytest.mark.slow
def test_processes_by_hand_make_the_grid(train: Train, whole: pd.DataFrame) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(TRAIN), *SMALL, f"stacked.shard={shard}"], env=environment
        )
        for shard in ("1/2", "2/2")
    ]
    assert [process.wait() for process in processes] == [0, 0]
    runs = Path("runs/kanoh/phase_diagram_quick")
    assert len(list(runs.iterdir())) == 2, "each in a folder of its own"
    assert missing_shards(runs) == {}
    pd.testing.assert_frame_equal(cells(runs), whole, rtol=0, atol=0)


def test_slurm_gets_a_job_for_every_shard(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A queue that notes what it is given and takes nothing.
    for name, line in (("sbatch", f'cp "$1" {tmp_path}/script.sh; exit 1'), ("srun", "exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(FailedJobError):
        train(
            *SMALL, "stacked.shard=1/3,2/3,3/3", "hydra/launcher=slurm",
            "hydra.launcher.partition=fast", "+hydra.launcher.additional_parameters.nice=5",
        )  # fmt: skip
    script = (tmp_path / "script.sh").read_text().splitlines()
    for setting in (
        "array=0-2%3", "partition=fast", "gpus-per-node=1", "cpus-per-task=4", "mem=16GB",
        "time=720", "nice=5", "job-name=kanoh/phase_diagram_quick",
    ):  # fmt: skip
        assert f"#SBATCH --{setting}" in script
    assert not list(Path("runs").rglob("cells.csv"))
