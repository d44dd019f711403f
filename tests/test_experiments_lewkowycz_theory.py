"""Figure 5 of Lewkowycz & Gur-Ari 2020. Oracles: gradient descent written out, and the theory,
which has tests of its own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from experiments import composed

from lightning_lazy import InputError
from lightning_lazy.data import ImageDataModule
from lightning_lazy.figures.__main__ import redraw
from lightning_lazy.figures.lewkowycz import fig5
from lightning_lazy.models import TwoLayerNet

Train = Callable[..., str]
PARITY = [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]


def test_fig5_has_the_papers_protocol_and_its_quick_twin_other_sizes_only() -> None:
    paper, quick = (composed(f"experiment=lewkowycz/fig5{end}") for end in ("", "_quick"))
    assert (paper["l2"], paper["lr"] * paper["max_steps"]) == (0.002, 1 / 0.002)
    assert (paper["data"]["n_train"], paper["data"]["binary"]) == (200, PARITY)
    for group in ("loss", "model", "l2", "centering", "alpha", "sweep_figure", "schedule"):
        assert paper[group] == quick[group], group
    assert paper["data"] | {"n_train": 100} == quick["data"]


def test_fig5_descends_on_half_the_sum_of_squares_with_l2(train: Train) -> None:
    train(
        "experiment=lewkowycz/fig5", "hydra.mode=RUN", "trainer=float64", "data=digits",
        "data.n_train=30",
        "model.width=16", "max_steps=12", "module.log_every_n_steps=1", "l2=0.3", "lr=0.01",
    )  # fmt: skip
    data = ImageDataModule("digits", n_train=30, n_val=10, binary=PARITY, batch_size="full")
    data.setup()
    x, y = data.transform(data.train_set.__getitems__(list(range(30))), torch.float64)
    pl.seed_everything(0, workers=True, verbose=False)
    torch.set_default_dtype(torch.float64)
    net = TwoLayerNet(64, 16, 1, activation="relu")
    w, a = net.hidden.weight.detach().clone(), net.output.weight.detach()[0].clone()
    losses = []
    for _ in range(12):
        hidden = (x @ w.T).clamp(min=0) / 8
        error = hidden @ a / 4 - y
        losses.append(0.5 * error.square().sum().item())
        slope_a = hidden.T @ error / 4
        slope_w = ((error[:, None] * a) * (hidden > 0)).T @ x / 32
        a, w = a - 0.01 * (slope_a + 0.3 * a), w - 0.01 * (slope_w + 0.3 * w)
    (path,) = Path("runs/lewkowycz/fig5").glob("*/metrics.csv")
    # Double precision: twelve steps apart by rounding alone.
    assert pd.read_csv(path)["train/loss"].dropna().tolist() == pytest.approx(losses, rel=1e-9)


@pytest.mark.slow
def test_fig5_the_wider_net_is_nearer_to_the_theory(train: Train) -> None:
    train(
        "experiment=lewkowycz/fig5_quick", "data=digits", "data.n_train=30", "l2=0.02", "lr=0.02",
        "max_steps=1200", "every_n_steps=200", "model.width=128,2048",
    )  # fmt: skip
    (folder,) = Path("runs/lewkowycz/fig5_quick").iterdir()
    narrow, wide = (row for _, row in pd.read_csv(folder / "cells.csv").iterrows())
    assert (narrow["model.width"], wide["model.width"]) == (128, 2048)
    for column in ("largest error", "kernel error"):
        assert wide[column] < 0.5 * narrow[column]
    assert wide["largest error"] < 0.2
    assert wide["time of minimum"] == pytest.approx(wide["in theory"], rel=0.12)
    assert wide["loss over linear"] > 2

    picture = folder / "figures/fig5.png"
    picture.unlink()
    redraw(folder)
    assert picture.is_file()


def test_fig5_says_where_there_is_no_kernel(train: Train) -> None:
    train(
        "experiment=lewkowycz/fig5_quick", "data=digits", "data.n_train=10", "max_steps=4",
        "every_n_steps=2", "module.log_every_n_steps=1", "model.width=4",
    )  # fmt: skip
    (folder,) = Path("runs/lewkowycz/fig5_quick").iterdir()
    path = folder / "0/checkpoints/last.ckpt"
    states = torch.load(path, weights_only=True)
    del states["callbacks"]["NeuralTangentKernel"]["start"]
    torch.save(states, path)
    with pytest.raises(InputError, match="holds no tangent kernel: run the experiment anew"):
        fig5(folder)
    assert np.isfinite(pd.read_csv(folder / "cells.csv")["median error"]).all()


def test_fig5_draws_what_there_is_where_runs_diverged(train: Train) -> None:
    train(
        "experiment=lewkowycz/fig5_quick", "data=digits", "data.n_train=10", "lr=1.2",
        "max_steps=100", "every_n_steps=50", "model.width=4,8",
    )  # fmt: skip
    (folder,) = Path("runs/lewkowycz/fig5_quick").iterdir()
    cells = pd.read_csv(folder / "cells.csv")
    assert cells["diverged"].all()
    assert (folder / "figures/fig5.png").is_file()
