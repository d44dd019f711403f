"""Data frames of a sweep, from files written by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from lightning_lazy import InputError
from lightning_lazy.figures.frames import read_sweep


def write_cell(folder: Path, config: dict[str, Any], loss: float | None) -> None:
    folder.mkdir(parents=True)
    knobs = {"alpha": 1.0, "lr": 0.1, "l2": 0.0, "seed": 0, "optimizer": {"_target_": "a.SGD"}}
    OmegaConf.save(OmegaConf.create(knobs | config), folder / "config.yaml")
    summary = {"metrics": {"val/loss": loss}, "diverged": False, "steps": 3}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "metrics.csv").write_text(f"step,epoch,val/loss\n3,1,{loss or 'nan'}\n")


def test_values_that_differ_are_columns_and_those_asked_for(tmp_path: Path) -> None:
    write_cell(tmp_path / "0", {"seed": 0, "model": {"tau": 0.1, "width": 4}, "cell": 1}, 0.5)
    write_cell(tmp_path / "1", {"seed": 1, "model": {"tau": 0.2, "width": 4}}, 0.25)
    cells = read_sweep(tmp_path)
    assert cells["model.tau"].tolist() == [0.1, 0.2]
    assert cells["val/loss"].tolist() == [0.5, 0.25]
    assert cells["seed"].tolist() == [0, 1]
    assert cells["optimizer"].tolist() == ["SGD", "SGD"]
    assert cells["cell"].isna().tolist() == [False, True]
    assert "model.width" not in cells
    assert read_sweep(tmp_path, keep=("model.width",))["model.width"].tolist() == [4, 4]


def test_a_metric_that_is_not_finite_is_not_a_number(tmp_path: Path) -> None:
    write_cell(tmp_path / "0", {}, None)
    assert read_sweep(tmp_path)["val/loss"].dtype == float


def test_a_cell_without_summary_is_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cell(tmp_path / "0", {}, 0.5)
    write_cell(tmp_path / "1", {"seed": 1}, 0.25)
    (tmp_path / "1" / "summary.json").unlink()
    assert read_sweep(tmp_path)["seed"].tolist() == [0]
    assert f"missing: {tmp_path / '1'}" in capsys.readouterr().out
    (tmp_path / "0" / "summary.json").unlink()
    with pytest.raises(InputError, match="no cell of .* has ended"):
        read_sweep(tmp_path)
