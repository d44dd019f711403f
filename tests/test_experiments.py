"""The paper's conclusions in the quick experiments."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest


@pytest.mark.slow
def test_kanoh_fig6_quick_flips_the_ranking_of_small_and_large_alpha(
    train: Callable[..., str], data_root: Path
) -> None:
    # Kanoh & Sugiyama 2021, figure 6; spec: a gap above 0.5 in each direction, on any seed.
    out = train(
        "experiment=kanoh/fig6_quick",
        f"data.root={data_root}",
        "alpha=1e-3,1e3",
        "optimizer=rmsprop,scaled_rmsprop",
    )
    (folder,) = Path("runs/kanoh/fig6_quick").iterdir()
    cells = pd.read_csv(folder / "cells.csv").set_index(["optimizer", "alpha"])
    acc, signs = cells["val/acc"], cells["lazy/sign_consistency"]
    assert acc["RMSprop", 1e-3] - acc["RMSprop", 1e3] > 0.5
    assert acc["ScaledRMSprop", 1e3] - acc["ScaledRMSprop", 1e-3] > 0.5
    assert signs["ScaledRMSprop", 1e3] > 0.9 > signs["ScaledRMSprop", 1e-3]
    assert (folder / "figures/fig6.png").is_file()
    assert "figures/fig6.png" in out
