"""Experiments of Lewkowycz & Gur-Ari 2020: protocols of SM A, and the paper's conclusions.

Oracles: the printed hyper-parameters, and the margins within which the laws are expected.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from experiments import composed, sweep
from PIL import Image

from lightning_lazy.figures.lewkowycz.cells import exponent

FIGURES = (
    "fig1a", "fig1b", "fig1c", "fig2", "fig2_wrn", "fig3", "fig4",
    "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10",
)  # fmt: skip
SIZES = {
    "model": {"width", "depth", "channels", "hidden"},
    "data": {"n_train", "n_val", "resolution", "size", "resize", "num_workers", "batch_size"},
}
Train = Callable[..., str]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of images of 20×20 pixels in two classes, uniform in colour but for noise."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 4)):
        for number, name in enumerate(("dark", "light")):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                level = 40 + 140 * number + generator.integers(40, size=(20, 20, 3))
                Image.fromarray(level.astype(np.uint8)).save(folder / f"{index}.png")
    return tmp_path / "pictures"


@pytest.mark.parametrize("figure", FIGURES)
def test_a_quick_experiment_changes_sizes_only(figure: str) -> None:
    paper, quick = (composed(f"experiment=lewkowycz/{figure}{end}") for end in ("", "_quick"))
    for group in ("loss", "callbacks", "centering", "linearize", "sweep_figure", "alpha"):
        assert paper[group] == quick[group], group
    for group in ("optimizer", "schedule"):
        for key, value in paper[group].items():
            assert key in ("lr", "total") or quick[group][key] == value, (group, key)
    for group, sizes in SIZES.items():
        for key, value in paper[group].items():
            assert key in sizes or quick[group][key] == value, (group, key)


@pytest.mark.parametrize("figure", sorted(set(FIGURES) - {"s5", "s8"}))
def test_all_nets_minimise_the_normalised_softmax_loss_uncentred(figure: str) -> None:
    plain = composed(f"experiment=lewkowycz/{figure}")
    assert plain["loss"]["_target_"].endswith("NormalizedSoftmaxLoss")
    assert (plain["centering"], plain["alpha"]) == ("none", 1.0)


@pytest.mark.parametrize(
    ("cell", "steps", "wanted"),
    [
        # 2/(ηλ) updates of full batches, but one at least and a million at most.
        ("{lr: 0.15, l2: 0.001}", 13_333, 2 / 0.15 / 0.001),
        ("{lr: 50, l2: 100}", 1, 1.0),
        ("{lr: 0.0025, l2: 1e-5}", 1_000_000, 2 / 0.0025 / 1e-5),
        # Without L2 term 10⁶/η.
        ("{lr: 50, l2: 0, as_long_as: 2e-6}", 20_000, 1e6 / 50),
    ],
)
def test_fig2_lasts_for_an_inverse_of_lr_and_l2(cell: str, steps: int, wanted: float) -> None:
    plain = composed("experiment=lewkowycz/fig2", f"cell={cell}")
    assert plain["max_steps"] == plain["trainer"]["max_steps"] == steps
    assert plain["wanted_updates"] == pytest.approx(wanted)
    assert plain["every_n_steps"] == max(1, round(steps / 200))
    assert plain["optimizer"]["lr"] == plain["lr"]
    assert plain["optimizer"]["momentum"] == 0
    model, data = plain["model"], plain["data"]
    assert (model["width"], model["depth"], data["n_train"]) == (2048, 3, 512)
    assert (model["sigma_w"] ** 2, model["sigma_b"]) == (pytest.approx(2), 0)
    assert (plain["batch_size"], data["dataset"]) == ("full", "mnist")


def test_nets_of_images_last_for_their_epochs() -> None:
    # 0.1/(ηλ) epochs of 49 updates with 1,024 images each; BatchNorm sees 128 of them.
    wrn = composed("experiment=lewkowycz/fig2_wrn", "cell={lr: 0.2, l2: 0.001}")
    assert wrn["max_steps"] == 500 * 49
    assert wrn["batch_size"] * wrn["trainer"]["accumulate_grad_batches"] == 1024
    assert wrn["trainer"]["val_check_interval"] == 8 * wrn["every_n_steps"]
    assert (wrn["model"]["depth"], wrn["model"]["width"], wrn["model"]["gain"]) == (28, 10, 1.0)
    assert wrn["model"]["running_averages"] is False
    assert (wrn["data"]["augment"], wrn["data"]["mixup"]) == (False, None)
    # 0.01/(ηλ) epochs of 391 updates; without L2 term 21,000, with BatchNorm 9,500.
    for cell, epochs in (
        ("{l2: 0.0001}", 10_000),
        ("{l2: 0, as_long_as: 4.762e-5}", 21_000),
        ("{batch_norm: true, l2: 0, as_long_as: 1.0526e-4}", 9_500),
    ):
        cnn = composed("experiment=lewkowycz/fig3", f"cell={cell}")
        assert cnn["max_steps"] == pytest.approx(epochs * 391, rel=1e-4)
        assert cnn["model"]["batch_norm"] is ("true" in cell)
        assert (cnn["lr"], cnn["batch_size"], cnn["model"]["channels"]) == (0.01, 128, 300)


def test_s6_shows_the_median_of_the_cnn() -> None:
    # The λ above 0 of figure 3, SM A.
    printed = [5e-5, 1e-4, 5e-4, 1e-3, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2]
    places = composed("experiment=lewkowycz/s6", "arm=lewkowycz/cnn")["places"]
    assert places == {
        "smallest": min(printed), "median": np.median(printed), "largest": max(printed),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cell", "l2", "epochs"),
    [
        ("{part: measure}", 0.01, 2),
        ("{part: predict, budget: 250}", 0.0066 / 250, 250),
        ("{part: grid, l2: 0.001}", 0.001, 100),
        ("{part: grid, l2: 5e-6}", 5e-6, 2000),
    ],
)
def test_fig4_measures_predicts_and_tunes(cell: str, l2: float, epochs: float) -> None:
    plain = composed("experiment=lewkowycz/fig4", f"cell={cell}")
    assert plain["l2"] == plain["module"]["l2"] == pytest.approx(l2)
    assert plain["max_steps"] == round(49 * epochs)
    assert (plain["lr"], plain["optimizer"]["momentum"]) == (0.2, 0.9)
    assert (plain["data"]["augment"], plain["data"]["mixup"]) == (True, 1.0)


def test_schedules_end_with_the_run() -> None:
    for training, epochs in (("fixed", 200), ("proportional", 50)):
        plain = composed(
            "experiment=lewkowycz/fig1a", "cell={l2: 0.002}", f"cell.training={training}"
        )
        assert plain["max_steps"] == plain["schedule"]["total"] == 49 * epochs
        assert (plain["schedule"]["factor"], plain["schedule"]["milestones"]) == (
            0.2, [0.3, 0.6, 0.9],
        )  # fmt: skip
        assert plain["module"]["schedule_interval"] == "step"


def test_auto_l2_runs_where_the_cell_says_so() -> None:
    auto, constant = (
        composed("experiment=lewkowycz/fig1c", f"cell.decay={decay}")["callbacks"]["auto_l2"]
        for decay in ("auto", "constant")
    )
    assert constant is None
    assert (auto["l2"], auto["period"]) == (0.1, 10)
    s10 = composed("experiment=lewkowycz/s10")
    assert s10["schedule"]["_target_"].endswith("StepDecay")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fig2_quick_peaks_after_a_time_that_is_inverse_to_l2(train: Train, data_root: Path) -> None:
    # Spec: exponent in [0.80, 1.15], ηλt* in [0.30, 0.60], accuracies within 0.012 for
    # λ ≤ 3e-3, means over three seeds. Of the quick experiment the shorter runs.
    cells = (
        "{l2: 1e-3},{l2: 3e-3},{l2: 1e-2},{l2: 3e-2},"
        "{lr: 0.5, l2: 3e-3},{lr: 0.5, l2: 1e-2},{lr: 0.5, l2: 3e-2}"
    )
    train("experiment=lewkowycz/fig2_quick", f"data.root={data_root}", f"cell={cells}")
    folder, found = sweep("lewkowycz/fig2_quick")
    fast = found[found["lr"] == 2]
    assert 0.80 <= exponent(fast) <= 1.15
    assert 0.80 <= exponent(found[found["lr"] == 0.5]) <= 1.15
    assert 0.30 <= (found["lr"] * found["l2"] * found["t*"]).mean() <= 0.60
    best = fast.groupby("l2")["best"].mean()
    assert abs(best[1e-3] - best[3e-3]) <= 0.012
    assert best.idxmin() == 3e-2
    assert not found["cut"].any()
    for name in ("fig2", "s1", "s6"):
        assert (folder / "figures" / f"{name}.png").is_file()


@pytest.mark.slow
def test_a_run_that_the_cap_cuts_is_marked(train: Train) -> None:
    train(
        "experiment=lewkowycz/fig2_quick", "data=digits", "data.n_val=null", "model.width=16",
        "seed=0", "max_updates=20", "cell={l2: 0.1},{l2: 0.001}",
    )  # fmt: skip
    _, cells = sweep("lewkowycz/fig2_quick")
    assert cells["cut"].tolist() == [False, True]
    assert cells["steps"].tolist() == [5, 20]


@pytest.mark.slow
def test_s5_quick_passes_a_catapult_and_diverges_beyond(train: Train, data_root: Path) -> None:
    train(
        "experiment=lewkowycz/s5_quick", f"data.root={data_root}", "max_updates=60",
        "cell.lr=0.02,0.3,0.4", "cell={l2: 1e-2}",
    )  # fmt: skip
    folder, cells = sweep("lewkowycz/s5_quick")
    assert cells["diverged"].tolist() == [False, False, True]
    losses = [pd.read_csv(Path(cell, "metrics.csv"))["train/loss"] for cell in cells["folder"]]
    assert losses[0].max() == losses[0][0]
    assert losses[1].max() > 2 * losses[1][0]
    assert (folder / "figures/s5.png").is_file()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("figure", "pictured", "overrides"),
    [
        ("fig1a", {"fig1a"}, ("cell={l2: 0.1},{l2: 0.2}",)),
        ("fig1c", {"fig1c", "s9", "s10"}, ("cell={decay: auto},{l2: 0.1}",)),
        ("fig2_wrn", {"fig2_wrn", "s6"}, ("cell={l2: 0.5},{l2: 0.1}",)),
        (
            "fig4",
            {"fig4", "fig1b", "s2", "s3", "s4"},
            ("cell={part: measure},{l2: 0.1},{l2: 0.2},{part: predict, budget: 2}",),
        ),
        ("s7", {"s7"}, ("cell={l2: 0, as_long_as: 0.1},{l2: 0.1}",)),
    ],
)
def test_an_experiment_of_images_draws_its_figures(
    train: Train, pictures: Path, figure: str, pictured: set[str], overrides: tuple[str, ...]
) -> None:
    sizes = ("data.n_train=16", "data.n_val=8", "data.resolution=8", "batch_size=8")
    data = ("data=folder", f"data.path={pictures}", "steps_per_epoch=2", "max_updates=8")
    train(f"experiment=lewkowycz/{figure}_quick", *data, *sizes, *overrides)
    folder, _ = sweep(f"lewkowycz/{figure}_quick")
    assert {path.stem for path in (folder / "figures").iterdir()} == pictured


@pytest.mark.slow
def test_fig3_and_s6_draw_their_nets(train: Train, pictures: Path) -> None:
    data = ("data=folder", f"data.path={pictures}", "data.n_train=16", "data.n_val=8")
    cell = "cell={l2: 0.5},{batch_norm: true, l2: 0.5}"
    train("experiment=lewkowycz/fig3_quick", *data, "max_updates=4", "batch_size=8", cell)
    folder, cells = sweep("lewkowycz/fig3_quick")
    assert cells["model.batch_norm"].tolist() == [False, True]
    assert {path.stem for path in (folder / "figures").iterdir()} == {"fig3", "s6"}
    train(
        "experiment=lewkowycz/s6_quick", *data, "max_updates=2",
        "arm=lewkowycz/wrn_quick,lewkowycz/cnn_quick", "cell={place: largest}",
    )  # fmt: skip
    folder, cells = sweep("lewkowycz/s6_quick")
    assert cells["l2"].tolist() == [0.024, 0.1]
    assert (folder / "figures/s6.png").is_file()


@pytest.mark.slow
def test_s8_streams_any_folder_of_images(train: Train, pictures: Path) -> None:
    train(
        "experiment=lewkowycz/s8_quick", f"data.path={pictures}", "data.n_train=null",
        "data.n_val=null", "updates=4", "batch_size=4",
        "cell={lr: 0.05, l2: 1e-3},{lr: 0.2, l2: 1e-3},{panel: length, l2: 1e-3, stretch: 2}",
    )  # fmt: skip
    folder, cells = sweep("lewkowycz/s8_quick")
    assert cells["steps"].tolist() == [4, 4, 8]
    assert (folder / "figures/s8.png").is_file()
