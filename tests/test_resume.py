"""Killed and resumed equals uninterrupted, to the last bit (design, rule 3)."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lightning_lazy import InputError, read_checkpoint

ROOT = Path(__file__).parent.parent

HARNESS = Path(__file__).parent / "faults" / "harness.py"


@pytest.mark.slow
@pytest.mark.parametrize("family", ["mini_batches", "full_batch", "accumulated"])
def test_killed_at_random_moments(family: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(HARNESS), family, str(tmp_path), "4"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(results) == 4
    assert sum(len(one["kills"]) for one in results) >= 4
    for one in results:
        assert one["same_weights"], one
        assert one["same_rows"], one


def train(*arguments: str, folder: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *arguments],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.slow
def test_a_real_process_killed_from_outside(tmp_path: Path) -> None:
    arguments = (
        "optimizer=scaled_adam", "lr=0.003", "max_epochs=40", "checkpoint_every_n_steps=7",
        "data.n_train=300", "model.width=16", "data.augment=true",
    )  # fmt: skip
    assert train(*arguments, "name=whole", folder=tmp_path).wait() == 0
    process = train(*arguments, "name=killed", folder=tmp_path)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/killed/*/checkpoints/last.ckpt")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(random.Random(0).random() * 0.3)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    (killed,), (whole,) = ((tmp_path / "runs" / n).iterdir() for n in ("killed", "whole"))
    assert not (killed / "summary.json").exists()
    assert train(f"ckpt_path={killed}/checkpoints/last.ckpt", folder=tmp_path).wait() == 0
    assert list((tmp_path / "runs").iterdir()).__len__() == 2
    assert (killed / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    one, other = (read_checkpoint(f / "checkpoints/last.ckpt") for f in (killed, whole))
    for name, value in one["state_dict"].items():
        if torch.is_tensor(value):
            assert torch.equal(value, other["state_dict"][name]), name


def test_a_checkpoint_is_replaced_only_by_a_complete_one(tmp_path: Path) -> None:
    from lightning_lazy.checkpoints import write_checkpoint

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
    shutil.rmtree(tmp_path)
