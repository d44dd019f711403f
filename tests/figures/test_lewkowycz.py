"""Figures of Lewkowycz & Gur-Ari 2020 from files written by hand.

Oracle: runs whose accuracy peaks at a time that is chosen, so that exponents, coefficients and
budgets are known in closed form.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from lightning_lazy.figures.lewkowycz import fig1a, fig1c, fig2, fig3, fig4, s1, s5, s6, s8
from lightning_lazy.figures.lewkowycz.budgets import read_tuning
from lightning_lazy.figures.lewkowycz.cells import best_within, exponent, law_cells, peak_cells

ETA = 0.5
KNOBS: dict[str, Any] = {
    "alpha": 1.0,
    "lr": ETA,
    "l2": 0.0,
    "seed": 0,
    "optimizer": {"_target_": "torch.optim.SGD"},
    "schedule": {"_target_": "lightning_lazy.optim.Constant"},
    "model": {"_target_": "lightning_lazy.models.FullyConnected", "batch_norm": False},
    "budgets": {"lr": ETA, "epochs": [4, 40]},
    "wanted_updates": 200.0,
    "max_steps": 200,
}


def write_run(
    folder: Path, peak: float, length: int = 200, best: float = 0.9, **config: Any
) -> None:
    """Write a run of so many steps, an epoch each, whose test accuracy rises to its peak.

    It is a tent: best − 0.01·|t − peak|/peak·10, so within 0.005 of it from 0.95·peak on.
    """
    folder.mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(KNOBS | config), folder / "config.yaml")
    time = np.arange(1, length + 1)
    table = pd.DataFrame(
        {
            "step": time,
            "epoch": time,
            "val/acc": best - 0.1 * np.abs(time / peak - 1),
            "train/acc": np.minimum(1.0, time / 10),
            "train/loss": 0.1 + (time / peak - 1) ** 2,
            "val/loss": 0.2 + (time / peak - 1) ** 2,
            "l2/coefficient": 0.1 / time,
        }
    )
    table.to_csv(folder / "metrics.csv", index=False)
    summary = {"metrics": {"val/acc": best}, "diverged": False, "steps": length}
    (folder / "summary.json").write_text(json.dumps(summary))


def write_sweep(folder: Path) -> None:
    """Write runs with ηλt* = 1 at two η, and one that was cut."""
    for number, (lr, l2) in enumerate([(ETA, 0.02), (ETA, 0.04), (ETA, 0.1), (1.0, 0.02)]):
        write_run(folder / str(number), 1 / (lr * l2), lr=lr, l2=l2)
    write_run(folder / "4", 1000, l2=0.002, wanted_updates=2000.0)
    write_run(folder / "5", 30, l2=0.0, best=0.8, wanted_updates=2000.0)


def test_times_of_peaks_follow_the_law_they_were_made_with(tmp_path: Path) -> None:
    write_sweep(tmp_path)
    cells = peak_cells(tmp_path)
    # Within 0.005 = 0.1·0.05 of the best from t = 0.95·peak on, at whole epochs.
    assert cells["t*"].tolist()[:4] == [95, 48, 19, 48]
    assert cells["best"].tolist()[:4] == pytest.approx([0.9] * 4)
    assert cells["cut"].tolist() == [False] * 4 + [True, False]
    assert cells["fitted at"].tolist() == [10.0] * 6
    assert cells["acc then"][0] == pytest.approx(0.9 - 0.1 * 0.9)
    law = law_cells(cells)
    assert sorted(law["folder"].str[-1]) == ["0", "1", "2", "3"]
    # Of 95, 48 and 19 instead of 95, 47.5 and 19.
    assert exponent(law[law["lr"] == ETA]) == pytest.approx(1.0, abs=0.01)
    assert np.isnan(exponent(law[law["lr"] == 1.0]))


def test_a_run_that_did_not_train_takes_no_part_in_the_law(tmp_path: Path) -> None:
    write_run(tmp_path / "0", 20, l2=0.1)
    write_run(tmp_path / "1", 2, l2=1.0, best=0.4)
    assert law_cells(peak_cells(tmp_path))["l2"].tolist() == [0.1]


def test_the_best_within_a_budget_is_that_of_the_first_epochs(tmp_path: Path) -> None:
    write_run(tmp_path / "0", 100)
    assert best_within(tmp_path / "0", 50) == pytest.approx(0.9 - 0.1 * 0.5)
    assert best_within(tmp_path / "0", 1000) == pytest.approx(0.9)
    assert np.isnan(best_within(tmp_path / "0", 0.5))


def test_one_sweep_draws_times_and_curves(tmp_path: Path) -> None:
    write_sweep(tmp_path)
    names = [path.name for path in fig2(tmp_path)]
    assert names == ["fig2.png", "s1.png", "s6.png"]
    assert all((tmp_path / "figures" / name).is_file() for name in names)
    assert [path.name for path in s1(tmp_path)] == ["s1.png"]
    assert [path.name for path in s5(tmp_path)] == ["s5.png"]
    assert [path.name for path in s6(tmp_path)] == ["s6.png"]


def test_figures_do_with_what_is_there(tmp_path: Path) -> None:
    # No run with BatchNorm, none of another η, none that is fitted.
    write_run(tmp_path / "0", 20, l2=0.1, length=5)
    for draw in (fig2, fig3, s1, s5):
        assert draw(tmp_path)[0].is_file()
    # Nothing was measured on the test set.
    metrics = pd.read_csv(tmp_path / "0/metrics.csv")
    metrics.drop(columns=["val/loss", "val/acc"]).to_csv(tmp_path / "0/metrics.csv", index=False)
    for draw in (fig2, fig3, s1, s5, s6):
        assert draw(tmp_path)[0].is_file()


def test_c_predicts_the_best_l2_of_every_budget(tmp_path: Path) -> None:
    # The short run gives c = 4·0.5 = 2; the others peak at 2/λ, and the better, the smaller λ is.
    for number, l2 in enumerate([0.01, 0.02, 0.05, 0.1, 0.2]):
        cell = {"part": "grid", "budget": 0}
        best = 0.9 - l2 / 10
        write_run(tmp_path / str(number), 2 / l2, l2=l2, best=best, cell=cell)
    write_run(tmp_path / "5", 4, length=8, l2=0.5, cell={"part": "measure", "budget": 0})
    for number, budget in ((6, 20), (7, 100)):
        cell = {"part": "predict", "budget": budget}
        write_run(tmp_path / str(number), budget, budget, 0.89, l2=2 / budget, cell=cell)
    tuning = read_tuning(tmp_path)
    assert tuning.c == pytest.approx(2.0)
    # Accuracies at T: 0.9 − λ/10 − 0.1·max(0, 1 − Tλ/2), so the best λ is 2/T.
    assert tuning.table.idxmax().tolist() == [0.1, 0.02]
    assert tuning.table.loc[0.05, 20] == pytest.approx(0.9 - 0.005 - 0.05)
    assert tuning.predicted.to_dict() == pytest.approx({20: 0.89, 100: 0.89})
    names = [path.name for path in fig4(tmp_path)]
    assert names == ["fig4.png", "fig1b.png", "s2.png", "s3.png", "s4.png"]
    assert all((tmp_path / "figures" / name).is_file() for name in names)


def test_budgets_are_drawn_where_cells_failed_or_were_measured_too_late(tmp_path: Path) -> None:
    # No run of the grid is left; then one, first measured after the smaller budget.
    write_run(tmp_path / "0", 4, l2=0.5, cell={"part": "predict", "budget": 0.5})
    assert fig4(tmp_path)[0].is_file()
    write_run(tmp_path / "1", 20, l2=0.1, cell={"part": "grid", "budget": 0})
    assert fig4(tmp_path)[0].is_file()


def test_auto_l2_stands_beside_the_best_constant_l2(tmp_path: Path) -> None:
    step = {"_target_": "lightning_lazy.optim.StepDecay"}
    runs: list[tuple[str, float, dict[str, str]]] = [
        ("auto", 0.1, KNOBS["schedule"]),
        ("constant", 0.01, KNOBS["schedule"]),
        ("constant", 0.001, KNOBS["schedule"]),
        ("auto", 0.1, step),
    ]
    for number, (decay, l2, schedule) in enumerate(runs):
        cell = {"decay": decay}
        write_run(tmp_path / str(number), 50, l2=l2, cell=cell, schedule=schedule)
    names = [path.name for path in fig1c(tmp_path)]
    assert names == ["fig1c.png", "s9.png", "s10.png"]
    assert all((tmp_path / "figures" / name).is_file() for name in names)


def test_auto_l2_is_drawn_alone_where_there_is_no_constant_l2(tmp_path: Path) -> None:
    write_run(tmp_path / "0", 50, l2=0.1, cell={"decay": "auto"})
    assert [path.name for path in fig1c(tmp_path)] == ["fig1c.png", "s9.png"]


def test_trainings_of_fixed_and_of_proportional_length_are_told_apart(tmp_path: Path) -> None:
    for number, (training, length) in enumerate([("fixed", 50), ("proportional", 100)]):
        write_run(tmp_path / str(number), 40, length, l2=0.01, cell={"training": training})
    assert fig1a(tmp_path)[0].is_file()


def test_the_map_has_a_field_for_each_pair_of_lr_and_l2(tmp_path: Path) -> None:
    for number, (panel, lr, l2) in enumerate(
        [("map", 0.1, 0.01), ("map", 0.2, 0.01), ("map", 0.1, 0.02), ("length", 0.1, 0.01)]
    ):
        length = 100 if panel == "map" else 200
        write_run(tmp_path / str(number), 40, length, l2=l2, cell={"panel": panel, "lr": lr})
    assert s8(tmp_path)[0].is_file()
