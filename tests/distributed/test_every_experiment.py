"""Any device count, the same run: every experiment on two processes, some on four.

Oracle: one process on the same data, in batches that are as much larger; for nets with BatchNorm,
whose statistics are those of a batch, in as many batches whose gradients are added up. A cell of
each is enough, shrunk to a few updates: its sweep sets numbers, and so does the paper's scale.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from experiment_cells import GRIDS, SAME_RUNS, TABLE, Cell
from experiments import CONF, composed
from processes import run_once

from lightning_lazy import read_checkpoint

SCRIPT = Path(__file__).parent / "every_experiment.py"
EXPERIMENTS = sorted(
    str(path.relative_to(CONF / "experiment").with_suffix(""))
    for path in (CONF / "experiment").rglob("*.yaml")
)
RUNS = [
    pytest.param(
        f"{experiment}-{number}", cell, str(devices), id=f"{experiment}-{number}-{devices}"
    )
    for experiment, cells in TABLE.items()
    for number, cell in enumerate(cells)
    for devices in (*cell.devices, *(["auto"] if 4 in cell.devices else []))
]
# Double precision; sums in another order, over a few updates.
RTOL = 1e-9
# What running averages of BatchNorm make, in evaluation and in the checkpoint.
OF_AVERAGES = ("val/", "running_mean", "running_var", "num_batches_tracked")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs on one, two and four processes."""
    return run_once(tmp_path_factory, SCRIPT)


def test_every_experiment_is_in_a_table() -> None:
    quick = [*TABLE, *SAME_RUNS, *GRIDS]
    assert len(set(quick)) == len(quick)
    assert set(quick) <= set(EXPERIMENTS)
    for experiment in set(EXPERIMENTS) - set(quick):
        # A quick twin that takes all members of groups over from the paper's experiment stands for
        # it: it changes sizes only, which tests/test_experiments_*.py hold it to.
        assert f"{experiment}_quick" in TABLE, f"{experiment}: add a cell of it to the table"
        defaults = yaml.safe_load((CONF / f"experiment/{experiment}_quick.yaml").read_text())
        assert defaults["defaults"] == [f"/experiment/{experiment}", "_self_"]


@pytest.mark.parametrize("experiment", SAME_RUNS)
def test_another_picture_is_of_the_same_runs(experiment: str) -> None:
    one, other = composed(f"experiment={experiment}"), composed(*SAME_RUNS[experiment])
    for plain in (one, other):
        del plain["name"], plain["sweep_figure"]
    assert one == other


@pytest.mark.parametrize("experiment", GRIDS)
def test_a_grid_refuses_several_devices(
    train: Callable[..., str], capsys: pytest.CaptureFixture[str], experiment: str
) -> None:
    with pytest.raises(SystemExit, match=r"a grid must run on one device, got 2: .* stacked.shard"):
        train(
            f"experiment={experiment}", "hydra.mode=RUN", "data=digits", "data.resolution=null",
            "data.n_train=20", "data.n_val=20", "model.width=4", "trainer=ddp",
            "trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=64-true",
        )  # fmt: skip
    assert not list(Path("runs").rglob("cells.parquet"))


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.parametrize(("name", "cell", "devices"), RUNS)
def test_several_processes_log_what_one_logs(
    folder: Path, name: str, cell: Cell, devices: str
) -> None:
    several, alone = (
        pd.read_csv(folder / kind / name / "metrics.csv") for kind in (devices, f"alone-{devices}")
    )
    assert list(several.columns) == list(alone.columns)
    assert len(several) == len(alone)
    assert several["step"].iloc[-1] >= 2
    rows = several["step"] == 0 if cell.alike == "start" else several["step"] >= 0
    for column in several.columns:
        if cell.alike == "training" and column.startswith(OF_AVERAGES):
            assert (several[column].isna() == alone[column].isna()).all()
            continue
        kept = rows | column.startswith(("step", "epoch", "noise/"))
        np.testing.assert_allclose(
            several[column][kept], alone[column][kept], rtol=RTOL, err_msg=column
        )


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.parametrize(("name", "cell", "devices"), RUNS)
def test_several_processes_end_with_the_weights_of_one(
    folder: Path, name: str, cell: Cell, devices: str
) -> None:
    if cell.alike == "start":
        return
    several, alone = (
        read_checkpoint(folder / kind / name / "checkpoints/last.ckpt")["state_dict"]
        for kind in (devices, f"alone-{devices}")
    )
    assert several.keys() == alone.keys()
    tensors = [key for key, value in alone.items() if torch.is_tensor(value)]
    assert len(tensors) >= 2
    for key in tensors:
        if cell.alike == "training" and key.endswith(OF_AVERAGES):
            continue
        torch.testing.assert_close(
            several[key], alone[key], rtol=RTOL, atol=1e-12, equal_nan=True, msg=key
        )
