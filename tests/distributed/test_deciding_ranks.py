"""λ, the learning rate and the end of training are decided alike on ranks with unequal shards."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from processes import run_apart

SCRIPT = Path(__file__).parent / "two_deciding_ranks.py"


@pytest.mark.slow
@pytest.mark.ddp
def test_ranks_with_unequal_shards_decide_alike(tmp_path: Path) -> None:
    run_apart(SCRIPT, str(tmp_path), leaves=tmp_path / "rank1.json")
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1))
    # Both see the same sums over ranks, to the last bit.
    assert first == second
    steps = first["steps"]
    ratios = [
        [after / before for before, after in pairwise(row[column] for row in steps)]
        for column in (1, 2)
    ]
    # Oracle: the factors that the callbacks were given; all three kinds of decision were taken.
    assert [ratio for ratio in ratios[0] if ratio != 1] == pytest.approx([0.3])
    assert [ratio for ratio in ratios[1] if ratio != 1] == pytest.approx([0.5] * 2)
    assert steps[-1][0] < 60
    assert [stops for *_, stops in steps] == [0.0] * (len(steps) - 1) + [1.0]
