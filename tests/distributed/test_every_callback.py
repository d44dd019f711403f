"""Any device count, the same number (design, rule 2): every callback, on four and two processes.

Oracle: one process on the same data, with the weights and buffers that rank 0 has had. The net has
BatchNorm and a layer that runs on the last process only; gradients are accumulated; neither probe
sets nor batches are multiples of the number of processes.
"""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from processes import run_once

from lightning_lazy import callbacks, read_checkpoint

SCRIPT = Path(__file__).parent / "every_callback.py"
FITS = [("all", 4), ("all", 2), ("patterns", 4)]

# What training itself gives with shards and their statistics, and the verdict on it.
OF_TRAINING = {"train/loss", "train/acc", "curvature/phase/monitor"}
# The rest of a sum that cancels is of the size of rounding; so is the kernel's least eigenvalue,
# in units of which the largest, the condition, is 1e8 at most.
NEAR_ROUNDING = {"pattern/alpha_rest": 0.0, "ntk/condition": 1e-6}

pytestmark = [pytest.mark.slow, pytest.mark.ddp]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs on several processes, and each of them replayed on one."""
    return run_once(tmp_path_factory, SCRIPT)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("every_callback", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_has_every_callback(script: ModuleType) -> None:
    assert sorted(name for run in script.TABLE.values() for name in run) == callbacks.__all__


@pytest.mark.parametrize(("run", "devices"), FITS)
def test_several_processes_log_what_one_logs(folder: Path, run: str, devices: int) -> None:
    several = pd.read_csv(folder / f"{run}-{devices}" / "metrics.csv")
    alone = pd.read_csv(folder / f"{run}-{devices}-alone" / "metrics.csv")
    assert list(several.columns) == list(alone.columns)
    for name in several.columns:
        if name in OF_TRAINING and run == "all":
            continue
        # Double precision; sums in another order, magnified by iterations to residuals of 1e-3.
        rtol = NEAR_ROUNDING.get(name, 1e-9)
        np.testing.assert_allclose(
            several[name], alone[name], rtol=rtol, atol=1e-13, err_msg=name
        )  # fmt: skip


@pytest.mark.parametrize(("run", "devices"), FITS)
def test_all_processes_know_the_same_numbers(folder: Path, run: str, devices: int) -> None:
    files = (folder / f"{run}-{devices}" / f"rank{rank}.json" for rank in range(devices))
    first, *others = (json.loads(file.read_text()) for file in files)
    assert all(other == first for other in others)


def test_what_is_compared_has_happened(folder: Path) -> None:
    rows = pd.read_csv(folder / "all-4" / "metrics.csv")
    assert rows["anneal/stage"].max() == 1  # the learning rate was lowered
    rare = rows["lazy/activation_stability/model.net.rare.1"].dropna()
    assert 0 < rare.iloc[-1] < 1  # and units of the layer that the last process alone runs changed
    assert rows["l2/peak_step"].notna().any()


@pytest.mark.parametrize("devices", [4, 2])
def test_a_checkpoint_holds_the_patterns_of_a_layer_that_one_process_runs(
    folder: Path, devices: int
) -> None:
    several, alone = (
        read_checkpoint(folder / name / "checkpoints" / "last.ckpt")["callbacks"][
            "ActivationStability"
        ]["initial"]
        for name in (f"all-{devices}", f"all-{devices}-alone")
    )
    assert several["units"] == alone["units"]
    for name, bits in alone["bits"].items():
        assert (several["bits"][name] == bits).all()
    assert several["rows"]["model.net.rare.1"] == [0] * (devices - 1) + [5]
    assert alone["rows"]["model.net.rare.1"] == [5]


def test_a_resumed_run_on_as_many_processes_goes_on_with_these_patterns(folder: Path) -> None:
    first, resumed = (
        read_checkpoint(folder / name / "checkpoints" / "last.ckpt")["callbacks"][
            "ActivationStability"
        ]["initial"]
        for name in ("all-2", "resumed-2")
    )
    assert first["rows"] == resumed["rows"]
    for name, bits in first["bits"].items():
        assert (resumed["bits"][name] == bits).all()
    rows = pd.read_csv(folder / "resumed-2" / "metrics.csv")["lazy/activation_stability"]
    assert rows.dropna().iloc[-1] < 1
