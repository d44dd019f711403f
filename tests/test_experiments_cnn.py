"""Figure 3 of Chizat, Oyallon & Bach 2019 on CIFAR-10 images: conclusions and pictures."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf

from lightning_lazy.figures.chizat import fig3a_lr, fig3b
from lightning_lazy.figures.chizat.cnn import PAPER

Train = Callable[..., str]


@pytest.fixture
def cifar(cifar_folder: Path) -> tuple[str, str]:
    """Overrides that take these images in place of CIFAR-10."""
    return "data=folder", f"data.path={cifar_folder}"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fig3a_quick_gets_lazy_as_alpha_grows(train: Train, cifar: tuple[str, str]) -> None:
    # The spec's acceptance, for one seed. The linearised model is the limit of large alpha.
    cells = "{alpha: 1},{alpha: 10},{alpha: 100},{alpha: 1e5},{alpha: 1e7, linearize: true}"
    train("experiment=chizat/fig3a_quick", *cifar, "seed=0", f"cell={cells}")
    (folder,) = Path("runs/chizat/fig3a_quick").iterdir()
    found = pd.read_csv(folder / "cells.csv")
    linear = found[found["linearize"]].iloc[0]
    found = found[~found["linearize"]].set_index("alpha")
    accuracy, stability = found["train/acc"], found["lazy/activation_stability"]
    assert accuracy[1] - accuracy[10] >= 0.15
    assert abs(accuracy[1e5] - accuracy[100]) <= 0.02
    assert abs(accuracy[1e5] - linear["train/acc"]) <= 0.01
    assert stability[1] <= 0.85
    assert stability[100] >= 0.99
    assert stability[1e5] >= 0.9999
    assert stability.is_monotonic_increasing
    assert not found["diverged"].any()
    assert (found["frozen_throughout"] < 0.01).all()
    assert (folder / "figures/fig3a.png").is_file()


@pytest.mark.slow
def test_fig3b_quick_runs_its_four_arms(train: Train, cifar: tuple[str, str]) -> None:
    sizes = ("max_epochs=1", "data.n_train=20", "data.n_val=20")
    probe = "callbacks.activation_stability.size=20"
    out = train("experiment=chizat/fig3b_quick", *cifar, *sizes, probe)
    (folder,) = Path("runs/chizat/fig3b_quick").iterdir()
    found = pd.read_csv(folder / "cells.csv").set_index(["net", "mode"])
    assert set(found.index) == set(PAPER)
    linear = found.xs("linearised", level="mode")
    assert (linear["lazy/activation_stability"] > 0.9999).all()
    gains = [OmegaConf.load(folder / str(cell) / "config.yaml").model.gain for cell in range(4)]
    assert gains == [1.0, 1.3, 1.0, 1.2]
    assert "figures/fig3b.png" in out


def write_cell(folder: Path, values: dict[str, object], metrics: dict[str, float]) -> None:
    folder.mkdir(parents=True)
    knobs = {"alpha": 1.0, "lr": 0.1, "l2": 0.0, "seed": 0, "optimizer": {"_target_": "a.SGD"}}
    OmegaConf.save(OmegaConf.create(knobs | values), folder / "config.yaml")
    summary = {"metrics": metrics, "diverged": False, "steps": 3}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "metrics.csv").write_text("step,epoch,health/frozen_share\n3,1,0\n")


def test_the_learning_rate_figure_takes_the_cells_of_a_sweep(tmp_path: Path) -> None:
    for number, (alpha, lr) in enumerate([(1, 0.1), (1, 1.0), (100, 0.1), (100, 1.0)]):
        metrics = {"val/acc": 0.25 * number}
        write_cell(tmp_path / str(number), {"alpha": alpha, "lr": lr}, metrics)
    (picture,) = fig3a_lr(tmp_path)
    assert picture.is_file()
    assert pd.read_csv(tmp_path / "cells.csv")["val/acc"].tolist() == [0.0, 0.25, 0.5, 0.75]


def test_the_wide_figure_does_with_the_arms_that_are_there(tmp_path: Path) -> None:
    metrics = {"train/acc": 0.6, "val/acc": 0.5, "lazy/activation_stability": 1.0}
    for number, (net, alpha) in enumerate([("VGG", 1e7), ("ResNet", 1.0)]):
        model = {"_target_": f"lightning_lazy.models.{net}"}
        write_cell(tmp_path / str(number), {"alpha": alpha, "model": model}, metrics)
    (picture,) = fig3b(tmp_path)
    assert picture.is_file()
    modes = pd.read_csv(tmp_path / "cells.csv")[["net", "mode"]].to_numpy().tolist()
    assert modes == [["VGG", "linearised"], ["ResNet", "standard"]]
