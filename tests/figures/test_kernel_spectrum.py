"""The experiment on conditioning, on a small data set that is always there."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from lightning_lazy import InputError, read_checkpoint
from lightning_lazy.figures.chizat import kernel_spectrum
from lightning_lazy.figures.frames import read_metrics

Train = Callable[..., str]


def test_training_at_a_large_alpha_follows_the_loss_that_the_spectrum_predicts(
    train: Train,
) -> None:
    # Oracle: the run itself. At α = 1e5 and with softplus it leaves its linearisation by some 1e-5.
    train(
        "experiment=chizat/kernel_spectrum_quick",
        "model=two_layer",
        "data=digits",
        "data.n_train=30",
        "data.n_val=10",
        "data.resolution=null",
        "max_steps=6",
        "every_n_steps=1",
        "lr=0.5",
    )
    (folder,) = Path("runs/chizat/kernel_spectrum_quick").iterdir()
    assert (folder / "figures" / "kernel_spectrum.png").is_file()
    losses = pd.read_csv(folder / "losses.csv", index_col="step")
    spectra = pd.read_csv(folder / "spectra.csv")
    for cell, name in ((folder / "0", "images"), (folder / "1", "random pixels")):
        logged = read_metrics(cell).set_index("step")["train/loss"].dropna()
        for step in range(1, 6):
            ratio = logged[step + 1] / logged[1]
            assert losses[name][step] == pytest.approx(ratio, rel=1e-4)
        start = read_checkpoint(cell / "checkpoints" / "last.ckpt")["callbacks"][
            "NeuralTangentKernel"
        ]["start"]
        values = torch.linalg.eigvalsh(start["kernel"]).flip(0)
        assert spectra[name][1] == pytest.approx(float(values[1] / values[0]), rel=1e-9)
    (folder / "0" / "config.yaml").rename(folder / "config.yaml")
    (folder / "1" / "config.yaml").unlink()
    with pytest.raises(InputError, match="holds no runs"):
        kernel_spectrum(folder)
