"""Grids as ``train.py`` runs them."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from lightning_lazy.stacked import missing_shards, read_cells

Train = Callable[..., str]
SMALL = (
    "experiment=kanoh/phase_diagram_quick", "data=digits", "data.resolution=null", "data.n_val=60",
    "data.n_train=40", "model.width=8", "max_steps=60", "stacked.axes.alpha=[0.1,10]",
    "stacked.axes.lr=1e-3:1e-1:3", "stacked.axes.optimizer=[sgd,adam]", "hydra/job_logging=none",
)  # fmt: skip


def sweep_folder() -> Path:
    (folder,) = Path("runs/kanoh/phase_diagram_quick").iterdir()
    return folder


@pytest.mark.slow
def test_a_cell_of_the_grid_is_the_single_run_of_train_py(train: Train) -> None:
    # Oracle: the same configuration without `stacked`, in the Trainer, with the default callbacks.
    out = train(*SMALL, "l2=0.01", "seed=5")
    table = read_cells(sweep_folder() / "0").set_index(["optimizer", "alpha", "lr"])
    assert len(table) == 12
    assert "60 steps, val/acc" in out
    for optimizer, alpha, lr in (("sgd", 10.0, 0.1), ("adam", 0.1, 0.001)):
        train(
            "model.width=8", "data.n_val=60", "data.n_train=40", "data.normalize=sphere",
            "batch_size=full", "max_steps=60", "trainer=float64", "l2=0.01", "seed=5",
            f"optimizer={optimizer}", f"alpha={alpha}", f"lr={lr}", f"name=single_{optimizer}",
            "+callbacks.distance._target_=lightning_lazy.callbacks.ParameterDistance",
        )  # fmt: skip
        (folder,) = Path(f"runs/single_{optimizer}").iterdir()
        summary = json.loads((folder / "summary.json").read_text())
        metrics, row = summary["metrics"], table.loc[optimizer, alpha, lr]
        assert row["val/loss"] == pytest.approx(metrics["val/loss"], rel=1e-9)
        assert row["val/acc"] == metrics["val/acc"]
        assert row["lazy/param_distance"] == pytest.approx(metrics["lazy/param_distance"], 1e-9)
        assert row["lazy/sign_consistency"] == metrics["lazy/activation_stability"]
        assert row["diverged"] == summary["diverged"]
        assert row["steps"] == summary["steps"]
    assert table["curvature/hessian_top1_start"].notna().all()


def test_the_same_command_again_skips_what_is_finished(train: Train) -> None:
    train(*SMALL)
    table = sweep_folder() / "0" / "cells.parquet"
    before = table.stat().st_mtime_ns
    assert "already finished" in train(*SMALL)
    assert table.stat().st_mtime_ns == before
    assert pd.read_csv(sweep_folder() / "0/metrics.csv")["step"].tolist() == [60]


def test_an_unfinished_grid_goes_on_in_its_folder(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightning_lazy.stacked.chunk import Chunk

    advance, calls = Chunk.advance, []

    def failing(self: Chunk) -> object:
        calls.append(len(self.cells))
        if len(calls) == 6:
            raise ZeroDivisionError
        return advance(self)

    # Chunks of some cells, rounds at updates 1, 50 and 60: the second chunk is stopped at its end.
    small = (*SMALL, "stacked.memory_budget=300000", "checkpoint_every_n_steps=50")
    monkeypatch.setattr(Chunk, "advance", failing)
    with pytest.raises(ZeroDivisionError):
        train(*small)
    folder = sweep_folder() / "0"
    finished = len(read_cells(folder))
    assert 0 < finished < 12
    assert (folder / "checkpoints/last.ckpt").is_file()
    calls.clear()
    monkeypatch.setattr(Chunk, "advance", lambda self: calls.append(1) or advance(self))
    train(f"ckpt_path={folder}/checkpoints/last.ckpt")
    assert len(read_cells(folder)) == 12
    assert len(calls) % 3 == 1, "the chunk in progress had one round left"
    assert (folder / "summary.json").is_file()
    assert "already finished" in train(*small)


def test_a_grid_that_was_stopped_between_two_chunks_goes_on_without_a_checkpoint(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightning_lazy.stacked.grid_run import GridRun

    advance = GridRun.advance

    def failing(self: GridRun) -> None:
        if self._files.finished:
            raise ZeroDivisionError
        advance(self)

    small = (*SMALL, "stacked.memory_budget=300000", "hydra.mode=RUN", "hydra.run.dir=here")
    monkeypatch.setattr(GridRun, "advance", failing)
    with pytest.raises(ZeroDivisionError):
        train(*small)
    monkeypatch.setattr(GridRun, "advance", advance)
    assert 0 < len(read_cells("here")) < 12
    assert not Path("here/checkpoints/last.ckpt").exists()
    train("ckpt_path=here/checkpoints/last.ckpt")
    assert len(read_cells("here")) == 12


def test_shards_run_as_jobs_of_a_multirun(train: Train) -> None:
    train(*SMALL, "stacked.shard=1/3,2/3,3/3")
    assert len(read_cells(sweep_folder())) == 12
    assert missing_shards(sweep_folder()) == {}
    assert [len(read_cells(sweep_folder() / str(job))) for job in range(3)] == [4, 4, 4]


def test_a_linearised_net_can_be_stacked(train: Train) -> None:
    train(*SMALL, "linearize=true")
    table = read_cells(sweep_folder())
    assert len(table) == 12
    assert table["lazy/sign_consistency"].isna().all()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stacked.axes.lr=0:1:5", "axes.lr must be finite and above 0, got 0"),
        ("stacked.axes.alpha=[1,-2]", "axes.alpha must be finite and above 0, got -2"),
        ("stacked.axes.optimizer=[lion]", "axes.optimizer must be one of sgd"),
        ("stacked.shard=3/2", "shard must be i/n with i from 1 to n, got '3/2'"),
        ("stacked.memory_budget=1000", "memory_budget must hold one cell of"),
        ("+stacked.axes.wdith=[3]", "can't build lightning_lazy.models.TwoLayerNet"),
        ("schedule=inverse_time", "use schedule=constant"),
        ("batch_size=20", "use batch_size=full"),
    ],
)
def test_a_mistake_gets_one_line(
    train: Train, override: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=message) as exit_info:
        train(*SMALL, override)
    assert "\n" not in str(exit_info.value.code)
    assert "Traceback" not in capsys.readouterr().err


def test_another_grid_in_the_folder_is_refused_and_nothing_lost(train: Train) -> None:
    alone = (*SMALL, "hydra.mode=RUN", "hydra.run.dir=here")
    train(*alone)
    names = ("cells.parquet", "cells.csv", "config.yaml", "grid.json", "summary.json")
    before = {name: Path("here", name).read_bytes() for name in names}
    with pytest.raises(SystemExit, match=r"here holds the results of another grid \(steps is 60"):
        train(*alone, "max_steps=70")
    assert {name: Path("here", name).read_bytes() for name in names} == before
