"""ScaledLightningModule: the loss it minimises, what it logs, and three ways to use it."""

import copy
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from lightning_lazy import InputError, MetricsLog, RunFiles, ScaledLightningModule
from lightning_lazy.data import ImageDataModule, TeacherStudentDataModule
from lightning_lazy.losses import CrossEntropyLoss, SquaredLoss
from lightning_lazy.models import TwoLayerNet
from lightning_lazy.optim import InverseTime


def module(**arguments: Any) -> ScaledLightningModule:
    defaults: dict[str, Any] = {
        "net": TwoLayerNet(64, 8, 10),
        "loss": SquaredLoss(),
        "optimizer": partial(torch.optim.SGD, lr=0.1),
    }
    return ScaledLightningModule(**(defaults | arguments))


def fit(folder: Path, one: ScaledLightningModule, data: ImageDataModule, **arguments: Any) -> Any:
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        logger=MetricsLog(folder),
        callbacks=[RunFiles(str(folder))],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        log_every_n_steps=1,
        **arguments,
    )
    trainer.fit(one, datamodule=data)
    return pd.read_csv(folder / "metrics.csv")


def test_the_minimised_loss_is_divided_by_alpha_squared_and_the_l2_term_is_not() -> None:
    # Closed form of the squared loss, mean over batch and outputs, and of ½·l2·‖θ‖².
    one = module(alpha=5.0, l2=0.3, log_every_n_steps=1).double()
    with torch.no_grad():
        for p in one.net.parameters():
            p.add_(0.1)
    one._trainer = type("Trainer", (), {"global_step": 1, "max_steps": -1})()
    x, y = torch.randn(4, 64, dtype=torch.float64), torch.tensor([0, 3, 1, 9])
    target = nn.functional.one_hot(y, 10).double()
    data_term = (one(x) - target).square().mean() / 25
    norm = sum(p.square().sum() for p in one.net.parameters())
    expected = data_term + 0.5 * 0.3 * norm
    actual = one.training_step((x, y), 0)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=0)


def test_epoch_means_and_validation_equal_those_computed_by_hand(tmp_path: Path) -> None:
    # lr=0 keeps the weights, so every mean is one over the whole set; float32 sums of 1e2 numbers.
    one = module(optimizer=partial(torch.optim.SGD, lr=0.0), alpha=2.0, centering="none")
    data = ImageDataModule("digits", n_train=100, n_val=70, batch_size=30, eval_batch_size=32)
    frame = fit(tmp_path, one, data, max_epochs=2)
    assert list(frame["step"]) == [4, 8]
    assert list(frame["epoch"]) == [1, 2]
    for split, images in (("train", data.train_set), ("val", data.val_set)):
        x, y = data.transform(images.__getitems__(range(len(images))))
        output = one(x).double()
        loss = (output - nn.functional.one_hot(y, 10)).square().mean() / 4
        acc = (output.argmax(1) == y).double().mean()
        assert frame[f"{split}/loss"].to_numpy() == pytest.approx([loss.item()] * 2, rel=1e-6)
        assert frame[f"{split}/acc"].to_numpy() == pytest.approx([acc.item()] * 2, abs=1e-12)


def test_single_values_are_logged_at_the_first_update_and_every_nth(tmp_path: Path) -> None:
    one = module(log_every_n_steps=4)
    data = ImageDataModule("digits", n_train=50, n_val=20, batch_size="full")
    frame = fit(tmp_path, one, data, max_steps=10, limit_val_batches=0)
    assert list(frame["step"]) == [1, 4, 8, 10]
    assert list(frame["epoch"]) == [1, 4, 8, 10]
    assert frame["train/loss"].is_monotonic_decreasing


def test_the_reference_of_a_full_batch_is_computed_once_with_the_same_weights_at_the_end(
    tmp_path: Path,
) -> None:
    data = ImageDataModule("digits", n_train=50, n_val=20, batch_size="full")
    one = module(log_every_n_steps=5)
    other = copy.deepcopy(one)
    other.reference_cache = False
    calls = []
    one.model.reference.register_forward_hook(lambda *_: calls.append(1))
    fit(tmp_path / "once", one, data, max_steps=10, limit_val_batches=0)
    fit(tmp_path / "anew", other, data, max_steps=10, limit_val_batches=0)
    assert len(calls) == 1
    for p, q in zip(one.net.parameters(), other.net.parameters(), strict=True):
        assert torch.equal(p, q)


def test_a_run_ends_with_a_validation(tmp_path: Path) -> None:
    data = ImageDataModule("digits", n_train=50, n_val=20, batch_size="full")
    frame = fit(
        tmp_path, module(log_every_n_steps=4), data,
        max_steps=10, val_check_interval=4, check_val_every_n_epoch=None,
    )  # fmt: skip
    assert list(frame.dropna(subset="val/acc")["step"]) == [4, 8, 10]


def test_losses_stay_in_double_precision(tmp_path: Path) -> None:
    # A float32 on the way would leave a loss that float32 represents exactly.
    data = ImageDataModule("digits", n_train=50, n_val=20, batch_size="full")
    frame = fit(tmp_path, module(log_every_n_steps=1), data, max_steps=3, precision="64-true")
    for column in ("train/loss", "val/loss"):
        values = torch.tensor(frame[column].dropna().to_numpy())
        assert (values.float().double() != values).any(), column


def test_l2_alone_shrinks_the_weights_as_coupled_weight_decay_does() -> None:
    # Closed form: one step of gradient descent on ½·l2·‖θ‖² multiplies θ by 1 − lr·l2.
    one = module(l2=0.5).double()
    before = copy.deepcopy(list(one.net.parameters()))
    optimizer = one.configure_optimizers()
    one.penalty().backward()
    optimizer.step()
    for old, new in zip(before, one.net.parameters(), strict=True):
        torch.testing.assert_close(new, old * 0.95, rtol=1e-14, atol=0)


def test_a_schedule_ticks_by_epochs_or_steps() -> None:
    plain = module(schedule=partial(InverseTime, beta=1.0)).configure_optimizers()
    assert plain["lr_scheduler"]["interval"] == "epoch"
    stepwise = module(schedule=partial(InverseTime, beta=1.0), schedule_interval="step")
    assert stepwise.configure_optimizers()["lr_scheduler"]["interval"] == "step"


@pytest.mark.parametrize("log_every_n_steps", [None, 2])
def test_a_regression_has_losses_and_no_accuracy(
    tmp_path: Path, log_every_n_steps: int | None
) -> None:
    net = TwoLayerNet(5, 4, 1, activation="relu", parametrization="none")
    data = TeacherStudentDataModule(5, n_train=12, n_val=7, batch_size=4)
    one = module(net=net, alpha=2.0, log_every_n_steps=log_every_n_steps)
    fit(tmp_path, one, data, max_epochs=2)
    rows = pd.read_csv(tmp_path / "metrics.csv")
    assert {"train/loss", "val/loss"} <= set(rows.columns)
    assert not {"train/acc", "val/acc"} & set(rows.columns)
    # Oracle: the mean square of F − y over the validation set, divided by α².
    x, y = data.val_set.images.float(), data.val_set.labels.float()
    expected = (one(x) - y).square().mean().item() / 4
    assert rows["val/loss"].dropna().iloc[-1] == pytest.approx(expected, rel=1e-5)


def test_any_loss_function_will_do(tmp_path: Path) -> None:
    one = module(loss=nn.functional.cross_entropy)
    same = module(loss=CrossEntropyLoss(), net=copy.deepcopy(one.net))
    data = ImageDataModule("digits", n_train=60, n_val=50, batch_size=20, eval_batch_size=20)
    frames = [fit(tmp_path / str(n), m, data, max_epochs=1) for n, m in enumerate((one, same))]
    assert frames[0]["val/loss"][0] == pytest.approx(frames[1]["val/loss"][0], rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"l2": -1.0}, "l2 must be finite and at least 0, got -1.0"),
        ({"log_every_n_steps": 0}, "log_every_n_steps must be an integer of at least 1, got 0"),
        ({"schedule_interval": "day"}, "schedule_interval must be one of epoch, step, got 'day'"),
        ({"alpha": 0.0}, "alpha must be finite and above 0"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        module(**arguments)


def test_lightning_cli_builds_it_from_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    from pytorch_lightning.cli import LightningCLI

    arguments = [
        "fit",
        "--model.net=lightning_lazy.models.TwoLayerNet",
        "--model.net.in_features=64",
        "--model.net.width=8",
        "--model.net.outputs=10",
        "--model.loss=lightning_lazy.losses.SoftHingeLoss",
        "--model.optimizer=lightning_lazy.optim.ScaledRMSprop",
        "--model.optimizer.lr=0.01",
        "--model.optimizer.alpha=3",
        "--model.schedule=lightning_lazy.optim.InverseTime",
        "--model.schedule.beta=0.5",
        "--model.alpha=3",
        "--data.n_train=64",
        "--data.n_val=20",
        "--trainer.max_epochs=1",
        "--trainer.accelerator=cpu",
        "--trainer.logger=false",
        "--trainer.enable_checkpointing=false",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        "--trainer.callbacks+=lightning_lazy.callbacks.DivergenceGuard",
    ]
    monkeypatch.setattr(sys, "argv", ["train"])  # it warns where pytest's own arguments stand
    cli = LightningCLI(
        ScaledLightningModule,
        ImageDataModule,
        args=arguments,
        save_config_callback=None,
        seed_everything_default=0,
    )
    assert cli.model.alpha == 3.0
    assert type(cli.trainer.optimizers[0]).__name__ == "ScaledRMSprop"
    assert "train/loss" in cli.trainer.callback_metrics
