"""ParameterDistance, LinearizationGap, RelativeScale and LazinessReport in real Trainers."""

import copy
import json
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as lp
import pytest
import pytorch_lightning as pl
import torch
from foreign import loaders
from torch import Tensor, nn
from torch.utils.data import DataLoader
from trainers import QUIET

from lightning_lazy import InputError, LinearizedModel, ScaledLightningModule, read_checkpoint
from lightning_lazy.callbacks import (
    LazinessReport,
    LinearizationGap,
    ParameterDistance,
    RelativeScale,
)
from lightning_lazy.data import ImageDataModule
from lightning_lazy.losses import SquaredLoss
from lightning_lazy.models import TwoLayerNet


class Foreign:
    """A classifier that knows nothing of this project."""

    def __init__(self, activation: nn.Module | None = None, norm: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(6, 16),
            nn.BatchNorm1d(16) if norm else nn.Identity(),
            activation or nn.Tanh(),
            nn.Linear(16, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.3)

    def on_train_end(self) -> None:
        self.metrics = {name: float(v) for name, v in self.trainer.callback_metrics.items()}


class OldForeign(Foreign, pl.LightningModule):
    pass


class NewForeign(Foreign, lp.LightningModule):
    pass


def data() -> tuple[DataLoader, DataLoader]:
    return loaders(shuffle=False)


def fit(module: Any, *callbacks: Any, package: Any = pl, **arguments: Any) -> Any:
    trainer = package.Trainer(**(QUIET | {"max_epochs": 2} | arguments), callbacks=list(callbacks))
    trainer.fit(module, *data())
    return trainer


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@torch.no_grad()
def outputs_by_hand(start: nn.Module, module: nn.Module, x: Tensor) -> tuple[Tensor, ...]:
    """h(w₀), h(w) and h̄(w) in double precision with an explicit Jacobian."""
    start, module = copy.deepcopy(start).double(), copy.deepcopy(module).double()
    w0 = dict(start.named_parameters())
    before = start(x.double())
    rows = torch.func.jacrev(lambda w: torch.func.functional_call(start, w, (x.double(),)))(w0)
    linear = before + sum(
        (rows[name].flatten(2) @ (p - w0[name]).flatten()) for name, p in module.named_parameters()
    )
    return before, module(x.double()), linear


def distance_by_hand(module: nn.Module, start: nn.Module) -> float:
    now, before = (
        torch.cat([p.detach().double().flatten() for p in net.parameters()])
        for net in (module, start)
    )
    return float((now - before).norm() / before.norm())


def test_distance_and_gap_equal_a_dense_computation() -> None:
    # Oracle: explicit Jacobian in double precision over the 40 samples of the loader.
    module = OldForeign()
    start = copy.deepcopy(module)
    fit(module, ParameterDistance(), LinearizationGap(batch_size=15))
    x, y = data()[1].dataset.tensors
    before, after, linear = outputs_by_hand(start, module, x)
    missed = (after - linear).norm()
    wanted = (before - nn.functional.one_hot(y, 3)).norm()
    metrics = module.metrics
    assert metrics["lazy/linearization_gap"] == pytest.approx(float(missed / wanted), rel=1e-9)
    share = float(missed / (after - before).norm())
    assert metrics["lazy/nonlinear_share"] == pytest.approx(share, rel=1e-9)
    expected = distance_by_hand(module, start)
    assert metrics["lazy/param_distance"] == pytest.approx(expected, rel=1e-12)
    now, first = (torch.cat([p.flatten() for p in net.layers[3].parameters()]).detach()
                  for net in (module, start))  # fmt: skip
    relative = float((now - first).norm() / first.norm())
    assert metrics["lazy/param_distance/layers.3"] == pytest.approx(relative, rel=1e-5)


def test_the_frozen_copy_of_a_scaled_model_is_the_start_and_nothing_else_is_kept(
    tmp_path: Path,
) -> None:
    module = ScaledLightningModule(
        TwoLayerNet(64, 8, 10), SquaredLoss(), partial(torch.optim.SGD, lr=1.0), alpha=2.0
    )
    callbacks = [ParameterDistance(), LinearizationGap(size=50)]
    trainer = pl.Trainer(**QUIET, max_epochs=1, callbacks=callbacks)
    trainer.fit(module, datamodule=ImageDataModule("digits", n_train=60, n_val=60, batch_size=20))
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    states = read_checkpoint(tmp_path / "x.ckpt")["callbacks"]
    assert "start" not in states["ParameterDistance"]
    start, now = module.model.reference.net, module.net
    distance = float(trainer.callback_metrics["lazy/param_distance"])
    assert distance == pytest.approx(distance_by_hand(now, start), rel=1e-6)


def test_the_first_callback_that_needs_it_keeps_the_start_for_all_and_through_a_resume(
    tmp_path: Path,
) -> None:
    def callbacks() -> list[Any]:
        return [LazinessReport(), ParameterDistance(), LinearizationGap()]

    whole, parts = OldForeign(), OldForeign()
    parts.load_state_dict(whole.state_dict())
    start = copy.deepcopy(whole)
    full = fit(whole, *callbacks(), max_epochs=4)
    fit(parts, *callbacks(), max_epochs=2).save_checkpoint(tmp_path / "x.ckpt")
    states = read_checkpoint(tmp_path / "x.ckpt")["callbacks"]
    assert [name for name, state in states.items() if "start" in state] == ["LazinessReport"]
    for name, p in start.named_parameters():
        assert torch.equal(states["LazinessReport"]["start"][name], p)
    trainer = pl.Trainer(**QUIET, max_epochs=4, callbacks=callbacks())
    trainer.fit(parts, *data(), ckpt_path=tmp_path / "x.ckpt", weights_only=True)
    for name, value in full.callback_metrics.items():
        assert value == trainer.callback_metrics[name], name


def test_a_resume_from_a_checkpoint_without_the_start_is_refused(tmp_path: Path) -> None:
    module = OldForeign()
    fit(module, max_epochs=1).save_checkpoint(tmp_path / "x.ckpt")
    trainer = pl.Trainer(**QUIET, max_epochs=2, callbacks=[ParameterDistance()])
    with pytest.raises(InputError, match="the checkpoint holds no parameters at initialisation"):
        trainer.fit(module, *data(), ckpt_path=tmp_path / "x.ckpt", weights_only=True)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize(("package", "kind"), [(pl, OldForeign), (lp, NewForeign)])
def test_training_is_the_same_to_the_last_bit_with_all_of_them_on(
    tmp_path: Path, package: Any, kind: Any, norm: bool
) -> None:
    alone = kind(norm=norm)
    watched = copy.deepcopy(alone)
    fit(alone, package=package)
    fit(
        watched,
        LazinessReport(split="train"),
        LinearizationGap(every_n_steps=2),
        ParameterDistance(every_n_steps=3),
        RelativeScale(size=5, starts=1, iterations=3),
        package=package,
        default_root_dir=str(tmp_path),
    )
    for (name, one), other in zip(
        alone.state_dict().items(), watched.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
    assert {"lazy/kappa", "lazy/linearization_gap", "lazy/param_distance"} <= set(watched.metrics)


def test_with_batch_norm_the_gap_is_that_of_batch_statistics() -> None:
    # Oracle: explicit Jacobian of the net in training mode, on the same batches of the probe.
    module = OldForeign(norm=True)
    start = copy.deepcopy(module)
    fit(module, LinearizationGap(batch_size=20))
    x = data()[1].dataset.tensors[0]
    for net in (start, module):
        net.layers[1].track_running_stats = False
        net.train()
    parts = [outputs_by_hand(start, module, part) for part in x.split(20)]
    before, after, linear = (torch.cat(column) for column in zip(*parts, strict=True))
    share = float((after - linear).norm() / (after - before).norm())
    assert module.metrics["lazy/nonlinear_share"] == pytest.approx(share, rel=1e-9)


class FixedType(OldForeign):
    """Converts its inputs to single precision by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.float())


def test_a_module_that_can_not_run_in_double_is_measured_in_its_own_type() -> None:
    module = FixedType()
    with pytest.warns(UserWarning, match=r"LinearizationGap computes in torch.float32"):
        fit(module, LinearizationGap())
    assert 0 < module.metrics["lazy/nonlinear_share"] < 1


def test_very_lazy_nets_are_told_from_rounding() -> None:
    # ‖h − h̄‖/‖h − h₀‖ is of order 1/α (theorem 2.2); in single precision it would be of order 1.
    shares = []
    for alpha in (1e3, 1e5):
        torch.manual_seed(0)
        module = ScaledLightningModule(
            TwoLayerNet(64, 8, 10, activation="softplus"),
            SquaredLoss(),
            partial(torch.optim.SGD, lr=1.0),
            alpha=alpha,
        )
        trainer = pl.Trainer(
            **QUIET, max_epochs=1, callbacks=[LinearizationGap(size=50)], precision="64-true"
        )
        images = ImageDataModule("digits", n_train=60, n_val=60, batch_size=20)
        trainer.fit(module, datamodule=images)
        shares.append(float(trainer.callback_metrics["lazy/nonlinear_share"]))
    assert shares[0] / shares[1] == pytest.approx(100, rel=0.02)
    assert shares[0] < 0.01


def test_the_report_prints_stores_and_logs_its_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = LazinessReport()
    fit(OldForeign(nn.ReLU()), report, default_root_dir=str(tmp_path), max_epochs=20)
    printed = capsys.readouterr().out
    stored = json.loads((tmp_path / "laziness.json").read_text())
    assert stored["step"] == 100
    assert stored["verdict"] == report.verdict.verdict
    assert f"laziness after 100 steps: {stored['verdict'].upper()}" in printed
    for name in ("activation_stability", "nonlinear_share", "linearization_gap", "param_distance"):
        assert f"{stored['evidence'][name]:<11.4g}" in printed


def test_the_report_tells_lazy_from_active(tmp_path: Path) -> None:
    verdicts = {}
    for alpha, lr in ((1e4, 2.0), (0.01, 0.02)):
        report = LazinessReport()
        torch.manual_seed(0)
        module = ScaledLightningModule(
            TwoLayerNet(64, 30, 10, activation="relu"),
            SquaredLoss(),
            partial(torch.optim.SGD, lr=lr),
            alpha=alpha,
        )
        trainer = pl.Trainer(
            **QUIET, max_epochs=30, callbacks=[report], default_root_dir=str(tmp_path)
        )
        images = ImageDataModule("digits", n_train=200, n_val=100, batch_size=20)
        trainer.fit(module, datamodule=images)
        verdicts[alpha] = report.verdict.verdict
    assert verdicts == {1e4: "lazy", 0.01: "active"}


def test_the_report_finds_the_linearised_model_lazy(tmp_path: Path) -> None:
    report = LazinessReport()
    torch.manual_seed(0)
    net = LinearizedModel(TwoLayerNet(64, 30, 10, activation="relu"))
    optimizer = partial(torch.optim.SGD, lr=1.0)
    module = ScaledLightningModule(net, SquaredLoss(), optimizer, alpha=1.0)
    trainer = pl.Trainer(**QUIET, max_epochs=2, callbacks=[report], default_root_dir=str(tmp_path))
    images = ImageDataModule("digits", n_train=60, n_val=40, batch_size=20)
    trainer.fit(module, datamodule=images)
    assert "activation_stability" not in report.verdict.evidence  # its activations run at θ₀ only
    # It is its own linearisation; in double precision (the callback's), rounding alone is left.
    assert report.verdict.evidence["nonlinear_share"] < 1e-6
    assert report.verdict.verdict == "lazy"


def test_the_report_does_without_activation_modules_and_without_targets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = LazinessReport(target=lambda *_: None, name="x")
    fit(OldForeign(nn.Identity()), report, default_root_dir=str(tmp_path))
    assert set(report.verdict.evidence) == {"param_distance", "nonlinear_share"}
    assert "no activation modules" in capsys.readouterr().out
    assert (tmp_path / "laziness-x.json").is_file()


def test_the_linearised_model_has_no_gap(tmp_path: Path) -> None:
    # Its anchor is w₀ itself; rounding of double precision on outputs of order 1.
    module = OldForeign()
    module.layers = LinearizedModel(module.layers)
    fit(module, LinearizationGap())
    assert module.metrics["lazy/nonlinear_share"] < 1e-13


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (LinearizationGap(size=41), "should have 41 samples, the val set has 40"),
        (
            LinearizationGap(target=lambda *_: torch.zeros(2)),
            r"targets of shape \[2\]: pass target",
        ),
        (RelativeScale(size=8, target=lambda *_: None), "RelativeScale needs targets"),
    ],
)
def test_mistakes_are_said_before_training(callback: Any, message: str) -> None:
    module = OldForeign()
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(InputError, match=message):
        fit(module, callback)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


class Attention(OldForeign):
    """A transformer with fused attention and LayerNorm, on sequences that are cut from x."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.layers = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        sequence = torch.stack([x[:, :4], x[:, 1:5], x[:, 2:]], dim=1)
        return self.layers(self.encoder(sequence).flatten(1))


class Recurrent(OldForeign):
    """An LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 5, batch_first=True)
        self.layers = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(self.lstm(x.view(-1, 3, 2))[0][:, -1])


@pytest.mark.parametrize("kind", [Attention, Recurrent])
def test_attention_and_recurrent_nets_are_measured(kind: Any) -> None:
    # Oracle of the gap: it vanishes like the step, hence share(lr)/share(lr/10) is about 10.
    shares = []
    for lr in (1e-2, 1e-3):
        torch.manual_seed(0)
        module = kind()
        module.configure_optimizers = lambda module=module, lr=lr: torch.optim.SGD(
            module.parameters(), lr=lr
        )
        fit(
            module,
            LinearizationGap(),
            LazinessReport(name="report"),
            RelativeScale(size=4, starts=1, iterations=2),
        )
        shares.append(module.metrics["lazy/nonlinear_share"])
        assert module.metrics["lazy/kappa"] > 0
    assert shares[0] / shares[1] == pytest.approx(10, rel=0.2)


class Freezing(OldForeign):
    """Trains its last layer from the start and its first one from, or up to, the second epoch."""

    def __init__(self, later: bool) -> None:
        super().__init__()
        self.later = later
        self.layers[0].requires_grad_(not later)

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == 1:
            self.layers[0].requires_grad_(self.later)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.3)


def test_parameters_that_come_to_be_trained_later_make_the_gap_unknown() -> None:
    report = LazinessReport()
    with pytest.warns(UserWarning, match=r"layers.0.bias, layers.0.weight came to be trained"):
        fit(Freezing(later=True), report)
    assert report.verdict.verdict == "unknown"


def test_parameters_that_are_frozen_later_count_as_they_are() -> None:
    module = Freezing(later=False)
    start = copy.deepcopy(module)
    fit(module, LinearizationGap(), ParameterDistance())
    before, after, linear = outputs_by_hand(start, module, data()[1].dataset.tensors[0])
    share = float((after - linear).norm() / (after - before).norm())
    assert module.metrics["lazy/nonlinear_share"] == pytest.approx(share, rel=1e-9)


def test_a_callback_that_sees_a_second_run_begins_anew(tmp_path: Path) -> None:
    callbacks = [LazinessReport(), ParameterDistance(), LinearizationGap(name="again")]
    fit(OldForeign(nn.ReLU()), *callbacks)
    first = [callbacks[0].verdict.evidence]
    second = OldForeign(nn.ReLU())
    alone = copy.deepcopy(second)
    fit(second, *callbacks)
    fit(alone, LazinessReport(), ParameterDistance(), LinearizationGap(name="again"))
    assert second.metrics == alone.metrics
    assert callbacks[0].verdict.evidence != first


def test_two_fits_of_one_trainer_are_one_run() -> None:
    whole, parts = OldForeign(), OldForeign()
    parts.load_state_dict(whole.state_dict())
    fit(whole, LinearizationGap(), max_epochs=4)
    trainer = fit(parts, LinearizationGap(), max_epochs=2)
    trainer.fit_loop.max_epochs = 4
    trainer.fit(parts, *data())
    assert parts.metrics == whole.metrics


@pytest.mark.parametrize("arrangement", ["late validation", "dictionary", "none"])
def test_the_probe_is_found_wherever_the_loaders_are(arrangement: str) -> None:
    module, (train, val) = OldForeign(), data()
    arguments = {"check_val_every_n_epoch": 2} if arrangement == "late validation" else {}
    trainer = pl.Trainer(**QUIET, max_epochs=2, callbacks=[LazinessReport()], **arguments)
    if arrangement == "none":
        module.validation_step = None
        trainer.fit(module, train)
    else:
        trainer.fit(module, train, {"a": val} if arrangement == "dictionary" else val)
    assert 0 < module.metrics["lazy/nonlinear_share"] < 1


class Pair(OldForeign):
    """Returns more than its outputs."""

    def forward(self, x: Tensor) -> Any:
        return self.layers(x), x

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0])[0], batch[1])


class Noise(OldForeign):
    """Takes inputs of another size than the batches'."""

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x[:, :5])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.layers(batch[0]).sum()


def frozen() -> OldForeign:
    return OldForeign().requires_grad_(False)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Pair, "outputs of Pair must be a tensor, got tuple"),
        (Noise, r"Noise can't be run on a batch .*pass forward=function\(module, batch\)"),
        (frozen, "found no parameters that require gradients"),
    ],
)
def test_modules_that_need_help_are_told_so_in_one_line(make: Any, message: str) -> None:
    module = make()
    module.configure_optimizers = lambda: torch.optim.SGD(
        [p.requires_grad_() for p in [torch.zeros(1)]], lr=0.1
    )
    with pytest.raises(InputError, match=message) as caught:
        fit(module, LazinessReport())
    assert "\n" not in str(caught.value)


def test_a_net_that_did_not_move_is_neither_lazy_nor_active() -> None:
    module, report = OldForeign(), LazinessReport()
    module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), lr=0.0)
    fit(module, report)
    assert report.verdict.verdict == "unknown"


def test_sharded_strategies_are_refused() -> None:
    trainer = type("Trainer", (), {"strategy": type("FSDPStrategy", (), {})()})()
    with pytest.raises(InputError, match="FSDPStrategy shards them: use strategy=ddp"):
        ParameterDistance().setup(trainer, OldForeign(), "fit")
