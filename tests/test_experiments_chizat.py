"""The two-layer experiments of Chizat, Oyallon & Bach 2019: protocols, and the paper's conclusions.

Oracles: gradient descent written out in plain torch, and on the tangent kernel in closed form.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from experiments import composed, sweep
from torch import Tensor

from lightning_lazy.data import TeacherStudentDataModule
from lightning_lazy.figures.__main__ import redraw
from lightning_lazy.models import TwoLayerNet

Train = Callable[..., str]


@pytest.mark.parametrize(
    ("tau", "lr"), [(0.00631, 10.0), (0.1, 10.0), (0.2, 2.5), (1.0, 0.1), (10.0, 0.001)]
)
def test_fig1_has_the_papers_steps(tau: float, lr: float) -> None:
    plain = composed("experiment=chizat/fig1", f"cell={{tau: {tau}}}")
    assert plain["lr"] == plain["optimizer"]["lr"] == pytest.approx(lr)
    assert (plain["max_steps"], plain["model"]["width"], plain["data"]["n_train"]) == (
        10_000, 50, 1000,
    )  # fmt: skip
    assert plain["callbacks"]["parameter_trajectory"] is None
    plane = composed("experiment=chizat/fig1", "cell={panel: plane, tau: 2}")
    assert (plane["lr"], plane["max_steps"], plane["data"]["n_train"]) == (0.005, 100_000, 15)
    assert (plane["model"]["init"], plane["model"]["tau"], plane["model"]["width"]) == (
        "unit", 2, 20,
    )  # fmt: skip


@pytest.mark.parametrize("figure", ["fig1", "fig2a", "fig2b"])
def test_a_quick_experiment_changes_sizes_only(figure: str) -> None:
    paper, quick = (composed(f"experiment=chizat/{figure}{end}") for end in ("", "_quick"))
    for group in ("loss", "schedule", "sweep_figure", "centering", "module", "linearize"):
        kept = {"alpha", "log_every_n_steps"} if group == "module" else set()
        one, other = (
            {k: v for k, v in plain[group].items() if k not in kept}
            if isinstance(plain[group], dict)
            else plain[group]
            for plain in (paper, quick)
        )
        assert one == other, group
    assert paper["model"] | {"width": quick["model"]["width"]} == quick["model"]
    sizes = {key: quick["data"][key] for key in ("in_features", "n_train", "scale", "batch_size")}
    if figure != "fig2b":
        assert sizes["scale"] == paper["data"]["scale"]
    assert paper["data"] | sizes == quick["data"]


def descend(
    a: Tensor, b: Tensor, batches: list[tuple[Tensor, Tensor]], alpha: float, rates: list[float]
) -> list[float]:
    """Return ½ mean (αf − y)²/α² before each step on a and b, by the formulas of the gradient."""
    losses = []
    for x, y in batches:
        hidden = (x @ b.T).clamp(min=0)
        error = (alpha * hidden @ a - y[:, 0]) / alpha
        losses.append(0.5 * error.square().mean().item())
        slope_a = hidden.T @ error / len(x)
        slope_b = ((error[:, None] * a) * (hidden > 0)).T @ x / len(x)
        a, b = a - rates[0] * slope_a, b - rates[1] * slope_b
    return losses


def student(seed: int, d: int, width: int, **options: Any) -> tuple[Tensor, Tensor]:
    """Return a and b as train.py draws them: seeded anew, in double precision."""
    pl.seed_everything(seed, workers=True, verbose=False)
    torch.set_default_dtype(torch.float64)
    net = TwoLayerNet(d, width, 1, activation="relu", parametrization="none", **options)
    return net.output.weight.detach()[0].clone(), net.hidden.weight.detach().clone()


def logged_losses(name: str) -> list[float]:
    (path,) = Path("runs/chizat", name).glob("*/metrics.csv")
    return pd.read_csv(path)["train/loss"].dropna().tolist()


SHORT = ("hydra.mode=RUN", "max_steps=12", "every_n_steps=1", "seed=1", "data.n_val=10")


@pytest.mark.parametrize(("power", "step"), [(-0.5, 1.0), (-1.0, 0.05)])
def test_fig2a_descends_by_the_papers_formula(train: Train, power: float, step: float) -> None:
    scaling = f"scaling={{power: {power}, step: {step}}}"
    train("experiment=chizat/fig2a", *SHORT, scaling, "model.width=16")
    data = TeacherStudentDataModule(100, n_train=1000, n_val=10, scale=100.0, seed=1)
    data.setup()
    batches = [(data.train_set.images, data.train_set.labels)] * 12
    losses = descend(*student(1, 100, 16), batches, 16**power, [step / 16] * 2)
    # Double precision: twelve steps apart by rounding alone.
    assert logged_losses("fig2a") == pytest.approx(losses, rel=1e-9)


def test_fig2b_descends_by_the_published_steps(train: Train) -> None:
    train("experiment=chizat/fig2b", *SHORT, "model.tau=0.4", "data.n_train=1000")
    data = TeacherStudentDataModule(
        100, n_train=1000, n_val=10, scale=50 / 200, population=True, batch_size=200, seed=1
    )
    data.setup()
    loader = data.train_dataloader()
    batches = [data.transform(raw, torch.float64) for _ in range(3) for raw in loader][:12]
    s = min(0.25 / 0.4**2, 25)
    weights = student(1, 100, 50, tau=0.4, symmetric=True)
    losses = descend(*weights, batches, 1.0, [s / 50, 100 * s / 50])
    assert logged_losses("fig2b") == pytest.approx(losses, rel=1e-9)


def tangent_kernel_descent(seed: int, tau: float, lr: float, steps: int) -> float:
    """Return the test loss of gradient descent on the tangent kernel at initialisation.

    Closed form: K(x, x') = Σ_j σ(b_j·x) σ(b_j·x') + a_j² [b_j·x > 0] [b_j·x' > 0] x·x'.
    """
    a, b = student(seed, 30, 20, tau=tau, symmetric=True)
    data = TeacherStudentDataModule(30, n_train=300, seed=seed)
    data.setup()
    x, y = data.train_set.images, data.train_set.labels[:, 0]
    test_x, test_y = data.val_set.images, data.val_set.labels[:, 0]

    def kernel(left: Tensor, right: Tensor) -> Tensor:
        one, other = left @ b.T, right @ b.T
        active = (one > 0) * a.square() @ (other > 0).double().T
        return one.clamp(min=0) @ other.clamp(min=0).T + active * (left @ right.T)

    within, across = kernel(x, x), kernel(test_x, x)
    f, test_f = torch.zeros_like(y), torch.zeros_like(test_y)
    for _ in range(steps):
        error = (f - y) / len(y)
        f, test_f = f - lr * within @ error, test_f - lr * across @ error
    return 0.5 * (test_f - test_y).square().mean().item()


@pytest.mark.slow
def test_fig1_quick_small_weights_generalise_and_large_ones_are_the_linear_model(
    train: Train,
) -> None:
    quick = "experiment=chizat/fig1_quick"
    train(quick, "seed=0,1,2", "cell={tau: 0.01},{tau: 1}")
    folder, cells = sweep("chizat/fig1_quick")
    loss = cells.groupby("model.tau")["val/loss"].mean()
    assert loss[0.01] <= 0.02 * loss[1.0]
    assert (folder / "figures/fig1.png").is_file()

    train(quick, "name=chizat/plateau", "seed=0", "cell={tau: 10},{linearize: true}")
    _, cells = sweep("chizat/plateau")
    cells = cells.set_index("linearize")["val/loss"]
    expected = tangent_kernel_descent(seed=0, tau=10.0, lr=0.001, steps=2000)
    assert cells[False] == pytest.approx(expected, rel=0.02)
    # The linearised model is the kernel's, whose speed lr·τ² does not depend on τ.
    assert cells[True] == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_fig2a_quick_the_lazy_scaling_generalises_worse(train: Train) -> None:
    train("experiment=chizat/fig2a_quick", "seed=0,1,2", "model.width=256")
    folder, cells = sweep("chizat/fig2a_quick")
    loss = cells.groupby("scaling.power")["loss"].mean()
    assert loss[-0.5] >= 3 * loss[-1.0]
    assert (folder / "figures/fig2a.png").is_file()


@pytest.mark.slow
def test_fig2b_quick_a_lazy_student_ends_at_a_bad_minimum(train: Train) -> None:
    train("experiment=chizat/fig2b_quick", "seed=0", "model.tau=0.01,1,8")
    folder, cells = sweep("chizat/fig2b_quick")
    loss = cells.set_index("model.tau")["loss"]
    assert loss[0.01] <= 0.05 * loss[8.0]
    assert loss[1.0] == pytest.approx(loss[8.0], rel=0.05)
    assert (folder / "figures/fig2b.png").is_file()


def test_fig1_draws_one_repetition_in_the_plane_and_is_redrawn_from_files(train: Train) -> None:
    out = train(
        "experiment=chizat/fig1_quick", "seed=1,2", "panels.plane.max_steps=20",
        "panels.plane.trajectory.every_n_steps=5", "panels.tau.max_steps=20",
        "cell={panel: plane, tau: 0.1},{panel: plane, tau: 2},{tau: 1}",
    )  # fmt: skip
    folder, cells = sweep("chizat/fig1_quick")
    assert out.count("left out:") == 2
    assert sorted(zip(cells["cell.panel"], cells["model.tau"], cells["seed"], strict=True)) == [
        ("plane", 0.1, 2), ("plane", 2.0, 2), ("tau", 1.0, 1), ("tau", 1.0, 2),
    ]  # fmt: skip
    picture = folder / "figures/fig1.png"
    picture.unlink()
    redraw(folder)
    assert picture.is_file()


def test_diverged_cells_are_drawn_as_such(train: Train) -> None:
    train(
        "experiment=chizat/fig2a_quick", "seed=0", "model.width=2,64", "max_steps=60",
        "scaling={power: -0.5, step: 50}",
    )  # fmt: skip
    folder, cells = sweep("chizat/fig2a_quick")
    assert cells["diverged"].any()
    assert (folder / "figures/fig2a.png").is_file()
