"""Killed and resumed equals uninterrupted, to the last bit (design, rule 3), ten seeds a family.

Oracle: the uninterrupted run of the same seed. Weights of all ranks, the whole metrics file and the
last checkpoint, with the state of every callback, are compared; of a grid its table of cells.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

FAULTS = Path(__file__).parent
SEEDS = 10
# What is decided on the way, or the kills would have met with nothing to remember.
DECISIONS = {"anneal/stage": 2, "l2/decay": 1}  # logged values that show one: the first stage is 0
DECIDING = ("full_batch", "noise", "auto_l2", "ddp")


def results_of(families: tuple[str, ...], folder: Path) -> list[dict[str, Any]]:
    """Kill and resume all seeds of some families in one warm process; return what it found."""
    done = subprocess.run(
        [sys.executable, str(FAULTS / "harness.py"), str(folder), str(SEEDS), *families],
        env=os.environ | {"PYTHONPATH": str(FAULTS.parent / "helpers"), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.parametrize(  # two processes of equal length
    "families",
    [("mini_batches", "full_batch", "accumulated", "noise"), ("auto_l2", "grid", "ddp")],
    ids="-".join,
)
def test_killed_at_random_moments(families: tuple[str, ...], tmp_path: Path) -> None:
    results = results_of(families, tmp_path)
    for family in families:
        own = [one for one in results if one["family"] == family]
        assert [one["seed"] for one in own] == list(range(SEEDS))
        assert sum(len(one["kills"]) for one in own) >= SEEDS
        for one in own:
            assert all(one["same"].values()), one
            if family in DECIDING:
                rows = pd.read_csv(tmp_path / family / f"{one['seed']}-whole" / "metrics.csv")
                counts = rows.count()
                assert any(counts.get(name, 0) >= n for name, n in DECISIONS.items()), one
