"""``python -m lightning_lazy.figures`` on grids: shards are merged, and what is missing is said."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from diagrams import write_grid

from lightning_lazy.figures.__main__ import main

AXES: dict[str, Any] = {
    "optimizer": ["sgd", "rmsprop"], "alpha": [0.1, 1.0, 10.0], "lr": "1e-2:1e2:5",
}  # fmt: skip
NODE = {"_target_": "lightning_lazy.figures.kanoh.phase_diagram", "x": "lr", "y": "alpha"}


def call(*folders: Path) -> None:
    main([str(folder) for folder in folders])


def test_a_folder_of_shards_is_drawn_with_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2, 4):
        write_grid(tmp_path / str(number), AXES, shard=f"{number}/4", sweep_figure=NODE)
    call(tmp_path)
    # 30 cells: of every four the third, 7 of them.
    assert capsys.readouterr().out.splitlines() == [
        "missing: shard 3/4: 7 cells",
        f"figure: {tmp_path}/figures/val_acc_lr_alpha.png",
        f"figure: {tmp_path}/figures/boundary_lr_alpha.png",
    ]
    assert len(pd.read_csv(tmp_path / "diagram.csv")) == 23
    assert (tmp_path / "figures/val_acc_lr_alpha.png").is_file()


def test_several_folders_are_put_together_into_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [tmp_path / "machine1/0", tmp_path / "machine2/0", tmp_path / "other/0"]
    for number, place in enumerate(places[:2], start=1):
        write_grid(place, AXES, shard=f"{number}/2", sweep_figure=NODE)
    write_grid(places[2], AXES, dataset="cifar10", shard="1/2", sweep_figure=NODE)
    call(*places)
    assert capsys.readouterr().out.splitlines()[0] == "missing: CIFAR-10, shard 2/2: 15 cells"
    cells = pd.read_csv(places[0] / "diagram.csv")
    assert cells["panel"].value_counts().to_dict() == {"MNIST": 30, "CIFAR-10": 15}
    assert not (places[1] / "figures").exists()


def test_a_single_grid_draws_the_figures_of_its_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_grid(tmp_path / "1", AXES, figures={"diagram": NODE, "learning_curve": None})
    call(tmp_path / "1")
    assert "1/figures/val_acc_lr_alpha.png" in capsys.readouterr().out
    # Without a figure of the sweep those of the run are drawn of several folders.
    write_grid(tmp_path / "2", AXES, figures={"diagram": NODE}, dataset="cifar10")
    call(tmp_path)
    assert set(pd.read_csv(tmp_path / "diagram.csv")["panel"]) == {"MNIST", "CIFAR-10"}


def test_what_cannot_be_drawn_gets_one_line(tmp_path: Path) -> None:
    write_grid(tmp_path / "grid", AXES)
    (tmp_path / "run").mkdir()
    (tmp_path / "bare").mkdir()
    write_grid(tmp_path / "nameless", AXES)
    (tmp_path / "nameless/config.yaml").unlink()
    for folders, message in (
        (("grid", "run"), r"run: no cells.parquet there; give the folder of a grid"),
        (("grid", "nowhere"), "nowhere: no cells.parquet there"),
        (("grid", "grid"), "has no figure: set sweep_figure in its experiment"),
        (("nameless", "grid"), "nameless holds no config.yaml that names its figures"),
        (("bare",), "bare holds no runs: give the folder of a run or of a sweep"),
        ((), "usage: python -m lightning_lazy.figures <folder of a run"),
    ):
        with pytest.raises(SystemExit, match=message):
            call(*(tmp_path / name for name in folders))


def test_a_grid_that_is_not_finished_counts_its_own_cells_as_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_grid(tmp_path, AXES, figures={"diagram": NODE})
    table = pd.read_parquet(tmp_path / "cells.parquet")
    table.iloc[:20].to_parquet(tmp_path / "cells.parquet", index=False)
    assert json.loads((tmp_path / "grid.json").read_text())["shard"] == "1/1"
    call(tmp_path)
    assert "missing: shard 1/1: 10 cells\n" in capsys.readouterr().out
