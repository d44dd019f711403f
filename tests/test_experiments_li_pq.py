"""The experiment on the P/Q distribution of Li, Wei & Ma 2019. Oracles: the closed forms of theory,
and the order of learning that the paper describes."""

import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from experiments import composed

from lightning_lazy.build import build
from lightning_lazy.figures.__main__ import redraw
from lightning_lazy.figures.frames import read_metrics


def test_the_quick_experiment_changes_sizes_only() -> None:
    paper, quick = (composed(f"experiment=li/pq{end}") for end in ("", "_quick"))
    for group in ("loss", "optimizer", "schedule", "centering", "sweep_figure"):
        assert paper[group] == quick[group], group
    for key in ("eps_1", "stop", "large_lr", "small_lr"):
        assert paper[key] == quick[key]
    sizes = {"dimension", "n_train", "n_val", "r"}
    for key, value in quick["data"].items():
        assert key in sizes or paper["data"][key] == value
    for plain in (paper, quick):
        d = plain["data"]["dimension"]
        assert plain["data"]["n_train"] == 4 * d  # d/κ², κ = 1/2
        assert plain["data"]["p0"] == 0.5**2 / 2
        # The constants in front of the theorems' powers of d are the same at any size.
        assert plain["data"]["r"] * d**0.75 == pytest.approx(12.9)
        assert plain["l2"] * d**1.25 == pytest.approx(0.52)


@pytest.mark.parametrize("arm", ["large", "small", "noise"])
def test_an_arm_is_the_algorithm_of_the_paper(arm: str) -> None:
    plain = composed("experiment=li/pq_quick", f"cell.arm={arm}")
    anneal = build(plain["callbacks"]["anneal_on_loss"])
    noise = build(plain["callbacks"]["gradient_noise"])
    large, small, l2, tau = (plain["large_lr"], plain["small_lr"], plain["l2"], 0.5)
    # The noise is the same in all arms: it keeps the variance of the start at the large rate (3.3).
    kept = (1 - large * l2) ** 2 * tau**2 + large**2 * noise.std**2
    assert kept == pytest.approx(tau**2, rel=1e-12)
    assert plain["model"]["tau"] == tau
    assert plain["optimizer"]["lr"] == (large if arm == "large" else small)
    assert anneal.stop == plain["stop"]
    assert anneal.probe.size == plain["data"]["n_train"]
    if arm == "large":
        assert anneal.thresholds == pytest.approx([0.3 + 0.2 * math.log(2)])
        assert anneal.factors == pytest.approx([small / large])
    else:
        assert anneal.thresholds == []
    extra = plain["callbacks"]["pre_activation_noise"]
    assert (extra is not None) == (arm == "noise")


@pytest.mark.slow
def test_q_is_learnt_at_once_with_a_small_rate_and_late_with_a_large_one_or_noise(
    train: Callable[..., str],
) -> None:
    train(
        "experiment=li/pq_quick", "seed=0", "data.dimension=80", "data.n_val=200",
        "model.v_width=1500", "model.width=100", "stop=0.4",
    )  # fmt: skip
    (folder,) = Path("runs/li/pq_quick").iterdir()
    cells = pd.read_csv(folder / "cells.csv").set_index("cell.arm")
    runs = {arm: read_metrics(folder / Path(path).name) for arm, path in cells["folder"].items()}
    bend, lr = "pattern/second_difference", {"large": 10, "small": 1, "noise": 1}
    annealed = {
        "large": runs["large"].loc[runs["large"]["anneal/stage"] == 1, "step"].iloc[0],
        "noise": 4 * 80,
    }
    before = {arm: _at(run, bend, annealed.get(arm, 4 * 80)) for arm, run in runs.items()}
    # Lemma 4.2: what tells the labels of Q apart is small until annealing.
    assert before["noise"] < 0.25 * before["small"]
    assert before["large"] < 0.75 * before["small"]
    assert cells.loc["large", bend] > 1.5 * before["large"]
    assert cells.loc["noise", bend] > 3 * before["noise"]
    for arm, run in runs.items():
        assert cells.loc[arm, "train/loss"] < 0.41
        assert run["step"].max() * lr[arm] < 2000
        # All arms learn P; at this size the error of the small rate is no larger.
        assert cells.loc[arm, "val/p_only/acc"] > 0.95
    # The noise part keeps its size while the rate is large: 3,000 entries of V, 4 s.e.
    large = runs["large"]
    kept = large.loc[large["step"] <= annealed["large"], "pattern/v_noise"].dropna()
    assert (kept / 0.5 - 1).abs().max() < 4 / math.sqrt(2 * 3000)
    (folder / "figures/pq.png").unlink()
    redraw(folder)
    assert (folder / "figures/pq.png").is_file()


def _at(run: pd.DataFrame, metric: str, step: int) -> float:
    rows = run[["step", metric]].dropna()
    return float(rows.loc[rows["step"] <= step, metric].iloc[-1])
