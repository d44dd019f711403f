"""Every rank has noise of its own before activations; what is logged of it is the same on all."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import run_apart
from torch import Tensor

SCRIPT = Path(__file__).parent / "two_noisy_ranks.py"
STDS = (0.4, 0.2, 0.1)  # of three updates, by either schedule

pytestmark = [pytest.mark.slow, pytest.mark.ddp]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What one process has kept, and both ranks of two."""
    folder = tmp_path_factory.mktemp("noise")
    for devices in (1, 2):
        last = folder / f"noise-{devices}-{devices - 1}.pt"
        run_apart(SCRIPT, str(devices), str(folder), leaves=last)
    names = [f"noise-{devices}-{rank}.pt" for devices, rank in ((1, 0), (2, 0), (2, 1))]
    return [torch.load(folder / name, weights_only=True) for name in names]


def unlike(one: Tensor, other: Tensor) -> bool:
    """Whether draws are uncorrelated; the correlation of n independent pairs scatters by 1/√n."""
    pairs = torch.stack([one.flatten(), other.flatten()])
    return abs(float(torch.corrcoef(pairs)[0, 1])) < 4 / math.sqrt(one.numel())


@pytest.mark.parametrize("name", ["apart", "shared"])
def test_ranks_have_noise_of_their_own(kept: list[dict[str, Any]], name: str) -> None:
    one, first, second = (rank["seen"][name] for rank in kept)
    # Rank 0 draws what a single process draws, from the same seed for batches of the same shape.
    assert torch.equal(one, first)
    for batch, std in enumerate(STDS):
        mine, others = first[batch], second[batch]
        if name == "shared":  # by all samples and channels
            assert torch.equal(others, others[:1, :1].expand_as(others))
            mine, others = mine[0, 0], others[0, 0]
        assert unlike(mine, others)
        # Oracle: Σ z² of n normal draws is χ² with variance 2n; four standard deviations.
        count = others.numel()
        assert float((others / std).square().sum()) == pytest.approx(
            count, abs=4 * math.sqrt(2 * count)
        )


def test_what_is_logged_is_the_same_on_all_ranks(kept: list[dict[str, Any]]) -> None:
    one, first, second = (rank["metrics"] for rank in kept)
    assert one == first == second
    assert one["noise/std/apart"] == pytest.approx(STDS[-1])
    assert one["noise/std/shared"] == pytest.approx(STDS[-1])
    assert one["noise/gradient_std"] == pytest.approx(0.1 / 4)


def test_noise_of_their_own_does_not_drive_weights_apart(kept: list[dict[str, Any]]) -> None:
    one, first, second = (rank["weights"] for rank in kept)
    assert torch.equal(first, second)
    assert not torch.equal(one, first)
