"""HessianTopEigenvalues in real Trainers, against dense Hessians in double precision."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as lp
import pytest
import pytorch_lightning as pl
import torch
from foreign import loaders
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanMetric
from trainers import QUIET

from lightning_lazy import InputError, ScaledLightningModule, read_checkpoint
from lightning_lazy.callbacks import HessianTopEigenvalues
from lightning_lazy.data import ImageDataModule
from lightning_lazy.losses import SquaredLoss
from lightning_lazy.models import TwoLayerNet


class Foreign:
    """Logs, counts and normalises inside ``training_step``, as foreign modules do."""

    def __init__(self, norm: bool = True) -> None:
        super().__init__()
        normalise = nn.BatchNorm1d(5) if norm else nn.Identity()
        self.layers = nn.Sequential(
            nn.Linear(4, 5), normalise, nn.Tanh(), nn.Dropout(0.3 if norm else 0.0), nn.Linear(5, 3)
        )
        self.mean = MeanMetric()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.calls += 1
        self.mean(loss.detach())
        self.log("own/step", loss, on_step=False, on_epoch=True)
        self.log_dict({"own/mean": self.mean})
        return {"loss": loss}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.25)

    def on_train_end(self) -> None:
        self.metrics = {name: float(v) for name, v in self.trainer.callback_metrics.items()}


class OldForeign(Foreign, pl.LightningModule):
    pass


class NewForeign(Foreign, lp.LightningModule):
    pass


def data() -> tuple[DataLoader, DataLoader]:
    return loaders(features=4, shuffle=False)


def fit(module: Any, *callbacks: Any, package: Any = pl, **arguments: Any) -> Any:
    trainer = package.Trainer(**(QUIET | {"max_epochs": 2} | arguments), callbacks=list(callbacks))
    trainer.fit(module, *data())
    return trainer


def spectrum(
    module: nn.Module, batches: list[tuple[Tensor, Tensor]], train: bool = False
) -> Tensor:
    """Eigenvalues of the dense Hessian of the mean loss, in double precision.

    Row by row in reverse mode: under `torch.func.vmap`, which `torch.func.hessian` uses, the second
    derivatives of BatchNorm with the statistics of a batch are wrong in torch 2.14.
    """
    net = copy.deepcopy(module.layers).double().train(train)
    for part in net:
        if isinstance(part, nn.BatchNorm1d) and train:
            part.track_running_stats = False
        if isinstance(part, nn.Dropout):
            part.eval()
    named = {name: p.detach() for name, p in net.named_parameters()}

    def loss(flat: Tensor) -> Tensor:
        parts = flat.split([p.numel() for p in named.values()])
        w = {n: part.view_as(p) for part, (n, p) in zip(parts, named.items(), strict=True)}
        total = sum(
            nn.functional.cross_entropy(functional_call(net, w, (x.double(),)), y, reduction="sum")
            for x, y in batches
        )
        return total / sum(len(y) for _, y in batches)

    flat = torch.cat([p.flatten() for p in named.values()])
    return torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, flat))


PRECISE: dict[str, Any] = {"tolerance": 1e-7, "batch_size": 15}


def test_top_eigenvalues_equal_those_of_the_dense_hessian() -> None:
    # Lanczos to a residual of 1e-7 in double precision: eigenvalues are right to 1e-9 or better.
    module = OldForeign().double()
    loaders = [DataLoader(TensorDataset(*(t.double() if t.is_floating_point() else t for t in
               data()[0].dataset.tensors)), batch_size=8)] * 2  # fmt: skip
    trainer = pl.Trainer(
        **QUIET, max_epochs=2, precision="64-true",
        callbacks=[HessianTopEigenvalues(3, **PRECISE),
                   HessianTopEigenvalues(2, which="SA", name="low", **PRECISE),
                   HessianTopEigenvalues(1, which="LM", name="large", **PRECISE)],
    )  # fmt: skip
    trainer.fit(module, *loaders)
    exact = spectrum(module, [data()[0].dataset.tensors])
    metrics = module.metrics
    top = [metrics[f"curvature/hessian_top{i}"] for i in (1, 2, 3)]
    assert top == pytest.approx(exact.flip(0)[:3].tolist(), rel=1e-8)
    low = [metrics[f"curvature/hessian_bottom{i}/low"] for i in (1, 2)]
    assert low == pytest.approx(exact[:2].tolist(), rel=1e-6, abs=1e-9)
    assert metrics["curvature/hessian_largest1/large"] == pytest.approx(float(exact[-1]), rel=1e-8)
    assert metrics["curvature/lr_times_top1"] == pytest.approx(0.25 * top[0], rel=1e-12)
    assert metrics["curvature/hessian_error"] <= 1e-7 * top[0]


def test_with_batch_statistics_the_loss_is_that_of_fixed_micro_batches() -> None:
    # Oracle: the dense Hessian of the net in training mode on the same partition; single precision.
    module = OldForeign()
    fit(module, HessianTopEigenvalues(statistics="batch", batch_size=20, tolerance=1e-4))
    x, y = data()[0].dataset.tensors
    exact = spectrum(module, list(zip(x.split(20), y.split(20), strict=True)), train=True)
    assert module.metrics["curvature/hessian_top1"] == pytest.approx(float(exact[-1]), rel=1e-4)


def test_the_current_batch_is_measured_on_demand() -> None:
    module = OldForeign()
    fit(module, HessianTopEigenvalues(on="batch", every_n_steps=1, tolerance=1e-4, batch_size=3))
    x, y = data()[0].dataset.tensors
    exact = spectrum(module, [(x[-8:], y[-8:])])
    assert module.metrics["curvature/hessian_top1"] == pytest.approx(float(exact[-1]), rel=1e-4)


@pytest.mark.parametrize(("package", "kind"), [(pl, OldForeign), (lp, NewForeign)])
def test_training_metrics_and_buffers_are_the_same_to_the_last_bit(package: Any, kind: Any) -> None:
    alone = kind()
    watched = copy.deepcopy(alone)
    torch.manual_seed(0)
    fit(alone, package=package)
    torch.manual_seed(0)
    fit(
        watched,
        HessianTopEigenvalues(2, every_n_steps=2, overlap=True),
        HessianTopEigenvalues(on="batch", statistics="batch", every_n_steps=3, name="batch"),
        package=package,
    )
    for (name, one), other in zip(
        alone.state_dict().items(), watched.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
    assert alone.mean.metric_state == watched.mean.metric_state
    for name, value in alone.metrics.items():
        assert watched.metrics[name] == value, name
    assert 0 <= watched.metrics["curvature/hessian_overlap"] <= 1 + 1e-6
    assert "log" not in vars(watched)


def test_a_resumed_run_logs_the_same_to_the_last_bit(tmp_path: Path) -> None:
    def callback() -> Any:
        return HessianTopEigenvalues(2, overlap=True, size=20)

    whole, parts = OldForeign(norm=False), OldForeign(norm=False)
    parts.load_state_dict(whole.state_dict())
    full = fit(whole, callback(), max_epochs=4)
    fit(parts, callback(), max_epochs=2).save_checkpoint(tmp_path / "x.ckpt")
    vectors = read_checkpoint(tmp_path / "x.ckpt")["callbacks"]["HessianTopEigenvalues"]["vectors"]
    assert vectors.shape[1] == 2
    trainer = pl.Trainer(**QUIET, max_epochs=4, callbacks=[callback()])
    trainer.fit(parts, *data(), ckpt_path=tmp_path / "x.ckpt", weights_only=True)
    for name, value in full.callback_metrics.items():
        if name.startswith("curvature"):
            assert trainer.callback_metrics[name] == value, name


def test_a_standalone_validation_measures_too() -> None:
    module = OldForeign()
    before = copy.deepcopy(module.state_dict())
    trainer = pl.Trainer(**QUIET, callbacks=[HessianTopEigenvalues(split="val", tolerance=1e-4)])
    trainer.validate(module, data()[1], verbose=False)
    exact = spectrum(module, [data()[1].dataset.tensors])
    found = float(trainer.callback_metrics["curvature/hessian_top1"])
    assert found == pytest.approx(float(exact[-1]), rel=1e-4)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_the_scaled_module_is_measured_without_its_l2_term_unless_asked() -> None:
    # Closed form: the L2 term adds l2 to every eigenvalue; rounding of float32 products.
    module = ScaledLightningModule(
        TwoLayerNet(64, 4, 10), SquaredLoss(), partial(torch.optim.SGD, lr=0.0), l2=0.5, alpha=3.0
    )
    callbacks = [
        HessianTopEigenvalues(size=20),
        HessianTopEigenvalues(size=20, include_l2=True, name="l2"),
    ]
    trainer = pl.Trainer(**QUIET, max_epochs=1, callbacks=callbacks)
    trainer.fit(module, datamodule=ImageDataModule("digits", n_train=40, n_val=20, batch_size=20))
    metrics = trainer.callback_metrics
    gap = metrics["curvature/hessian_top1/l2"] - metrics["curvature/hessian_top1"]
    assert gap == pytest.approx(0.5, rel=1e-5)


def test_gauss_newton_equals_the_product_of_explicit_jacobians() -> None:
    # Oracle: JᵀHJ with explicit Jacobians and the softmax's Hessian, in double precision.
    module = OldForeign(norm=False)
    x, y = data()[0].dataset.tensors

    def loss(_: Any, output: Tensor, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(output, batch[1])

    callback = HessianTopEigenvalues(matrix="gauss_newton", loss_of_outputs=loss, tolerance=1e-4)
    fit(module, callback)
    net = copy.deepcopy(module.layers).double()
    w = {name: p.detach() for name, p in net.named_parameters()}
    parts = torch.func.jacrev(lambda p: functional_call(net, p, (x.double(),)))(w)
    jacobian = torch.cat([part.flatten(2) for part in parts.values()], dim=2)
    shares = net(x.double()).softmax(1).detach()
    inner = torch.diag_embed(shares) - shares[:, :, None] * shares[:, None, :]
    exact = torch.einsum("nop,nor,nrq->pq", jacobian, inner, jacobian) / len(x)
    top = float(torch.linalg.eigvalsh(exact)[-1])
    assert module.metrics["curvature/gauss_newton_top1"] == pytest.approx(top, rel=1e-4)
    assert top != pytest.approx(float(spectrum(module, [(x, y)])[-1]), rel=1e-2)


def test_gauss_newton_of_a_foreign_module_needs_the_loss_of_its_outputs() -> None:
    with pytest.raises(InputError, match="pass loss_of_outputs"):
        fit(OldForeign(), HessianTopEigenvalues(matrix="gauss_newton"))


class Crossing(pl.LightningModule):
    """L = ½ (a(t) u² + b(t) v²): two decoupled directions whose curvatures cross."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(2))
        self.time = 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        curvature = torch.tensor([1.0, 0.1 * self.trainer.global_step])
        # A weak coupling: without it each direction would be an exact eigenvector.
        return 0.5 * (curvature * self.w**2).sum() + 1e-4 * self.w.prod() + 0 * batch[0].sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def test_an_eigenvalue_that_overtakes_is_seen_within_fresh_every_measurements() -> None:
    # Closed form: the eigenvalues are 1 and 0.1·step, up to 1e-8.
    module = Crossing()
    trainer = pl.Trainer(
        **QUIET, max_steps=20, max_epochs=-1,
        callbacks=[HessianTopEigenvalues(every_n_steps=1, fresh_every=5, split="train")],
    )  # fmt: skip
    found = []

    class Record(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            found.append(float(trainer.callback_metrics["curvature/hessian_top1"]))

    trainer.callbacks.append(Record())
    trainer.fit(module, data()[0])
    assert found[8] == pytest.approx(1.0, rel=1e-3)
    assert found[19] == pytest.approx(2.0, rel=1e-3)


class Manual(OldForeign):
    """Steps its optimizer by itself."""

    def __init__(self) -> None:
        super().__init__(norm=False)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        optimizer.step()

    def loss(self, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])


def test_manual_optimisation_needs_a_loss_function() -> None:
    with pytest.raises(InputError, match=r"optimises by itself .* pass loss_fn"):
        fit(Manual(), HessianTopEigenvalues())
    module = Manual()
    fit(module, HessianTopEigenvalues(loss_fn=Manual.loss, tolerance=1e-4))
    exact = spectrum(module, [data()[0].dataset.tensors])
    assert module.metrics["curvature/hessian_top1"] == pytest.approx(float(exact[-1]), rel=1e-4)


class NoLoss(OldForeign):
    """Returns what is no loss."""

    def training_step(self, batch: Any, batch_idx: int) -> None:
        return None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: (NoLoss(), HessianTopEigenvalues()),
            "returned NoneType, not a loss",
        ),
        (lambda: (OldForeign(), HessianTopEigenvalues(include_l2=True)), "has none: add the term"),
        (lambda: (OldForeign(), HessianTopEigenvalues(size=41)), "should have 41 samples"),
    ],
)
def test_mistakes_are_said_before_training(make: Any, message: str) -> None:
    module, callback = make()
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(InputError, match=message):
        fit(module, callback)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k must be an integer of at least 1, got 0"),
        ({"which": "top"}, "which must be one of LA, SA, LM, got 'top'"),
        ({"on": "epoch"}, "on must be one of probe, batch"),
        ({"tolerance": 0.0}, "tolerance must be finite and above 0"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        HessianTopEigenvalues(**arguments)
