"""A few mistakes as a process meets them: stderr and the exit code are those of a shell."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TRAIN = Path(__file__).parents[2] / "train.py"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["alpha=0"], "error: alpha must be finite and above 0, got 0; change alpha"),
        (
            ["alpha=${nothing}"],
            "error: alpha: Interpolation key 'nothing' not found (see: python train.py --help)",
        ),
        (
            ["model=two_layer", "trainer.max_epochs=soon"],
            "error: max_epochs must be a whole number or null, got 'soon'; change max_epochs",
        ),
    ],
)
def test_stderr_is_one_line(tmp_path: Path, arguments: list[str], line: str) -> None:
    done = subprocess.run(
        [sys.executable, str(TRAIN), *arguments],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HYDRA_FULL_ERROR": "0"},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == f"{line}\n"
    assert not list(tmp_path.rglob("*.ckpt"))
