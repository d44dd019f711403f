"""Experiments of Kanoh & Sugiyama 2021: the protocol of §3, and grids drawn at the end.

Oracles: the paper's printed hyper-parameters, its conclusions, and single runs.
"""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from experiments import composed

from lightning_lazy.build import build
from lightning_lazy.figures.__main__ import redraw
from lightning_lazy.losses import SoftHingeLoss

Train = Callable[..., str]
GRIDS = ("phase_diagram", "folded_adam", "knobs")
SIZES = {"n_train", "n_val", "resolution"}
SMALL = (
    "data=digits", "data.resolution=null", "data.n_val=60", "data.n_train=40", "model.width=8",
    "max_steps=60", "hydra/job_logging=none", "callbacks.progress_bar=null",
)  # fmt: skip


def only_sweep(name: str) -> Path:
    (folder,) = Path("runs/kanoh", name).iterdir()
    return folder


@pytest.mark.parametrize("grid", GRIDS)
def test_a_quick_experiment_changes_sizes_only(grid: str) -> None:
    paper, quick = (composed(f"experiment=kanoh/{grid}{end}") for end in ("", "_quick"))
    for group in ("loss", "callbacks", "centering", "figures", "sweep_figure"):
        assert paper[group] == quick[group], group
    assert paper["model"] | {"width": 100} == quick["model"]
    assert paper["trainer"] | {"max_steps": 300} == quick["trainer"]
    assert {k for k, v in paper["data"].items() if quick["data"][k] != v} <= SIZES
    changed = {k for k, v in paper["stacked"].items() if quick["stacked"][k] != v}
    assert changed <= {"axes", "steps"}
    assert paper["stacked"]["axes"]["optimizer"] == quick["stacked"]["axes"]["optimizer"]


@pytest.mark.parametrize("grid", GRIDS)
def test_grids_have_the_protocol_of_section_3(grid: str) -> None:
    plain = composed(f"experiment=kanoh/{grid}")
    assert (plain["model"]["width"], plain["model"]["beta"]) == (1000, 5.0)
    loss = build(plain["loss"])
    assert isinstance(loss, SoftHingeLoss)
    assert loss.beta == 20.0
    assert (plain["data"]["n_train"], plain["data"]["normalize"]) == (10000, "sphere")
    assert plain["data"]["n_val"] is None, "all 10,000 test images"
    assert plain["trainer"]["precision"] == "64-true"
    stacked = plain["stacked"]
    assert (stacked["steps"], stacked["rho"], stacked["eps"]) == (5000, 0.999, 1e-8)
    assert plain["batch_size"] == "full"


def test_the_phase_diagram_has_the_three_optimizers_of_the_paper_and_adam_has_four() -> None:
    axes = composed("experiment=kanoh/phase_diagram")["stacked"]["axes"]
    assert axes["optimizer"] == ["sgd", "rmsprop", "scaled_rmsprop"]
    axes = composed("experiment=kanoh/folded_adam")["stacked"]["axes"]
    assert axes["optimizer"] == ["rmsprop", "scaled_rmsprop", "adam", "scaled_adam"]


@pytest.mark.slow
def test_phase_diagram_quick_draws_every_figure_and_shows_the_folds(train: Train) -> None:
    # The paper's claims, on digits in place of MNIST. In lazy training the folded RMSProp has one
    # best η for every α, and the original one needs η ∝ 1/α (to a cell of a decade on both sides),
    # since it is the folded one with ηα; gradient descent diverges at η ∝ α: over six decades edges
    # that are one whole decade off at both ends change the slope by 0.3.
    out = train(
        "experiment=kanoh/phase_diagram_quick", *SMALL, "data.n_train=200", "model.width=30",
        "max_steps=100", "stacked.axes.alpha=1e-3:1e3:7", "stacked.axes.lr=1e-6:1e6:13",
    )  # fmt: skip
    folder = only_sweep("phase_diagram_quick")
    names = {path.stem for path in (folder / "figures").glob("*.png")}
    assert names == {
        "fig1_2", "accuracy_digits", "train_accuracy_digits", "fig6", "fig7", "fig8", "fig9",
        "slices", "boundary",
    }  # fmt: skip
    assert names == {path.stem for path in (folder / "0/figures").glob("*.png")}
    assert all(f"figures/{name}.png" in out for name in names)
    law = pd.read_csv(folder / "laws.csv").set_index("optimizer").loc["sgd"]
    assert law["points"] >= 4
    assert abs(law["exponent"] - 1) < 0.3
    lines = pd.read_csv(folder / "lines.csv").set_index(["optimizer", "alpha"])
    best = lines["best"]
    assert 0.05 < best["scaled_rmsprop", 1e3] / best["scaled_rmsprop", 1.0] < 20
    assert best["rmsprop", 1.0] / best["rmsprop", 1e3] > 50


@pytest.mark.slow
def test_folded_adam_quick_folds_like_rmsprop(train: Train) -> None:
    train(
        "experiment=kanoh/folded_adam_quick", *SMALL, "stacked.axes.alpha=[1e-2,1,1e2]",
        "stacked.axes.lr=1e-8:1e2:6",
    )  # fmt: skip
    folder = only_sweep("folded_adam_quick")
    cells = pd.read_csv(folder / "diagram.csv")
    rate = cells[cells["lr"] == 1e-8].set_index(["optimizer", "alpha"])["effective_lr"]
    # At η = 1e-8 training is lazy: the effective rate of the folded optimizer does not depend on α,
    # that of the original one is ∝ α, since √v is far above α ε. Gradients change by η and less.
    assert rate["scaled_adam", 1e2] == pytest.approx(rate["scaled_adam", 1.0], rel=1e-3)
    assert rate["adam", 1e2] == pytest.approx(100 * rate["adam", 1.0], rel=1e-3)
    assert (folder / "figures/fig1_2.png").is_file()


@pytest.mark.slow
def test_knobs_draws_any_pair_for_any_net_that_can_be_stacked(train: Train) -> None:
    train(
        "experiment=kanoh/knobs_quick", *SMALL, "model=fully_connected", "model.width=8",
        "x=width", "y=alpha", "+stacked.axes.width=[3,5]", "stacked.axes.alpha=[0.1,1,10]",
        "stacked.axes.lr=0.1", "stacked.axes.l2=0", "model.depth=1",
    )  # fmt: skip
    folder = only_sweep("knobs_quick")
    picture = folder / "figures/val_acc_width_alpha.png"
    picture.unlink()
    redraw(folder)
    assert picture.is_file()
    assert len(pd.read_csv(folder / "lines.csv")) == 2 * 3


@pytest.mark.slow
def test_an_l2_term_far_above_the_sharpness_is_the_edge_of_divergence(train: Train) -> None:
    # λ_max at the start is 0.1 here: the weights themselves diverge for η > 2/l2, whatever the net
    # computes.
    train(
        "experiment=kanoh/knobs_quick", *SMALL, "stacked.axes.optimizer=sgd",
        "stacked.axes.lr=1e-3:1e1:17", "stacked.axes.l2=[10,100]",
    )  # fmt: skip
    lines = pd.read_csv(only_sweep("knobs_quick") / "lines.csv").set_index("l2")
    assert (lines["exceptions"] == 0).all()
    assert lines.loc[100.0, "low"] < 2 / 100 < lines.loc[100.0, "high"]
    assert lines.loc[10.0, "low"] < 2 / 10 < lines.loc[10.0, "high"]


@pytest.mark.slow
def test_shards_run_one_after_another_are_one_picture(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    axes = ("stacked.axes.alpha=[0.1,10]", "stacked.axes.lr=1e-3:1e1:5")
    train(
        "experiment=kanoh/knobs_quick", *SMALL, "x=alpha", "y=lr", "stacked.axes.l2=0", *axes,
        "stacked.shard=1/3,3/3",
    )  # fmt: skip
    folder = only_sweep("knobs_quick")
    capsys.readouterr()
    redraw(folder / "0", folder / "1")
    out = capsys.readouterr().out
    assert "missing: shard 2/3: 7 cells\n" in out
    assert f"figure: {folder}/0/figures/val_acc_alpha_lr.png" in out


def test_a_pair_that_is_none_gets_one_line_before_training(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(
        SystemExit, match="drawn.x: Interpolation key 'stacked.axes.wdith' not found"
    ):
        train("experiment=kanoh/knobs_quick", *SMALL, "x=wdith")
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert not list(Path("runs").rglob("cells.parquet"))
