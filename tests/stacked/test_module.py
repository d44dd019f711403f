"""A grid in a Trainer: its table, its memory, its folder, kills, mistakes."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from cells import module_of, nets_of
from grids import AXES, CELL_BYTES, TEST, TRAIN, WIDTH, cells_of, digits, fit, make_grid
from torch import Tensor
from torch.nn.functional import cross_entropy
from trainers import QUIET

from lightning_lazy import InputError, MetricsLog, read_checkpoint
from lightning_lazy.callbacks import (
    ActivationStability,
    DivergenceGuard,
    FrozenParameters,
    HessianTopEigenvalues,
    ParameterDistance,
)
from lightning_lazy.data import TeacherStudentDataModule
from lightning_lazy.losses import SoftHingeLoss, SquaredLoss
from lightning_lazy.models import FullyConnected, TwoLayerNet
from lightning_lazy.stacked import CellStepBar, StackedGrid, missing_shards, read_cells
from lightning_lazy.stacked.chunk import Chunk, parameter_tensors
from lightning_lazy.stacked.grid import Cell

HERE = Path(__file__).parent


def single_run(cell: Cell, folder: Path, steps: int) -> dict[str, float]:
    """The last metrics of the cell's single run in a Trainer with this project's callbacks."""
    task: Any = type("Task", (), {"loss": SoftHingeLoss(), "centering": "subtract"})
    torch.set_default_dtype(torch.float64)  # as train.py draws weights under precision 64-true
    (net,) = nets_of([cell], partial(TwoLayerNet, 64, WIDTH, 10), torch.float64)
    callbacks = [
        DivergenceGuard(every_n_steps=5),
        FrozenParameters(every_n_steps=5),
        ActivationStability(size=TEST, metric="lazy/sign_consistency"),
        ParameterDistance(),
        HessianTopEigenvalues(size=TRAIN, tolerance=1e-6),
    ]
    trainer = pl.Trainer(
        **(QUIET | {"logger": MetricsLog(folder)}), max_steps=steps, precision="64-true",
        callbacks=callbacks, log_every_n_steps=1, val_check_interval=steps,
        check_val_every_n_epoch=None,
    )  # fmt: skip
    module = module_of(cell, net, task)
    trainer.fit(module, datamodule=digits())
    data = digits()
    data.setup("fit")
    x, y = data.transform(data.train_set.__getitems__(range(TRAIN)), torch.float64)
    log = pd.read_csv(folder / "metrics.csv")
    top = log["curvature/hessian_top1"].dropna()
    last = {name: column.dropna().iloc[-1] for name, column in log.items() if column.any()}
    return last | {
        "train/loss": float(
            module.loss_of((x, y)).detach()
        ),  # after the last update, as in the table
        "curvature/hessian_top1_start": top.iloc[0],
        "curvature/hessian_top1": top.iloc[-1],
        "health/frozen_share": log["health/frozen_share"].dropna().iloc[-1],
        "frozen_throughout": log["health/frozen_share"].min(),
        "diverged": log["health/diverged"].dropna().iloc[-1],
    }


@pytest.mark.slow
def test_the_table_has_the_numbers_of_single_runs(tmp_path: Path) -> None:
    # Oracle: the callbacks of single runs. Both solve for λ_max to 1e-3 and 1e-6 in the residual,
    # so to about the square of it in the value; the rest differs by rounding.
    axes = {"optimizer": ["sgd", "scaled_rmsprop"], "lr": [2e-3, 1e-8], "alpha": [0.1, 1e8]}
    grid = fit(make_grid(tmp_path / "grid", axes=axes, hessian="both", steps=60))
    table = cells_of(tmp_path / "grid").set_index("cell")
    columns = {
        "train/loss": 1e-9, "val/loss": 1e-9, "val/acc": 0.0, "lazy/sign_consistency": 1e-12,
        "lazy/param_distance": 1e-9, "curvature/hessian_top1_start": 1e-5,
        "curvature/hessian_top1": 1e-4, "health/frozen_share": 0.02, "frozen_throughout": 0.02,
        "diverged": 0.0,
    }  # fmt: skip
    for cell in grid.cells:
        alone = single_run(cell, tmp_path / str(cell.index), 60)
        for name, tolerance in columns.items():
            value = table.loc[cell.index, name]
            assert value == pytest.approx(alone.get(name, 0.0), rel=tolerance, abs=1e-12), (
                cell, name,
            )  # fmt: skip


@pytest.mark.slow
def test_single_runs_and_cells_agree_on_what_has_diverged(tmp_path: Path) -> None:
    grid = fit(make_grid(tmp_path / "grid", axes={"lr": [1e-3, 1e2, 1e5], "alpha": 0.1}))
    alone = [single_run(cell, tmp_path / str(cell.index), 30)["diverged"] for cell in grid.cells]
    assert list(cells_of(tmp_path / "grid")["diverged"]) == alone == [False, True, True]


def test_updates_that_are_lost_to_rounding_are_counted(tmp_path: Path) -> None:
    # Protocol of the paper: float64, 50 steps of gradient descent, α = 1e8, η = 1e-8: over 99%
    # frozen. At 1e-12 the net computes to the last bit what it computed at the start. In float32
    # the same happens from α = 1e4, η = 1e-4 on.
    axes = {"lr": [1e-12, 1e-8, 10.0], "alpha": 1e8}
    fit(make_grid(tmp_path / "double", axes=axes, steps=50))
    still, frozen, moving = cells_of(tmp_path / "double").to_dict("records")
    assert frozen["frozen_throughout"] > 0.99
    assert still["frozen_throughout"] == still["lazy/sign_consistency"] == 1.0
    assert still["train/loss"] == still["train/loss_start"]
    assert not still["diverged"]
    assert moving["frozen_throughout"] < 0.01
    axes = {"lr": [1e-4], "alpha": 1e4}
    fit(make_grid(tmp_path / "single", axes=axes, steps=50), precision="32-true")
    assert cells_of(tmp_path / "single")["frozen_throughout"][0] > 0.9
    assert json.loads((tmp_path / "single/grid.json").read_text())["dtype"] == "float32"


def test_a_cell_ends_diverged_where_its_loss_ends_above_the_first(tmp_path: Path) -> None:
    axes = {"lr": [1e-3, 1e3, 1e9], "alpha": 0.1}
    fit(make_grid(tmp_path, axes=axes, loss=SquaredLoss(), steps=20))
    table = cells_of(tmp_path)
    above = ~(table["train/loss"] <= table["train/loss_start"])
    assert list(table["diverged"]) == list(above) == [False, True, True]
    assert list(table["steps"]) == [20, 1, 1]  # beyond 1e6 times the first at once


def test_the_effective_learning_rate_is_that_of_the_formula(tmp_path: Path) -> None:
    # Spec: with v₁ the second moment of αG the original rate is η/(√v₁/α + ε), the folded one
    # η/(√v₁ + ε). For large α, αG does not depend on it, so two cells tell v₁ and ε apart.
    axes = {"optimizer": ["rmsprop", "scaled_rmsprop", "adam", "sgd"], "lr": 1e-9, "alpha": 1e3}
    fit(make_grid(tmp_path, axes=axes, steps=1, eps=1e-4))
    rate = cells_of(tmp_path).set_index("optimizer")["effective_lr"]
    root = 1e-9 / rate["scaled_rmsprop"] - 1e-4
    assert rate["rmsprop"] == pytest.approx(1e-9 / (root / 1e3 + 1e-4), rel=1e-9)
    # Adam's v̂₁ = G² after one step, RMSProp's v₁ = (1 − ρ) G².
    assert rate["adam"] == pytest.approx(1e-9 / (root / 1e3 / 1e-3**0.5 + 1e-4), rel=1e-9)
    assert rate["sgd"] == 1e-9


def test_the_knobs_of_the_net_are_axes_too(tmp_path: Path) -> None:
    def net(width: int, depth: int) -> torch.nn.Module:
        return FullyConnected(64, width, depth, 10)

    axes = {"lr": [0.1, 0.2], "width": [3, 5], "depth": [1, 2]}
    grid = fit(make_grid(tmp_path, net=net, axes=axes, steps=3, memory_budget=None))
    table = cells_of(tmp_path)
    assert len(table) == len(grid.cells) == 8
    assert list(table["width"]) == [3] * 4 + [5] * 4
    assert table["val/acc"].notna().all()


def test_regression_has_no_accuracy_and_a_linear_net_no_signs(tmp_path: Path) -> None:
    net = partial(TwoLayerNet, 5, 4, 1, activation="linear")
    data = TeacherStudentDataModule(5, n_train=20, n_val=10)
    fit(make_grid(tmp_path, net=net, loss=SquaredLoss(), axes={"lr": 0.1}, steps=20), data)
    row = cells_of(tmp_path).iloc[0]
    assert row["train/loss"] < row["train/loss_start"]
    assert np.isnan(row[["train/acc", "val/acc", "lazy/sign_consistency"]].astype(float)).all()


def test_all_cells_of_a_seed_start_from_the_net_of_a_single_run(tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    grid = fit(make_grid(tmp_path, axes={"lr": 1.0, "seed": [7]}, steps=1))
    assert torch.equal(torch.get_rng_state(), state), "the global generator must not move"
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(7)
    expected = TwoLayerNet(64, WIDTH, 10).hidden.weight
    assert grid._run is not None
    assert torch.equal(grid._run._start_net(7, ()).hidden.weight, expected)  # type: ignore[union-attr,arg-type]


# --- memory, progress -----------------------------------------------------------------------------


def tensors_in(value: Any, seen: dict[int, int]) -> None:
    """Collect the memory of all tensors that an object holds, each storage once."""
    if isinstance(value, Tensor):
        seen[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
    elif isinstance(value, dict):
        for one in value.values():
            tensors_in(one, seen)
    elif hasattr(value, "__dict__") and "lightning_lazy" in type(value).__module__:
        tensors_in(vars(value), seen)


def test_chunks_keep_to_the_memory_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, heights = [], {"sgd": 0, "scaled_adam": 0}
    advance = Chunk.advance

    def measured(self: Chunk) -> Any:
        seen: dict[int, int] = {}
        tensors_in(self._stack, seen)
        tensors_in(self._optimizer, seen)
        # What all cells share is not a chunk's: inputs, and targets of the loss.
        held.append(sum(seen.values()) - 3 * TRAIN * 64 * 8 - 2 * TRAIN * 10 * 8 - 10_000)
        optimizer = self.cells[0].optimizer
        heights[optimizer] = max(heights[optimizer], len(self.cells))
        return advance(self)

    monkeypatch.setattr(Chunk, "advance", measured)
    grid = fit(make_grid(tmp_path, memory_budget=200_000))
    adam = next(cell for cell in grid.cells if cell.optimizer == "scaled_adam")
    assert parameter_tensors(adam) == 7
    # By hand: three hidden buffers, five of the outputs' size; θ, g, its signs, a copy, and with
    # Adam two moments and a root.
    bytes_per_cell = [8 * ((3 * WIDTH + 5 * 10) * TRAIN + k * (64 + 10) * WIDTH) for k in (4, 7)]
    assert list(heights.values()) == [200_000 // size for size in bytes_per_cell]
    assert max(held) <= 200_000


@pytest.mark.slow
def test_the_process_grows_by_the_budget_and_little_more(tmp_path: Path) -> None:
    # With a low threshold every tensor is returned when freed; by default glibc keeps fragments.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "100000"}
    code = (
        "import sys, torch\n"
        f"sys.path.insert(0, {str(HERE.parent / 'helpers')!r})\n"
        "from functools import partial\nfrom pathlib import Path\n"
        "from grids import *\n"
        "torch.set_num_threads(1)\n"
        # Not ru_maxrss, which a new process takes over from the one that started it.
        "status = lambda: dict(line.split(':') for line in open('/proc/self/status'))\n"
        "peak = lambda: int(status()['VmHWM'].split()[0]) * 1024\n"
        "def go(name, budget):\n"
        "    net = partial(TwoLayerNet, 64, 500, 10)\n"
        "    axes = {'optimizer': 'adam', 'lr': '1e-3:1:400'}\n"
        "    fit(make_grid(Path(sys.argv[1]) / name, net=net, axes=axes, steps=2,"
        " memory_budget=budget, shard='1/2'))\n"
        "go('small', 4_000_000)\nbefore = peak()\ngo('large', 200_000_000)\n"
        "print(peak() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    grown = int(done.stdout.splitlines()[-1])
    assert 0.95 * 200e6 < grown < 1.05 * 200e6


def test_the_bar_counts_the_updates_of_all_cells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer: Any, module: StackedGrid, *_: Any) -> None:
            seen.append(module.progress)

    fit(make_grid(tmp_path), enable_progress_bar=True, callbacks=[CellStepBar(), Watch()])
    assert seen[-1] == (32 * 30, 32 * 30)
    assert seen == sorted(seen)
    assert "960/960" in capsys.readouterr().err


# --- the folder, stops, shards --------------------------------------------------------------------


def test_the_folder_holds_the_table_a_summary_and_no_leftovers(tmp_path: Path) -> None:
    fit(make_grid(tmp_path), logger=MetricsLog(tmp_path), log_every_n_steps=1)
    table = read_cells(tmp_path)
    assert list(table["cell"]) == list(range(32))
    pd.testing.assert_frame_equal(table, pd.read_csv(tmp_path / "cells.csv"))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["metrics"]["stacked/cells"] == 32
    assert summary["metrics"]["val/acc"] == table["val/acc"].max()
    assert {"versions", "device", "git_revision", "wall_time_s"} <= set(summary)
    assert pd.read_csv(tmp_path / "metrics.csv")["val/acc"].iloc[-1] == table["val/acc"].max()
    assert not list(tmp_path.rglob("*.new")) + list(tmp_path.rglob("*.ckpt"))
    assert missing_shards(tmp_path) == {}


class Stop(pl.Callback):
    def __init__(self, rounds: int) -> None:
        self.rounds = rounds

    def on_train_batch_end(self, *_: Any) -> None:
        self.rounds -= 1
        if self.rounds == 0:
            raise ZeroDivisionError


def test_a_stopped_grid_loses_at_most_the_chunk_s_last_interval(tmp_path: Path) -> None:
    # Rounds of a chunk end at updates 1, 5, 10, 15, …: the 5th ends at 20, a state is kept at 20.
    axes = {"lr": [0.1, 0.2, 0.3], "alpha": [1.0, 2.0]}
    grid = make_grid(tmp_path, axes=axes, memory_budget=3 * CELL_BYTES)
    with pytest.raises(ZeroDivisionError):
        fit(grid, callbacks=[Stop(7 + 5)])
    done = grid.progress[0]
    saved = read_checkpoint(tmp_path / "checkpoints/last.ckpt")
    height = len(saved["chunk"]["cells"])
    finished = len(read_cells(tmp_path))
    assert saved["chunk"]["step"] == 20
    assert done == finished * 30 + height * 20
    again = make_grid(tmp_path, axes=axes, memory_budget=3 * CELL_BYTES)
    with pytest.raises(ZeroDivisionError):
        fit(again, callbacks=[Stop(1)])
    assert again.progress[0] == done + height * 5
    fit(make_grid(tmp_path, axes=axes))
    assert len(read_cells(tmp_path)) == 6
    fit(make_grid(tmp_path, axes=axes))  # once more: nothing is left to do, nothing is lost
    assert len(read_cells(tmp_path)) == 6


def test_shards_are_the_grid(tmp_path: Path) -> None:
    fit(make_grid(tmp_path / "whole"))
    for number in (1, 3):
        fit(make_grid(tmp_path / "shards" / str(number), shard=f"{number}/3"))
    assert missing_shards(tmp_path / "shards") == {"2/3": 11}
    fit(make_grid(tmp_path / "elsewhere", shard="2/3"))
    merged = cells_of(tmp_path / "shards")
    assert len(merged) == 21
    assert missing_shards(tmp_path / "shards", tmp_path / "elsewhere") == {}
    merged = read_cells(tmp_path / "shards", tmp_path / "elsewhere").drop(columns="seconds")
    # Other neighbours in the stack: equal to rounding.
    pd.testing.assert_frame_equal(merged, cells_of(tmp_path / "whole"), rtol=1e-6)


def test_another_grid_or_shard_in_one_folder_is_refused_and_nothing_lost(tmp_path: Path) -> None:
    axes = {"lr": [0.1, 0.2]}
    fit(make_grid(tmp_path, axes=axes))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for changes, message in (
        ({"axes": {"lr": [0.1, 0.3]}}, r"holds the results of another grid \(axes is "),
        ({"axes": axes, "steps": 40}, r"another grid \(steps is 30, in this run 40\)"),
        ({"axes": axes, "eps": 1e-6}, r"another grid \(eps is 1e-08, in this run 1e-06\)"),
        ({"axes": axes, "loss": SoftHingeLoss(beta=5)}, r"another grid \(loss is "),
        ({"axes": axes, "net": partial(TwoLayerNet, 64, 7, 10)}, r"another grid \(net is "),
        # Printed alike: other first weights, another function.
        ({"axes": axes, "net": partial(TwoLayerNet, 64, WIDTH, 10, init="unit")}, "weights is "),
        ({"axes": axes, "shard": "1/2"}, r"results of shard 1/1 \(shard is .*, in this run .1/2"),
    ):
        with pytest.raises(InputError, match=message):
            fit(make_grid(tmp_path, **changes))
    with pytest.raises(InputError, match=r"another grid \((inputs|labels) is "):
        fit(make_grid(tmp_path, axes=axes), digits(subset_seed=1))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_losses_of_one_name_are_told_apart(tmp_path: Path) -> None:
    # Partial functions have no names of their own.
    fit(make_grid(tmp_path, loss=partial(cross_entropy, label_smoothing=0.1)))
    with pytest.raises(InputError, match=r"another grid \(loss_of_example is "):
        fit(make_grid(tmp_path, loss=partial(cross_entropy, label_smoothing=0.2)))


def test_what_differs_of_long_descriptions_is_shown(tmp_path: Path) -> None:
    fit(make_grid(tmp_path))
    with pytest.raises(InputError, match=r'"lr": \[0.01, .*in this run ….*"lr": \[0.5\]}\)'):
        fit(make_grid(tmp_path, axes=AXES | {"lr": 0.5}))


def test_tables_of_two_grids_are_not_merged(tmp_path: Path) -> None:
    fit(make_grid(tmp_path / "1", axes={"lr": [0.1, 0.2]}))
    fit(make_grid(tmp_path / "2", axes={"lr": [0.1, 0.3]}))
    with pytest.raises(
        InputError, match=r"1 holds the results of another grid \(axes is .* in .*2"
    ):
        read_cells(tmp_path)
    with pytest.raises(InputError, match=r"no cells.parquet there; give the folder of a grid"):
        read_cells(tmp_path / "nowhere")


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"axes": {"lr": [0.1, -1]}}, "axes.lr must be finite and above 0, got -1"),
        ({"shard": "3/2"}, "with i from 1 to n, got '3/2'"),
        ({"axes": {"lr": [0.1]}, "shard": "2/2"}, "shard must hold a cell, got 2/2 of a grid of 1"),
        ({"steps": 0}, "steps must be an integer of at least 1"),
        ({"memory_budget": 0}, "memory_budget must be an integer of at least 1"),
        ({"centering": "middle"}, "centering must be one of"),
        ({"hessian": "end"}, "hessian must be one of none, start, both"),
        ({"rho": 1.0}, "rho must be below 1"),
        ({"betas": (0.9,)}, "betas must be two numbers"),
    ],
)
def test_a_bad_argument_gets_one_line(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_grid(tmp_path, **changes)
    assert not list(tmp_path.iterdir())


def test_a_budget_too_small_for_one_cell_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"memory_budget must hold one cell of \d+ bytes, got 1000"
    ):
        fit(make_grid(tmp_path, memory_budget=1000))


def test_a_scale_that_single_precision_can_t_square_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"axes.alpha has 1e\+30, .* in float32.*trainer=float64"):
        fit(make_grid(tmp_path, axes={"alpha": [1.0, 1e30]}), precision="32-true")


def test_mixed_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="in one precision, got precision=bf16-mixed: use 32-true"):
        fit(make_grid(tmp_path), precision="bf16-mixed")
    assert not list(tmp_path.iterdir())


def test_what_is_no_full_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got 3 batches: use batch_size=full"):
        fit(make_grid(tmp_path), digits(batch_size=10))
    with pytest.raises(InputError, match=r"use data.augment=false"):
        fit(make_grid(tmp_path), digits(augment=True, padding=1))
    assert not list(tmp_path.iterdir())


def test_a_trainer_that_ends_before_the_cells_do_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"use Trainer\(max_epochs=-1\), and start again to go on"):
        fit(make_grid(tmp_path, axes=AXES), max_epochs=2)
