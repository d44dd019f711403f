"""PeakTime in real Trainers. Oracle: `theory.peak_time` on all of the given accuracies."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as lp
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset
from trainers import QUIET

from lightning_lazy import InputError, RunFiles, ScaledLightningModule
from lightning_lazy.callbacks.auto_l2 import AutoL2
from lightning_lazy.callbacks.peak_time import PeakTime
from lightning_lazy.data import ImageDataModule
from lightning_lazy.losses import NormalizedSoftmaxLoss
from lightning_lazy.models import FullyConnected
from lightning_lazy.theory.peak_time import peak_time, predict_l2

SGD = partial(torch.optim.SGD, lr=0.1, weight_decay=0.02)
ACCURACIES = [0.1, 0.5, 0.497, 0.904, 0.9, 0.908, 0.907, 0.905]


class Scripted:
    """Its validation accuracies are given."""

    def __init__(self, accuracies: Sequence[float], optimizer: Any = SGD) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.accuracies = list(accuracies)
        self.optimizer = optimizer

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.weight.square()

    def validation_step(self, batch: Tensor, batch_idx: int, dataloader_idx: int = 0) -> None:
        number = self.trainer.global_step // 2 - 1
        for name, values in (("val/acc", self.accuracies), ("val/b/acc", self.accuracies[::-1])):
            value = 1.0 if self.trainer.sanity_checking else values[number]
            self.log(name, value, add_dataloader_idx=False)

    def configure_optimizers(self) -> Any:
        return self.optimizer(self.parameters())


class OldScripted(Scripted, pl.LightningModule):
    pass


class NewScripted(Scripted, lp.LightningModule):
    pass


class Rows(pl.Callback):
    """Notes what stands after every validation."""

    def __init__(self) -> None:
        self.by_step: dict[int, dict[str, float]] = {}

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        values = {name: float(v) for name, v in trainer.callback_metrics.items() if "l2/" in name}
        self.by_step[trainer.global_step] = values


def loaders() -> tuple[DataLoader, DataLoader]:
    return DataLoader(torch.zeros(4, 1)), DataLoader(torch.zeros(1, 1))  # 4 updates an epoch


def fit(own: Any, *callbacks: Any, package: Any = pl, **arguments: Any) -> Any:
    given = {"max_epochs": 4, "val_check_interval": 2, "enable_progress_bar": False}
    trainer = package.Trainer(**(QUIET | given | arguments), callbacks=list(callbacks))
    trainer.fit(own, *loaders())
    return trainer


@pytest.mark.parametrize(("package", "kind"), [(pl, OldScripted), (lp, NewScripted)])
def test_the_peak_is_the_first_near_the_best_so_far(package: Any, kind: Any) -> None:
    rows = Rows()
    trainer = fit(kind(ACCURACIES), PeakTime(), *([rows] if package is pl else []), package=package)
    last = {name: float(v) for name, v in trainer.callback_metrics.items() if "l2/" in name}
    # 0.904 at update 8, epoch 2, is within 0.005 of 0.908 at update 12; λ and lr are SGD's.
    assert last == pytest.approx(
        {"l2/peak_step": 8, "l2/peak_epoch": 2, "l2/peak_c": 0.04, "l2/peak_lr_c": 0.004}
    )
    if package is pl:
        so_far = {step: row.get("l2/peak_step") for step, row in rows.by_step.items() if step % 2}
        assert list(so_far.values()) == [None, 2, 4, 4, 8, 8, 8, 8]


@pytest.mark.parametrize("tolerance", [0.0, 0.003, 0.005, 0.1, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_few_measurements_are_kept_and_none_is_missed(seed: int, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = [round(v, 3) for v in torch.rand(8, generator=generator, dtype=torch.float64).tolist()]
    trainer = fit(OldScripted(values), PeakTime(tolerance=tolerance))
    # The metric is logged in single precision.
    single = torch.tensor(values).double().numpy()
    expected = peak_time(range(2, 18, 2), single, tolerance)
    assert trainer.callback_metrics["l2/peak_step"] == expected


def test_an_epoch_is_as_many_updates_as_are_done_where_gradients_are_accumulated() -> None:
    # Four batches in threes are two updates, the second of one batch: Lightning steps at the end.
    # A validation ends each epoch; the second is the best.
    arguments = {"accumulate_grad_batches": 3, "max_epochs": 3, "val_check_interval": 4}
    metrics = fit(OldScripted([0.1, 0.9, 0.8]), PeakTime(), **arguments).callback_metrics
    assert (metrics["l2/peak_step"], metrics["l2/peak_epoch"]) == (4, 2)
    assert metrics["l2/peak_c"] == pytest.approx(0.04)


def test_it_is_printed_with_the_prediction(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = fit(OldScripted(ACCURACIES), PeakTime(budget=200))
    predicted = predict_l2(trainer.callback_metrics["l2/peak_c"], 200)
    assert trainer.callback_metrics["l2/predicted"] == predicted == pytest.approx(0.04 / 200)
    assert capsys.readouterr().out.splitlines() == [
        "PeakTime: val/acc came within 0.005 of its best, 0.908, after 8 updates",
        "  t* = 2 epochs, c = l2·t* = 0.04, lr·l2·t* = 0.004 (l2 = 0.02, lr = 0.1)",
        "  predicted l2 for 200 epochs: 0.0002",
    ]
    fit(OldScripted(sorted(ACCURACIES)), PeakTime())
    assert "caution: the last measurement was the best" in capsys.readouterr().out


def test_a_sanity_check_does_not_count() -> None:
    trainer = fit(OldScripted(ACCURACIES), PeakTime(), num_sanity_val_steps=1)
    assert trainer.callback_metrics["l2/peak_step"] == 8


def test_several_validation_sets_have_an_instance_each() -> None:
    other = PeakTime("val/b/acc", name="b")
    metrics = fit(OldScripted(ACCURACIES), PeakTime(), other).callback_metrics
    # Backwards 0.905 comes first, within 0.005 of 0.908.
    assert (metrics["l2/peak_step"], metrics["l2/peak_step/b"]) == (8, 2)
    assert other.state_key == "PeakTime[b]"


def test_l2_and_rate_can_be_given() -> None:
    own = OldScripted(ACCURACIES, partial(torch.optim.SGD, lr=0.1))
    metrics = fit(own, PeakTime(l2=0.5, lr=3.0)).callback_metrics
    assert metrics["l2/peak_c"] == pytest.approx(1.0)
    assert metrics["l2/peak_lr_c"] == pytest.approx(3.0)


def test_the_rate_is_that_before_its_schedule() -> None:
    def optimizers(params: Any) -> Any:
        optimizer = SGD(params)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda tick: 1 / (5 + tick))
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    metrics = fit(OldScripted(ACCURACIES, optimizers), PeakTime()).callback_metrics
    assert metrics["l2/peak_lr_c"] == pytest.approx(0.1 * 0.04)


@pytest.mark.parametrize("auto", [False, True])
def test_without_one_strength_of_l2_there_are_times_only(auto: bool) -> None:
    loss = {"loss_fn": lambda module, batch: module.weight**2, "error_fn": lambda *_: 0.0}
    callbacks = [AutoL2(0.02, size=2, **loss)] if auto else []
    optimizer = SGD if auto else partial(torch.optim.SGD, lr=0.1)
    trainer = fit(OldScripted(ACCURACIES, optimizer), *callbacks, PeakTime())
    names = {name for name in trainer.callback_metrics if name.startswith("l2/peak")}
    assert names == {"l2/peak_step", "l2/peak_epoch"}
    with pytest.raises(InputError, match="can't predict l2 for a budget of 10 epochs"):
        fit(OldScripted(ACCURACIES, optimizer), *callbacks, PeakTime(budget=10))


def test_a_value_that_is_no_number_is_no_peak() -> None:
    metrics = fit(OldScripted([math.nan, 0.5, math.nan, *ACCURACIES[3:]]), PeakTime())
    assert metrics.callback_metrics["l2/peak_step"] == 8
    with pytest.warns(UserWarning, match="saw no number as 'val/acc'"):
        fit(OldScripted([math.nan] * 8), PeakTime())


def test_a_scaled_module_gives_its_own_l2() -> None:
    torch.manual_seed(0)
    own = ScaledLightningModule(
        FullyConnected(64, 16, 1, 10), NormalizedSoftmaxLoss(), partial(torch.optim.SGD, lr=0.5),
        l2=0.01,
    )  # fmt: skip
    data = ImageDataModule("digits", n_train=60, n_val=40, batch_size="full")
    trainer = pl.Trainer(
        **QUIET, max_steps=9, val_check_interval=3, check_val_every_n_epoch=None,
        callbacks=[PeakTime()],
    )  # fmt: skip
    trainer.fit(own, datamodule=data)
    metrics = trainer.callback_metrics
    # A full batch makes an update an epoch.
    assert metrics["l2/peak_epoch"] == metrics["l2/peak_step"] in (3, 6, 9)
    assert metrics["l2/peak_lr_c"] == pytest.approx(0.5 * 0.01 * metrics["l2/peak_step"])


class Stream(IterableDataset):
    def __iter__(self) -> Any:
        yield from torch.zeros(100, 1)


def test_a_stream_has_no_epochs() -> None:
    trainer = pl.Trainer(
        **QUIET, max_steps=16, val_check_interval=2, check_val_every_n_epoch=None,
        callbacks=[PeakTime()],
    )  # fmt: skip
    trainer.fit(OldScripted(ACCURACIES), DataLoader(Stream()), loaders()[1])
    names = {name for name in trainer.callback_metrics if "l2/" in name}
    assert names == {"l2/peak_step"}


class Stop(pl.Callback):
    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 9:
            raise KeyboardInterrupt


def test_a_resumed_run_goes_on_from_its_measurements(tmp_path: Path) -> None:
    files = partial(RunFiles, str(tmp_path), every_n_steps=4)
    with pytest.raises(SystemExit):
        fit(OldScripted(ACCURACIES), files(), PeakTime(), Stop())
    again = PeakTime()
    trainer = pl.Trainer(
        **QUIET, max_epochs=4, val_check_interval=2, callbacks=[files(), again],
    )  # fmt: skip
    path = tmp_path / "checkpoints" / "last.ckpt"
    # What is seen from here on is below 0.5: only the checkpoint knows of the peak.
    later = OldScripted([*ACCURACIES[:4], 0.4, 0.3, 0.2, 0.1])
    trainer.fit(later, *loaders(), ckpt_path=path, weights_only=True)
    assert trainer.callback_metrics["l2/peak_step"] == 8
    assert again._steps == [2, 4, 8]


def test_a_metric_that_is_not_there_is_said_after_the_first_validation() -> None:
    with pytest.raises(InputError, match=r"found no 'val/top5' after a validation, there are val/"):
        fit(OldScripted(ACCURACIES), PeakTime("val/top5"))
    with pytest.raises(InputError, match="PeakTime needs a validation set to see 'val/acc' peak"):
        fit(OldScripted(ACCURACIES), PeakTime(), limit_val_batches=0)


def test_decoupled_weight_decay_is_not_taken_for_l2() -> None:
    own = OldScripted(ACCURACIES, partial(torch.optim.AdamW, lr=0.1, weight_decay=0.1))
    with pytest.raises(InputError, match="PeakTime needs L2, AdamW decays weights outside"):
        fit(own, PeakTime())
    fit(own, peak := PeakTime(l2=0.1))
    assert peak.l2 == 0.1


def test_two_strengths_of_l2_need_a_word() -> None:
    own = OldScripted(ACCURACIES)
    own.l2 = 0.1
    with pytest.raises(InputError, match="OldScripted has l2=0.1 and its optimizer weight_decay"):
        fit(own, PeakTime())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"l2": 0}, "l2 must be finite and above 0, got 0"),
        ({"lr": -1.0}, "lr must be finite and above 0"),
        ({"budget": 0}, "budget must be finite and above 0, got 0"),
        ({"tolerance": -0.1}, "tolerance must be finite and at least 0"),
    ],
)
def test_bad_arguments(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PeakTime(**options)
