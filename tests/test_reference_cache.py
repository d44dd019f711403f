"""The outputs of the frozen copy are computed once per image, and nothing changes."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lightning_lazy import MetricsLog, RunFiles, ScaledLightningModule, read_checkpoint
from lightning_lazy.data import ImageDataModule
from lightning_lazy.losses import SquaredLoss
from lightning_lazy.models import TwoLayerNet
from lightning_lazy.reference_cache import ReferenceCache


def conv_net(channels: int = 16) -> nn.Sequential:
    convolution = nn.Conv2d(1, channels, 3, padding=1)
    head = nn.Linear(16 * channels, 10)
    return nn.Sequential(convolution, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), head)


def fit(
    folder: Path, module: ScaledLightningModule, ckpt_path: str | None = None, **data: Any
) -> list[int]:
    """Train and return the sizes of the batches that the frozen copy has computed."""
    sizes: list[int] = []
    module.model.reference.register_forward_pre_hook(lambda _, x: sizes.append(len(x[0])))
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=module.epochs,
        logger=MetricsLog(folder),
        callbacks=[RunFiles(str(folder))],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        log_every_n_steps=1,
        precision=module.precision,
    )
    arguments = {"n_train": 70, "n_val": 50, "batch_size": 20, "eval_batch_size": 30} | data
    trainer.fit(
        module,
        datamodule=ImageDataModule("digits", **arguments),
        ckpt_path=ckpt_path,
        weights_only=True,
    )
    return sizes


def module(net: nn.Module, cache: bool, epochs: int = 4, precision: str = "32-true") -> Any:
    one = ScaledLightningModule(
        net, SquaredLoss(), partial(torch.optim.SGD, lr=0.05), alpha=3.0, reference_cache=cache
    )
    one.epochs, one.precision = epochs, precision
    return one


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
@pytest.mark.parametrize("flatten", [True, False])
@pytest.mark.parametrize("n_train", [80, 70])
def test_training_is_the_same_to_the_last_bit(
    tmp_path: Path, n_train: int, flatten: bool, precision: str
) -> None:
    # Oracle: the same run that computes f(θ₀, x) in every step.
    net = TwoLayerNet(64, 32, 10) if flatten else conv_net()
    anew, cached = (module(copy.deepcopy(net), cache, 4, precision) for cache in (False, True))
    every = fit(tmp_path / "anew", anew, flatten=flatten, n_train=n_train)
    once = fit(tmp_path / "cached", cached, flatten=flatten, n_train=n_train)
    for p, q in zip(anew.parameters(), cached.parameters(), strict=True):
        assert torch.equal(p, q)
    rows = [(tmp_path / name / "metrics.csv").read_bytes() for name in ("anew", "cached")]
    assert rows[0] == rows[1]
    assert sum(every) == 4 * (n_train + 50)
    if n_train == 80:
        # Each image once, and the first batch of every size in four more orders; of 70 images the
        # last, smaller batches are computed in every epoch.
        assert sum(once) == n_train + 50 + 4 * (20 + 30 + 20)


def test_a_resumed_run_continues_to_the_last_bit(tmp_path: Path) -> None:
    net = TwoLayerNet(64, 32, 10)
    whole, begun, resumed = (module(copy.deepcopy(net), True, n) for n in (4, 2, 4))
    fit(tmp_path / "whole", whole)
    fit(tmp_path / "parts", begun)
    last = tmp_path / "parts" / "checkpoints" / "last.ckpt"
    assert not any("cache" in name for name in read_checkpoint(last)["state_dict"])
    fit(tmp_path / "parts", resumed, str(last))
    for p, q in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("reason", ["augmentation", "batch statistics"])
def test_what_differs_from_batch_to_batch_is_computed_anew(tmp_path: Path, reason: str) -> None:
    net = conv_net()
    if reason == "batch statistics":
        net.insert(1, nn.BatchNorm2d(16))
    data = {"augment": reason == "augmentation", "padding": 1, "flatten": False}
    sizes = fit(tmp_path, module(net, True), n_val=1, eval_batch_size=1, **data)
    assert sizes.count(20) + sizes.count(10) == 4 * 4


class Cumulative(nn.Module):
    """Every row depends on the rows before it."""

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(0)


def test_a_net_that_mixes_the_rows_of_a_batch_is_found_out() -> None:
    cache = ReferenceCache(Cumulative())
    x = torch.randn(4, 2)
    for order in (torch.arange(4), torch.tensor([2, 0, 3, 1])):
        assert torch.equal(cache.of_images(x[order], order), x[order].cumsum(0))


def test_outputs_are_reused_in_batches_of_the_same_size_only() -> None:
    calls: list[int] = []
    net = nn.Linear(3, 2)
    net.register_forward_hook(lambda *_: calls.append(1))
    cache = ReferenceCache(net)
    x = torch.randn(12, 3)
    for index, computed in (
        ([0, 1, 2, 3], 5),  # in five orders
        ([3, 1, 0, 2], 0),
        ([0, 1], 5),
        ([0, 1, 2, 3], 0),
        ([4, 5, 6, 7], 1),
        ([11, 10, 9, 8], 1),
        ([11, 0, 5, 8], 0),
    ):
        before = len(calls)
        places = torch.tensor(index)
        assert torch.equal(cache.of_images(x[places], places), net(x[places]))
        assert len(calls) - before == computed + 1  # and the one of the line above
