"""Figures of learning order, from files written by hand, and pictures of patches."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.image import imread
from omegaconf import OmegaConf

from lightning_lazy import InputError
from lightning_lazy.figures.frames import read_sweep
from lightning_lazy.figures.li import fig1, fig3, noise, patch_examples
from lightning_lazy.figures.li.learning_order import _caption

FIGURES = {"fig1": fig1, "fig3": fig3, "noise": noise}
METRICS = ("train/acc", "val/acc", "val/clean/acc", "val/patch_only/acc", "val/mixed/acc")


def write_run(folder: Path, arm: str, seed: int, accuracy: list[float], **data: str) -> None:
    folder.mkdir(parents=True)
    config = {
        "alpha": 1.0, "lr": 0.1 if arm == "large" else 0.004, "l2": 5e-4, "seed": seed,
        "optimizer": {"_target_": "a.SGD"}, "cell": {"arm": arm}, "annealing": [4],
        "batch_size": 32, "model": {"depth": 10, "width": 1.0},
        "data": {"n_train": 8000, "dataset": "cifar10", "augment": False} | data,
    }  # fmt: skip
    OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")
    summary: dict[str, Any] = {"metrics": {}, "diverged": False, "steps": 9}
    (folder / "summary.json").write_text(json.dumps(summary))
    rows = dict.fromkeys(METRICS, accuracy)
    frame = pd.DataFrame({"step": range(len(accuracy)), **rows})
    frame.insert(1, "epoch", [epoch + 1.0 for epoch in range(len(accuracy))])
    frame.to_csv(folder / "metrics.csv", index=False)


@pytest.mark.parametrize("name", FIGURES)
def test_the_table_holds_means_over_three_epochs_before_annealing_and_at_the_end(
    tmp_path: Path, name: str
) -> None:
    # Oracle: means by hand. Annealing takes effect after 4 epochs.
    write_run(tmp_path / "0", "large", 0, [0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9])
    write_run(tmp_path / "1", "small", 0, [0.5] * 7)
    write_run(tmp_path / "2", "large", 1, [0.0, 0.3, 0.3, 0.3, 0.9, 0.9, 0.9])
    (picture,) = FIGURES[name](tmp_path)
    assert picture == tmp_path / "figures" / f"{name}.png"
    assert imread(picture).std() > 0.01
    cells = pd.read_csv(tmp_path / "cells.csv")
    metric = "val/clean/acc" if name == "fig3" else "val/acc"
    assert cells[f"{metric} before"].tolist() == pytest.approx([0.2, 0.5, 0.3])
    assert cells[f"{metric} end"].tolist() == pytest.approx([0.7, 0.5, 0.9])


def test_images_of_a_folder_bear_its_name(tmp_path: Path) -> None:
    write_run(tmp_path / "0", "large", 0, [0.5] * 5, dataset="folder", path="/images/birds/")
    text = _caption(read_sweep(tmp_path))
    assert text == "WRN-10-1, 8,000 images of birds, batches of 32, λ = 0.0005; 1 seed"


def write_data(folder: Path, **options: Any) -> None:
    data = {"_target_": "lightning_lazy.data.ImageDataModule", "dataset": "digits", **options}
    OmegaConf.save(OmegaConf.create({"data": data}), folder / "config.yaml")


@pytest.mark.parametrize("flatten", [False, True])
def test_examples_of_every_kind_are_drawn_from_the_configuration(
    tmp_path: Path, flatten: bool
) -> None:
    patches = {"_target_": "lightning_lazy.data.Patches", "size": 3}
    write_data(tmp_path, flatten=flatten, patches=patches, n_train=300)
    (picture,) = patch_examples(tmp_path)
    # Oracle: a picture of only a patch is grey outside of it, so the last row varies least.
    rows = imread(picture)[..., 0]
    height = len(rows) // 3
    spread = [rows[i * height : (i + 1) * height, :].std() for i in range(3)]
    assert spread[2] < min(spread[:2])


def test_images_without_patches_are_one_line(tmp_path: Path) -> None:
    write_data(tmp_path)
    with pytest.raises(InputError, match="have no patches: leave figures.patch_examples out"):
        patch_examples(tmp_path)
