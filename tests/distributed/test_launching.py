"""Who starts processes: configurations, torchrun and SLURM, strategies inside a multirun."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import experiments
import pandas as pd
import pytest
import pytorch_lightning as pl
from torch.multiprocessing import ProcessExitedException

from lightning_lazy import InputError
from lightning_lazy.build import build
from lightning_lazy.processes import (
    asks_for_several,
    finished_in_spite_of_aborts,
    rank_arguments,
    refuse_subprocesses,
)

ROOT = Path(__file__).parents[2]
TWO = {"accelerator": "cpu", "devices": 2, "strategy": "ddp"}


@pytest.fixture(autouse=True)
def _started_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "SLURM_NTASKS", "SLURM_PROCID")
    for name in names:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("member", "nodes"), [("ddp", 1), ("multinode", 2)])
def test_configurations_of_several_devices(member: str, nodes: int) -> None:
    plain = experiments.composed(f"trainer={member}", "trainer.accelerator=cpu")
    trainer = build(plain["trainer"] | {"devices": 2}, logger=False)
    assert trainer.num_nodes == nodes
    assert trainer.world_size == 2 * nodes
    assert isinstance(trainer.strategy, pl.strategies.DDPStrategy)
    assert plain["trainer"]["use_distributed_sampler"] is False  # the datamodules shard


def test_all_devices_of_a_cpu_are_one() -> None:
    plain = experiments.composed("trainer.devices=auto")
    assert build(plain["trainer"], logger=False).world_size == 1
    assert not asks_for_several(plain["trainer"])
    refuse_subprocesses(plain["trainer"])


@pytest.mark.parametrize(
    ("devices", "several"), [(1, False), ("1", False), ([0], False), ([0, 1], True), (2, True)]
)
def test_what_asks_for_several_devices(devices: object, several: bool) -> None:
    assert asks_for_several({"accelerator": "gpu", "devices": devices}) is several
    assert asks_for_several({"devices": devices, "num_nodes": 2})


def test_subprocesses_are_refused_inside_a_multirun(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"use trainer.strategy=ddp_spawn, or one run at a time"):
        refuse_subprocesses(TWO)
    for strategy in ("ddp_spawn", "ddp_fork"):
        refuse_subprocesses(TWO | {"strategy": strategy})
    monkeypatch.setenv("SLURM_NTASKS", "2")  # a job of submitit, with a task for each device
    refuse_subprocesses(TWO)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(InputError, match="torchrun starts one run on several devices"):
        refuse_subprocesses(TWO)


def test_processes_of_torchrun_and_slurm_share_the_folder_of_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given, several = ["lr=2"], ["lr=2", "trainer=multinode"]
    nowhere = ["hydra.run.dir=.", "hydra.output_subdir=null"]
    assert rank_arguments(several) == several
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert rank_arguments(given) == given  # a run of its own
    assert rank_arguments(several) == [*several, *nowhere]
    resumed = [*several, "hydra.run.dir='runs/default/then'"]
    assert rank_arguments(resumed) == resumed
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    for rank, expected in (("0", given), ("3", [*given, *nowhere])):
        monkeypatch.setenv("RANK", rank)
        assert rank_arguments(given) == expected


def aborted(name: str) -> ProcessExitedException:
    return ProcessExitedException(name, 1, 42, exit_code=-6, signal_name=name)


def test_an_abort_after_the_summary_is_no_failure(tmp_path: Path) -> None:
    with finished_in_spite_of_aborts(tmp_path):
        (tmp_path / "summary.json").write_text("{}")
        raise aborted("SIGABRT")
    # What a run before has left says nothing.
    with pytest.raises(ProcessExitedException), finished_in_spite_of_aborts(tmp_path):
        raise aborted("SIGABRT")


def test_a_kill_after_the_summary_is_one(tmp_path: Path) -> None:
    with pytest.raises(ProcessExitedException), finished_in_spite_of_aborts(tmp_path):  # noqa: PT012
        (tmp_path / "summary.json").write_text("{}")
        raise aborted("SIGKILL")


def none_is_left(group: int) -> bool:
    """Whether all processes of a group have ended, some seconds after the first one."""
    for _ in range(50):
        command = ["ps", "-A", "-o", "pgid=,stat="]
        rows = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split(
            "\n"
        )
        found = [row.split() for row in rows if row.strip()]
        # Z has ended; whoever has inherited it has not looked yet.
        if not any(int(own) == group and state[0] != "Z" for own, state in found):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.slow
@pytest.mark.ddp
def test_a_multirun_on_two_processes_leaves_a_folder_a_job_and_no_process(tmp_path: Path) -> None:
    overrides = (
        "data.n_train=41", "data.n_val=21", "model.width=6", "batch_size=full", "max_steps=3",
        "every_n_steps=1", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2",
        "trainer.strategy=ddp_spawn,ddp_fork", "figures.learning_curve=null",
    )  # fmt: skip
    running = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), "-m", *overrides], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        _, errors = running.communicate(timeout=200)
        assert running.returncode == 0, errors
        assert none_is_left(running.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
    (sweep,) = (tmp_path / "runs/default").iterdir()
    jobs = sorted(path.name for path in sweep.iterdir() if path.is_dir())
    assert jobs == ["0", "1"]
    one, other = (pd.read_csv(sweep / job / "metrics.csv") for job in jobs)
    assert one["step"].iloc[-1] == 3
    pd.testing.assert_frame_equal(one, other)  # however its processes were started
    assert all((sweep / job / "summary.json").is_file() for job in jobs)
