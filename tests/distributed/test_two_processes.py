"""Any device count, the same number (design, rule 2): two gloo processes against one."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from processes import run_apart

from lightning_lazy import read_checkpoint

SCRIPT = Path(__file__).parent / "two_processes.py"


@pytest.mark.slow
@pytest.mark.ddp
def test_two_processes_log_what_one_logs_on_the_union_of_the_shards(tmp_path: Path) -> None:
    frames, patterns = [], []
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        run_apart(SCRIPT, str(devices), str(folder), leaves=folder / "summary.json")
        frames.append(pd.read_csv(folder / "metrics.csv"))
        states = read_checkpoint(folder / "checkpoints" / "last.ckpt")["callbacks"]
        patterns.append(states["ActivationStability"]["initial"]["bits"])
    one, two = frames
    assert list(one.columns) == list(two.columns)
    # Double precision; sums in another order. Shares are ratios of counts: equal to the last bit
    # as long as no pre-activation is within rounding of 0.
    np.testing.assert_allclose(one.to_numpy(float), two.to_numpy(float), rtol=1e-12)
    stability = one["lazy/activation_stability"].dropna()
    assert 0.5 < stability.iloc[-1] < 1
    assert one["l2/decay"].notna().any()
    for name, bits in patterns[0].items():
        assert (bits == patterns[1][name]).all()
