"""HessianSpectrum against a dense Hessian, and through a resume."""

import copy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, TensorDataset
from trainers import QUIET

from lightning_lazy.callbacks import HessianSpectrum
from lightning_lazy.figures.spectral_density import draw


class Foreign(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self.layers(batch[0]), batch[1])
        self.log("own", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.2)


def loader() -> DataLoader:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(40, 4, generator=generator, dtype=torch.float64)
    return DataLoader(TensorDataset(x, torch.randint(3, (40,), generator=generator)), batch_size=8)


def fit(module: Any, folder: Path, ckpt_path: Any = None, epochs: int = 2, **options: Any) -> Any:
    callback = HessianSpectrum(every_n_epochs=1, batch_size=15, steps=20, **options)
    trainer = pl.Trainer(
        **QUIET, max_epochs=epochs, precision="64-true", callbacks=[callback],
        default_root_dir=str(folder),
    )  # fmt: skip
    trainer.fit(module, loader(), ckpt_path=ckpt_path, weights_only=ckpt_path is not None)
    return trainer


def test_the_trace_is_that_of_the_dense_hessian_within_its_error(tmp_path: Path) -> None:
    module = Foreign().double()
    metrics = fit(module, tmp_path, probes=50).callback_metrics
    named = {name: p.detach() for name, p in module.layers.named_parameters()}
    x, y = loader().dataset.tensors

    def loss(flat: Tensor) -> Tensor:
        parts = flat.split([p.numel() for p in named.values()])
        w = {n: part.view_as(p) for part, (n, p) in zip(parts, named.items(), strict=True)}
        return nn.functional.cross_entropy(functional_call(module.layers, w, (x,)), y)

    flat = torch.cat([p.flatten() for p in named.values()])
    exact = float(torch.autograd.functional.hessian(loss, flat).trace())
    error = float(metrics["curvature/hessian_trace_error"])
    # Four standard errors: fails by chance once in ten thousand seeds; the seed is fixed.
    assert float(metrics["curvature/hessian_trace"]) == pytest.approx(exact, abs=4 * error)
    assert error < 0.2 * exact
    table = pd.read_csv(tmp_path / "spectrum.csv")
    assert sorted(table["step"].unique()) == [0, 5, 10]
    assert table.groupby(["step", "probe"])["weight"].sum().to_numpy() == pytest.approx(1.0)
    (picture,) = draw(tmp_path)
    assert picture.is_file()


def test_a_resumed_run_writes_the_same_table_and_training_is_undisturbed(tmp_path: Path) -> None:
    whole = Foreign().double()
    parts, alone = copy.deepcopy(whole), copy.deepcopy(whole)
    fit(whole, tmp_path / "whole", probes=2)
    fit(parts, tmp_path / "parts", epochs=1, probes=2).save_checkpoint(tmp_path / "x.ckpt")
    fit(parts, tmp_path / "parts", ckpt_path=tmp_path / "x.ckpt", probes=2)
    tables = [(tmp_path / name / "spectrum.csv").read_text() for name in ("whole", "parts")]
    assert tables[0] == tables[1]
    pl.Trainer(**QUIET, max_epochs=2, precision="64-true").fit(alone, loader())
    for p, q in zip(whole.parameters(), alone.parameters(), strict=True):
        assert torch.equal(p, q)
