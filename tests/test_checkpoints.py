"""Checkpoints from strangers can't execute code; hand-made ones say how to load them."""

import copy
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from trainers import QUIET

from lightning_lazy import (
    InputError,
    RunFiles,
    ScaledLightningModule,
    load_checkpoint,
    read_checkpoint,
)
from lightning_lazy.build import SAFE_PREFIXES, build
from lightning_lazy.data import ImageDataModule
from lightning_lazy.losses import SquaredLoss
from lightning_lazy.models import TwoLayerNet

CONFIG = {
    "model": {
        "_target_": "lightning_lazy.models.TwoLayerNet",
        "in_features": 4,
        "width": 3,
        "outputs": 2,
    },
    "loss": {"_target_": "lightning_lazy.losses.SquaredLoss"},
    "optimizer": {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1},
    "schedule": None,
    "module": {"_target_": "lightning_lazy.ScaledLightningModule", "alpha": 3.0},
}


def saved(path: Path, config: object = None) -> ScaledLightningModule:
    module = ScaledLightningModule(
        TwoLayerNet(4, 3, 2), SquaredLoss(), partial(torch.optim.SGD, lr=0.1), alpha=3.0
    )
    content = {"state_dict": module.state_dict()}
    torch.save(content if config is None else content | {"lightning_lazy_config": config}, path)
    return module


def test_rebuilds_the_module_without_a_further_argument(tmp_path: Path) -> None:
    module = saved(tmp_path / "a.ckpt", CONFIG)
    with torch.no_grad():
        module.net.output.weight.add_(1.0)
    module = saved(tmp_path / "a.ckpt", CONFIG)
    loaded = load_checkpoint(tmp_path / "a.ckpt")
    assert isinstance(loaded, pl.LightningModule)
    for name, value in module.state_dict().items():
        if torch.is_tensor(value):
            assert torch.equal(value, loaded.state_dict()[name]), name


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "torch.hub.load",
        "lightning_lazy.summary.math.exp",
        "lightning_lazy.checkpoints.torch.load",
        "lightning_lazy.checkpoints.os.remove",
        "torch.nn.modules.module.torch.load",
    ],
)
def test_targets_outside_of_the_list_are_refused_wherever_they_are_reached(
    tmp_path: Path, target: str
) -> None:
    config = copy.deepcopy(CONFIG)
    config["model"] = {"_target_": target, "path": "x"}
    saved(tmp_path / "evil.ckpt", config)
    with pytest.raises(InputError, match="which is not in lightning_lazy"):
        load_checkpoint(tmp_path / "evil.ckpt")


def test_a_target_that_is_gone_is_named(tmp_path: Path) -> None:
    config = copy.deepcopy(CONFIG)
    config["model"] = {"_target_": "lightning_lazy.models.NetOfTomorrow"}
    saved(tmp_path / "new.ckpt", config)
    with pytest.raises(InputError, match="NetOfTomorrow, which is not there"):
        load_checkpoint(tmp_path / "new.ckpt")


def test_nested_targets_are_checked_too() -> None:
    node = {"_target_": "torch.nn.Sequential", "_args_": [{"_target_": "os.getcwd"}]}
    with pytest.raises(InputError, match=r"build os.getcwd"):
        build(node, allowed=SAFE_PREFIXES)


def test_a_hand_made_checkpoint_says_how_to_load_it(tmp_path: Path) -> None:
    saved(tmp_path / "hand.ckpt")
    with pytest.raises(InputError, match=r"build the module and call module.load_state_dict"):
        load_checkpoint(tmp_path / "hand.ckpt")
    assert "state_dict" in read_checkpoint(tmp_path / "hand.ckpt")


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "none.ckpt")
    (tmp_path / "text.ckpt").write_text("hello")
    with pytest.raises(InputError, match="can't be read as a checkpoint"):
        read_checkpoint(tmp_path / "text.ckpt")
    torch.save({"path": Path("x")}, tmp_path / "object.ckpt")
    with pytest.raises(InputError, match="can't be read as a checkpoint"):
        read_checkpoint(tmp_path / "object.ckpt")


def test_the_last_batch_of_an_epoch_is_not_left_out_where_a_validation_came_before(
    tmp_path: Path,
) -> None:
    def fit(**arguments: object) -> pl.Trainer:
        module = ScaledLightningModule(
            TwoLayerNet(64, 3, 10), SquaredLoss(), partial(torch.optim.SGD, lr=0.1)
        )
        data = ImageDataModule("digits", n_train=60, n_val=20, batch_size=20)
        files = RunFiles(str(tmp_path), every_n_steps=2)
        trainer = pl.Trainer(**QUIET, max_epochs=1, val_check_interval=1, callbacks=[files])
        trainer.fit(module, datamodule=data, weights_only=True, **arguments)
        return trainer

    assert fit().global_step == 3
    before_the_third = tmp_path / "checkpoints/previous.ckpt"
    assert read_checkpoint(before_the_third)["global_step"] == 2
    assert fit(ckpt_path=before_the_third).global_step == 3
