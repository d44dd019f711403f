"""The bar's numbers are reduced over ranks, which takes all of them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_bar_on_rank_0_waits_for_nobody(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, str(ROOT / "train.py"), "++trainer.strategy=ddp", "trainer.devices=2",
            "trainer.accelerator=cpu", "max_epochs=2", "data.n_train=64", "data.n_val=32",
            "callbacks.progress_bar.refresh_rate=1", "figures.learning_curve=null",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "val/acc=" in done.stdout + done.stderr  # the bar
