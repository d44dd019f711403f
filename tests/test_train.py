"""``train.py`` as a user meets it: the default run, its folder, resume, sweeps, one-line errors."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from lightning_lazy import InputError, load_checkpoint, read_checkpoint
from lightning_lazy.command_line import resume_arguments

ROOT = Path(__file__).parent.parent

SMALL = ("data.n_train=60", "data.n_val=30", "model.width=8", "batch_size=20", "max_epochs=2")
Train = Callable[..., str]


def only_run(name: str = "default") -> Path:
    (folder,) = Path("runs", name).iterdir()
    return folder


def test_the_default_run_leaves_everything_in_its_folder(train: Train) -> None:
    out = train("max_epochs=1")
    folder = only_run()
    for name in ("config.yaml", "metrics.csv", "summary.json", "checkpoints/last.ckpt"):
        assert (folder / name).is_file(), name
    assert (folder / "figures/learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert str(folder) in out.replace("\n", "")
    summary = json.loads((folder / "summary.json").read_text())
    rows = pd.read_csv(folder / "metrics.csv")
    assert summary["steps"] == 23
    assert summary["epochs"] == 1
    assert summary["diverged"] is False
    assert summary["seed"] == 0
    assert summary["metrics"]["val/acc"] == rows["val/acc"].dropna().iloc[-1]
    assert summary["versions"]["torch"] == torch.__version__
    assert {"frozen_share", "wall_time_s", "device", "git_revision"} <= set(summary)
    for metric in ("val/acc", "train/loss", "lazy/activation_stability"):
        assert metric in out


def test_knobs_reach_every_place_that_needs_them(train: Train) -> None:
    train(
        *SMALL[:3], "optimizer=scaled_rmsprop", "alpha=4", "lr=0.01", "l2=0.1", "seed=7",
        "batch_size=full", "max_steps=6", "trainer=float64",
    )  # fmt: skip
    module = load_checkpoint(only_run() / "checkpoints/last.ckpt")
    checkpoint = read_checkpoint(only_run() / "checkpoints/last.ckpt")
    config = checkpoint["lightning_lazy_config"]
    group = checkpoint["optimizer_states"][0]["param_groups"][0]
    assert (module.alpha, module.l2, module.dtype) == (4.0, 0.1, torch.float64)
    assert (group["lr"], group["alpha"]) == (0.01, 4)
    assert (config["data"]["seed"], config["data"]["batch_size"]) == (7, "full")
    assert checkpoint["global_step"] == 6


def test_an_empty_checkpoint_path_is_a_new_run(train: Train) -> None:
    train(*SMALL, "ckpt_path=")
    assert (only_run() / "summary.json").is_file()


def test_max_epochs_with_a_full_batch_counts_updates(train: Train) -> None:
    train(*SMALL[:3], "batch_size=full", "max_epochs=5", "every_n_steps=2")
    rows = pd.read_csv(only_run() / "metrics.csv")
    assert list(rows["step"]) == list(rows["epoch"]) == [0, 1, 2, 4, 5]


def test_a_loaded_checkpoint_computes_what_the_run_computed(train: Train) -> None:
    train(*SMALL)
    module = load_checkpoint(only_run() / "checkpoints/last.ckpt")
    from lightning_lazy.data import ImageDataModule

    data = ImageDataModule("digits", n_train=60, n_val=30)
    data.setup("fit")
    x, y = data.transform(data.val_set.__getitems__(range(30)))
    acc = (module(x).argmax(1) == y).double().mean().item()
    assert acc == pd.read_csv(only_run() / "metrics.csv")["val/acc"].dropna().iloc[-1]


def test_a_resumed_run_is_the_longer_run(train: Train, tmp_path: Path) -> None:
    arguments = [*SMALL, "optimizer=scaled_adam", "lr=0.01", "data.augment=true", "seed=3"]
    train(*arguments, "max_epochs=4", "name=long")
    train(*arguments, "max_epochs=2", "name=short")
    short, long = only_run("short"), only_run("long")
    train(f"ckpt_path={short}/checkpoints/last.ckpt", "max_epochs=4")
    assert only_run("short") == short
    assert not Path("runs/default").exists()
    rows, same = (pd.read_csv(f / "metrics.csv") for f in (short, long))
    # The short run gave its verdict at its end, too.
    pd.testing.assert_frame_equal(
        rows.drop(columns="health/diverged"), same.drop(columns="health/diverged")
    )
    weights, other = (
        read_checkpoint(f / "checkpoints/last.ckpt")["state_dict"] for f in (short, long)
    )
    assert all(torch.equal(weights[k], other[k]) for k in weights if torch.is_tensor(weights[k]))


def test_the_arguments_of_a_resume_are_completed_once(train: Train) -> None:
    """Ranks that Lightning starts are given those of rank 0; a second ``+key=`` is an error."""
    train(*SMALL, "+trainer.gradient_clip_val=1")
    complete = resume_arguments([f"ckpt_path={only_run()}/checkpoints/last.ckpt", "max_epochs=3"])
    assert "+trainer.gradient_clip_val=1" in complete
    of_a_rank = [*complete, "hydra.job.name=train_ddp_process_1"]
    assert resume_arguments(of_a_rank) == of_a_rank


def test_resuming_a_finished_run_loses_nothing(train: Train) -> None:
    train(*SMALL)
    folder = only_run()
    before = (folder / "metrics.csv").read_bytes()
    out = train(f"ckpt_path={folder}/checkpoints/last.ckpt")
    assert (folder / "metrics.csv").read_bytes() == before
    assert json.loads((folder / "summary.json").read_text())["steps"] == 6
    assert "val/acc" in out


def test_a_resume_can_change_the_learning_rate_under_a_schedule(train: Train) -> None:
    train(*SMALL, "schedule=inverse_time", "lr=0.6", "schedule.beta=1")
    checkpoint = only_run() / "checkpoints/last.ckpt"
    train(f"ckpt_path={checkpoint}", "max_epochs=3", "lr=0.3")
    state = read_checkpoint(checkpoint)
    # Closed form: lr/(1 + t), t = 3 epochs.
    assert state["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0.3 / 4)


def test_a_refused_resume_leaves_the_run_as_it_was(train: Train) -> None:
    train(*SMALL, "max_epochs=2")
    checkpoint = only_run() / "checkpoints/last.ckpt"
    refused = ("lr=abc", "optimizer.nesterov=maybe", "+optimizer.nonsense=1", "max_epochs=1")
    for override in refused:
        with pytest.raises(SystemExit, match="error"):
            train(f"ckpt_path={checkpoint}", override)
    train(f"ckpt_path={checkpoint}", "max_epochs=3")
    assert read_checkpoint(checkpoint)["global_step"] == 9


def test_a_changed_learning_rate_survives_a_kill_before_the_next_checkpoint(train: Train) -> None:
    train(*SMALL, "max_epochs=1", "lr=1.0")
    checkpoint = only_run() / "checkpoints/last.ckpt"
    old = checkpoint.read_bytes()
    train(f"ckpt_path={checkpoint}", "max_epochs=2", "lr=0.1")
    checkpoint.write_bytes(old)  # what a kill before the first checkpoint leaves
    train(f"ckpt_path={checkpoint}")
    state = read_checkpoint(checkpoint)
    assert state["optimizer_states"][0]["param_groups"][0]["lr"] == 0.1
    assert state["global_step"] == 6


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("alpha=3", "alpha=3 would change the model"),
        ("model.width=9", "model.width=9 would change the model"),
        ("data.n_train=50", "data.n_train=50 would change the data"),
        ("seed=1", "would change the data"),
        ("schedule=step", "would change the schedule"),
        ("optimizer=adam", "would change the optimizer"),
    ],
)
def test_a_resume_refuses_another_model_or_other_data(
    train: Train, override: str, what: str
) -> None:
    train(*SMALL, "max_epochs=1")
    checkpoint = only_run() / "checkpoints/last.ckpt"
    before = (only_run() / "config.yaml").read_text()
    with pytest.raises(SystemExit, match=what):
        train(f"ckpt_path={checkpoint}", override)
    assert (only_run() / "config.yaml").read_text() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["alhpa=1"], "Could not override 'alhpa'"),
        (["model.wdith=1"], "Could not override 'model.wdith'"),
        (["model=resnet_9000"], "Could not find 'model/resnet_9000'"),
        (["alpha=0"], "alpha must be finite and above 0, got 0"),
        (["alpha=big"], "alpha must be a number above 0, got 'big'"),
        (["l2=-1"], "l2 must be finite and at least 0"),
        (["lr=-1"], "lr must be finite and at least 0"),
        (["lr=abc"], "lr must be a number at least 0, got 'abc'"),
        (["max_epochs=abc"], "max_epochs must be an integer of at least 1, got 'abc'"),
        (["max_epochs=0"], "max_epochs must be an integer of at least 1, got 0"),
        (["max_epochs=-1"], "the run would never end"),
        (["seed=-1"], "seed must be an integer of at least 0"),
        (["alpha=1e200"], "alpha must be between"),
        (["alpha=1e25"], "alpha=1e\\+25 can't be squared in torch.float32"),
        (["hydra.run.dir=/proc/nowhere"], "/proc/nowhere"),
        (["data.n_train=99999"], "99999"),
        (["data.classes=[0,77]"], "77"),
        (["data.dataset=cats"], "cats"),
        (["model=deep_linear"], "no activation modules .*callbacks=health"),
        (["+model.depth=3"], "can't build lightning_lazy.models.TwoLayerNet"),
        (["model.activation=swish"], "activation must be one of"),
        (["callbacks.activation_stability.size=99999"], "should have 99999 samples"),
        (["ckpt_path=nowhere.ckpt"], "there is no checkpoint"),
        (["batch_size=0"], "batch_size"),
        (["centering=middle"], "centering must be one of"),
        (["data=folder", "data.path=nowhere"], "nowhere"),
        (["data=folder"], "data.path"),
        (["trainer.precision=13"], "13"),
    ],
)
def test_a_mistake_gets_one_line(
    train: Train, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=message) as exit_info:
        train(*arguments)
    assert "\n" not in str(exit_info.value.code)
    assert "Traceback" not in capsys.readouterr().err


def test_a_checkpoint_that_is_damaged_is_said_to_be(train: Train) -> None:
    train(*SMALL, "max_epochs=1")
    path = only_run() / "checkpoints/last.ckpt"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(SystemExit, match="can't be read as a checkpoint"):
        train(f"ckpt_path={path}")


def test_a_diverged_run_is_a_result(train: Train) -> None:
    train(*SMALL, "lr=1e6", "loss=squared", "callbacks.divergence_guard.every_n_steps=1")
    summary = json.loads((only_run() / "summary.json").read_text())
    assert summary["diverged"] is True
    assert summary["steps"] < 6


def test_a_sweep_skips_finished_cells_and_draws_also_where_one_fails(train: Train) -> None:
    arguments = (
        "-m", *SMALL, "alpha=0.1,1,-1", "optimizer=sgd,scaled_rmsprop", "name=sweep",
        "callbacks.activation_stability.metric=lazy/sign_consistency",
        "++sweep_figure._target_=lightning_lazy.figures.kanoh.fig6",
    )  # fmt: skip
    with pytest.raises(SystemExit, match="alpha must be finite and above 0, got -1"):
        train(*arguments)
    folder = only_run("sweep")
    cells = pd.read_csv(folder / "cells.csv")
    assert sorted(zip(cells["alpha"], cells["optimizer"], strict=True)) == [
        (0.1, "SGD"), (0.1, "ScaledRMSprop"), (1.0, "SGD"), (1.0, "ScaledRMSprop"),
    ]  # fmt: skip
    assert (folder / "figures/fig6.png").is_file()
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*/summary.json")}
    with pytest.raises(SystemExit, match="got -1"):
        train(*arguments)
    assert only_run("sweep") == folder
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/summary.json")} == times


def test_a_sweep_goes_on_with_the_cell_that_was_stopped(train: Train) -> None:
    arguments = ("-m", *SMALL, "seed=0,1", "name=sweep", "optimizer=scaled_adam", "lr=0.01")
    train(*arguments)
    *_, cell = sorted(path.parent for path in only_run("sweep").glob("*/summary.json"))
    whole, last = (cell / "metrics.csv").read_bytes(), cell / "checkpoints/last.ckpt"
    weights = read_checkpoint(last)["state_dict"]
    # What a kill in the second epoch leaves; then with a checkpoint that is damaged.
    (cell / "summary.json").unlink()
    (cell / "checkpoints/previous.ckpt").replace(last)
    assert 0 < read_checkpoint(last)["global_step"] < 6
    good = last.read_bytes()
    last.write_bytes(good[:-500])
    with pytest.raises(SystemExit, match=r"last.ckpt can't be read"):
        train(*arguments)
    last.write_bytes(good)
    train(*arguments)
    assert (cell / "metrics.csv").read_bytes() == whole
    after = read_checkpoint(last)["state_dict"]
    assert all(torch.equal(weights[k], after[k]) for k in weights if torch.is_tensor(weights[k]))


def test_a_mistake_in_all_cells_of_a_sweep_is_the_line_that_is_told(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^error: expected a folder with train/ .* got 'nowhere'"):
        train("experiment=lewkowycz/s8_quick", "data.path=nowhere")
    assert "no figure: " in capsys.readouterr().err


def test_subprocess_ddp_is_refused_inside_a_multirun(train: Train) -> None:
    with pytest.raises(SystemExit, match=r"use trainer.strategy=ddp_spawn"):
        train("-m", *SMALL, "seed=0,1", "trainer.devices=2", "+trainer.strategy=ddp")


def test_help_explains_groups_knobs_and_commands(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        train("--help")
    assert exit_info.value.code == 0
    out = capsys.readouterr().out
    for word in ("alpha=", "batch_size=", "optimizer: adam", "kanoh: fig6", "Five useful commands"):
        assert word in out
    assert out.count("python train.py ") >= 5


def test_offline_wandb_gets_metrics_config_and_figures(train: Train) -> None:
    train(*SMALL, "logger=wandb")
    run = next(only_run().glob("wandb/offline-run-*"))
    assert list(run.glob("files/media/images/figures/learning_curve*.png"))
    deadline = time.monotonic() + 30  # W&B writes from a process of its own
    while b"val/acc" not in (raw := next(run.glob("*.wandb")).read_bytes()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for text in (b"val/acc", b"lazy/activation_stability", b"TwoLayerNet", b"n_train"):
        assert text in raw


def test_tensorboard_gets_metrics_and_figures(train: Train) -> None:
    train(*SMALL, "logger=tensorboard")
    raw = next(only_run().glob("tensorboard/**/events*")).read_bytes()
    assert b"val/acc" in raw
    assert b"figures/learning_curve" in raw


def test_figures_are_redrawn_from_files(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_lazy.figures.__main__ import redraw

    train(*SMALL)
    picture = only_run() / "figures/learning_curve.png"
    picture.unlink()
    redraw(only_run())
    assert picture.is_file()
    with pytest.raises(InputError, match="holds no runs"):
        redraw(only_run() / "checkpoints")


BLOCK = """
import runpy, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Block())
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name in {blocked} else find_spec(name, *a)
"""
# The rest is there: torchmetrics finds the metadata of torchvision and fails without the package.
EXTRA = {"hydra", "sklearn", "pandas"}


def test_without_the_extra_callbacks_import_and_train_says_what_is_missing(tmp_path: Path) -> None:
    code = BLOCK.format(blocked=EXTRA) + (
        "import lightning_lazy.callbacks, lightning_lazy.data\n"
        f"sys.argv = ['train.py']\nrunpy.run_path({str(ROOT / 'train.py')!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    assert "hydra" in line
    assert 'pip install -e ".[train]" -c constraints.txt' in line
    assert "Traceback" not in done.stderr
