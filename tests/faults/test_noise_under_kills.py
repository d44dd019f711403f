"""Noise, and what is decided on the training loss, under kills (design, rule 3)."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

HARNESS = Path(__file__).parent / "harness.py"
RUNS = 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "decided"),
    [("noise", ["anneal/stage", "noise/std", "noise/std/shared"]), ("auto_l2", ["l2/decay"])],
)
def test_killed_at_random_moments(family: str, decided: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(HARNESS), family, str(tmp_path), str(RUNS)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(results) == RUNS
    assert sum(len(one["kills"]) for one in results) >= RUNS
    for one in results:
        assert one["same_weights"], one
        assert one["same_rows"], one
        rows = pd.read_csv(tmp_path / f"{one['seed']}-whole" / "metrics.csv")
        for name in decided:  # or the kills would have met with nothing to remember
            assert rows[name].count() > 1, (name, one)
