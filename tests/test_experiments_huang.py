"""Experiments of Huang, Du, Xu & Liu 2020. Oracles: the theory, which tests of its own hold against
autograd, and what the paper says of its figures."""

from collections.abc import Callable

import pandas as pd
import pytest
from experiments import composed, sweep

from lightning_lazy.figures.__main__ import redraw
from lightning_lazy.theory import catapult_kernel

Train = Callable[..., str]


@pytest.mark.parametrize("figure", ["fig1", "fig2", "fig3", "fig4", "table1"])
def test_a_quick_experiment_changes_sizes_only(figure: str) -> None:
    paper, quick = (composed(f"experiment=huang/{figure}{end}") for end in ("", "_quick"))
    for group in ("loss", "optimizer", "callbacks", "centering", "linearize", "sweep_figure"):
        assert paper[group] == quick[group], group
    assert paper["model"] | {"width": quick["model"]["width"]} == quick["model"]
    sizes = {key: quick["data"].get(key) for key in ("n_train", "n_val", "balanced", "resolution")}
    for key, value in quick["data"].items():
        assert key in sizes or paper["data"][key] == value
    assert paper["trainer"]["precision"] == "64-true"


def test_initial_weights_have_the_variances_of_the_protocol() -> None:
    for loss, sigma_w in (("ExponentialLoss", 0.5**0.5), ("LogisticLoss", 1.0)):
        plain = composed("experiment=huang/fig2", f"cell.loss={loss}")
        assert plain["model"]["sigma_w"] == pytest.approx(sigma_w, rel=1e-15)
        assert plain["loss"]["_target_"] == f"lightning_lazy.losses.{loss}"
        assert (plain["model"]["width"], plain["model"]["depth"]) == (1000, 1)


@pytest.mark.parametrize(
    ("stop", "steps", "factor"),
    [("steps", 1000, 1.0), ("time", 333, 1.0), ("annealed", 2000, 1 / 12)],
)
def test_fig4_stops_after_steps_or_physical_time_or_anneals(
    stop: str, steps: int, factor: float
) -> None:
    plain = composed("experiment=huang/fig4", f"cell.stop={stop}", "cell.lr=24")
    assert plain["max_steps"] == plain["trainer"]["max_steps"] == steps
    assert plain["schedule"]["factor"] == pytest.approx(factor)
    assert plain["schedule"]["milestones"] == [1000]
    assert plain["module"]["schedule_interval"] == "step"
    deep = composed("experiment=huang/fig4", "cell.net=two_hidden")
    assert (deep["model"]["depth"], deep["model"]["bias"]) == (2, True)


@pytest.mark.slow
def test_fig1_quick_the_logistic_loss_ends_in_a_cycle_above_8(train: Train) -> None:
    train("experiment=huang/fig1_quick", "cell={lr: 7.5},{lr: 9},{lr: 12}", "max_steps=100")
    folder, cells = sweep("huang/fig1_quick")
    cells = cells.set_index("lr")
    # 8 < 9 < 4 w₀/tanh(w₀/2) = 9.52 < 12 (Theorem 1).
    assert cells["verdict"].tolist() == ["lazy", "none", "divergent"]
    assert cells["diverged"].tolist() == [False, False, True]
    assert (folder / "figures/fig1.png").is_file()


@pytest.mark.slow
def test_fig2_quick_shows_three_phases_and_lets_the_catapult_pass(train: Train) -> None:
    train(
        "experiment=huang/fig2_quick", "cell={lr: 1.5},{lr: 6},{lr: 40}", "max_steps=200",
        "callbacks.catapult_monitor.every_n_steps=10",
    )  # fmt: skip
    folder, cells = sweep("huang/fig2_quick")
    assert cells["verdict"].tolist() == ["lazy", "catapult", "divergent"]
    assert cells["diverged"].tolist() == [False, False, True]
    catapult = cells.iloc[1]
    assert catapult["peak_loss"] > 2 * catapult["first_loss"]
    # First order in η²/m = 0.36.
    assert catapult["ntk/top1"] == pytest.approx(catapult_kernel(6.0, 100), rel=0.01)
    (folder / "figures/fig2.png").unlink()
    redraw(folder)
    assert (folder / "figures/fig2.png").is_file()


@pytest.mark.slow
def test_fig3_quick_the_hessian_is_the_kernel_times_the_curvature(train: Train) -> None:
    train(
        "experiment=huang/fig3_quick",
        "cell={loss: ExponentialLoss, lr: 1},{loss: ExponentialLoss, lr: 1.8},{lr: 2},{lr: 6},"
        "{points: non_separable, lr: 0.8},{points: non_separable, lr: 4}",
    )
    folder, cells = sweep("huang/fig3_quick")
    ratio = cells["hessian/ntk"].tolist()
    # Corollary 1 on degenerate data, lazy and in the catapult phase; Ritz residuals are 1e-6.
    assert ratio[:4] == pytest.approx([1.0, 1.0, 0.25, 0.25], rel=1e-5)
    assert cells["verdict"].tolist() == ["lazy", "catapult"] * 3
    # On other data both drop together.
    kernel, hessian = cells["ntk/top1"], cells["curvature/hessian_top1"]
    assert kernel[5] < 0.5 * kernel[4]
    assert hessian[5] < 0.5 * hessian[4]
    assert (folder / "figures/fig3.png").is_file()


@pytest.mark.slow
def test_table1_quick_separable_data_have_no_catapult_but_for_the_squared_loss(
    train: Train,
) -> None:
    train(
        "experiment=huang/table1_quick",
        "cell={points: blobs, lr: 4},{points: blobs, lr: 16},{loss: ExponentialLoss, points: blobs,"
        "lr: 16},{loss: SquaredLoss, points: blobs, lr: 0.6},{loss: SquaredLoss, lr: 0.6}",
    )
    folder, cells = sweep("huang/table1_quick")
    assert cells["verdict"].tolist() == ["none", "none", "none", "catapult", "catapult"]
    table = pd.read_csv(folder / "table1.csv")
    assert (table["catapult"] == table["paper"]).all()
    assert (folder / "figures/table1.png").is_file()


@pytest.mark.slow
def test_fig4_draws_its_panels_from_any_two_classes(train: Train) -> None:
    # Digits stand in for the images of CIFAR-10, which are not in the package.
    train(
        "experiment=huang/fig4_quick", "data=digits", "data.classes=[3,8]", "data.n_train=100",
        "data.n_val=null", "data.resolution=null", "model.width=30", "steps=20", "time=100",
        "cell={stop: steps, lr: 2},{stop: time, lr: 4},{stop: annealed, lr: 1000}",
    )  # fmt: skip
    folder, cells = sweep("huang/fig4_quick")
    assert len(cells) == 6
    steps = dict(zip(cells["cell.stop"], cells["steps"], strict=True))
    assert (steps["steps"], steps["time"]) == (20, 25)
    assert (folder / "figures/fig4.png").is_file()
