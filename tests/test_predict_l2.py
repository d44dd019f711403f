"""The recipe that predicts l2 from one short run. Oracle: the law of the paper, as measured."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_short_run_predicts_l2_for_a_budget(train: Callable[..., str], data_root: Path) -> None:
    out = train(
        "experiment=lewkowycz/predict_l2_quick", f"data.root={data_root}", "budget=500",
        "max_steps=60", "callbacks.progress_bar=null",
    )  # fmt: skip
    (folder,) = Path("runs/lewkowycz/predict_l2_quick").iterdir()
    metrics = json.loads((folder / "summary.json").read_text())["metrics"]
    # Without momentum lr·l2·t* is 0.3 to 0.6 on average; one seed scatters by a factor of two.
    assert 0.2 < metrics["l2/peak_lr_c"] < 0.9
    assert metrics["l2/peak_c"] == pytest.approx(0.01 * metrics["l2/peak_epoch"])
    assert metrics["l2/predicted"] == pytest.approx(metrics["l2/peak_c"] / 500)
    assert f"predicted l2 for 500 epochs: {metrics['l2/predicted']:.4g}" in out
