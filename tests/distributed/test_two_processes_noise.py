"""Noisy gradient descent on two gloo processes against one: same noise, same weights, same
decisions."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from processes import run_apart

SCRIPT = Path(__file__).parent / "two_processes_noise.py"


@pytest.mark.slow
@pytest.mark.ddp
def test_ranks_stay_together_under_noise_and_anneal_as_one_process_does(tmp_path: Path) -> None:
    frames, weights = [], []
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        run_apart(SCRIPT, str(devices), str(folder), leaves=folder / "summary.json")
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
