"""Noisy gradient descent on two gloo processes against one: same noise, same weights, same
decisions."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

SCRIPT = Path(__file__).parent / "two_processes_noise.py"


@pytest.mark.slow
@pytest.mark.ddp
def test_ranks_stay_together_under_noise_and_anneal_as_one_process_does(tmp_path: Path) -> None:
    frames, weights = [], []
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        done = subprocess.run(
            [sys.executable, str(SCRIPT), str(devices), str(folder)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        # gloo's threads may abort a process that has ended its work.
        assert (folder / "summary.json").is_file(), done.stderr
        frames.append(pd.read_csv(folder / "metrics.csv"))
        weights += [
            torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(devices)
        ]
    one, first, second = (torch.cat([p.flatten() for p in parts]) for parts in weights)
    assert torch.equal(first, second)
    # Double precision; sums in another order, over up to 40 updates.
    torch.testing.assert_close(first, one, rtol=1e-9, atol=1e-11)
    assert list(frames[0].columns) == list(frames[1].columns)
    np.testing.assert_allclose(
        frames[0].to_numpy(float), frames[1].to_numpy(float), rtol=1e-8, atol=1e-10
    )
    assert frames[0]["anneal/stage"].max() == 1
