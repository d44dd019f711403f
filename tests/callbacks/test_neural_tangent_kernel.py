"""NeuralTangentKernel in real Trainers.

Oracle of the numbers: explicit Jacobians by `torch.func.jacrev` in double precision, and numpy.
"""

import copy
import math
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as lp
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from foreign import NewForeign, OldForeign
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader, TensorDataset
from trainers import QUIET

from lightning_lazy import InputError, ScaledLightningModule, read_checkpoint
from lightning_lazy.callbacks import LazinessReport, NeuralTangentKernel
from lightning_lazy.data import ImageDataModule
from lightning_lazy.losses import SquaredLoss
from lightning_lazy.models import TwoLayerNet


def data() -> tuple[DataLoader, DataLoader]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(40, 6, generator=generator)
    pairs = TensorDataset(x, torch.randint(3, (40,), generator=generator))
    return DataLoader(pairs, batch_size=8), DataLoader(pairs, batch_size=16)


def fit(module: Any, *callbacks: Any, package: Any = pl, **arguments: Any) -> Any:
    trainer = package.Trainer(**(QUIET | {"max_epochs": 2} | arguments), callbacks=list(callbacks))
    trainer.fit(module, *data())
    return trainer


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)


@torch.no_grad()
def kernel_by_hand(net: nn.Module, x: Tensor) -> Tensor:
    net, x = copy.deepcopy(net).double().eval(), x.double()
    at = dict(net.named_parameters())
    rows = torch.func.jacrev(lambda w: torch.func.functional_call(net, w, (x,)))(at)
    jacobian = torch.cat([part.flatten(2) for part in rows.values()], dim=2).flatten(0, 1)
    return jacobian @ jacobian.T


def test_what_is_logged_equals_a_dense_computation() -> None:
    module = OldForeign()
    start = copy.deepcopy(module)
    fit(module, NeuralTangentKernel(size=40, batch_size=15, top_k=3), precision="64-true")
    x, y = data()[1].dataset.tensors
    before, after = kernel_by_hand(start, x), kernel_by_hand(module, x)
    metrics = module.metrics
    values = np.linalg.eigvalsh(after.numpy())[::-1] / 40
    for place in range(3):
        assert metrics[f"ntk/top{place + 1}"] == pytest.approx(values[place], rel=1e-9)
    assert metrics["ntk/trace"] == pytest.approx(float(after.trace()) / 40, rel=1e-9)
    rank = int((values > values[0] * 120 * np.finfo(float).eps).sum())
    assert metrics["ntk/rank"] == rank
    assert metrics["ntk/condition"] == pytest.approx(values[0] / values[rank - 1], rel=1e-2)
    change = float((after - before).norm() / before.norm())
    assert metrics["ntk/drift"] == pytest.approx(change, rel=1e-9)
    cosine = float((after * before).sum() / (after.norm() * before.norm()))
    assert metrics["ntk/alignment"] == pytest.approx(cosine, rel=1e-9)
    labels = one_hot(y, 3).double().flatten()
    outer = labels[:, None] * labels
    cosine = float((after * outer).sum() / (after.norm() * outer.norm()))
    assert metrics["ntk/label_alignment"] == pytest.approx(cosine, rel=1e-9)
    assert 0 < cosine < 1


def test_sums_over_outputs_and_other_scales_are_told_apart_by_name() -> None:
    module = OldForeign()
    fit(
        module,
        NeuralTangentKernel(size=40),
        NeuralTangentKernel(size=40, outputs="sum", per_sample=False, name="sum"),
        NeuralTangentKernel(size=40, target=lambda *_: None, name="none"),
        precision="64-true",
    )
    kernel = kernel_by_hand(module, data()[1].dataset.tensors[0]).view(40, 3, 40, 3)
    summed = torch.einsum("ipjp->ij", kernel)
    top = float(torch.linalg.eigvalsh(summed)[-1])
    assert module.metrics["ntk/top1/sum"] == pytest.approx(top, rel=1e-9)
    assert module.metrics["ntk/trace/sum"] == pytest.approx(module.metrics["ntk/trace"] * 40)
    assert "ntk/label_alignment/sum" in module.metrics
    assert "ntk/label_alignment/none" not in module.metrics


@pytest.mark.parametrize(("package", "kind"), [(pl, OldForeign), (lp, NewForeign)])
def test_training_is_the_same_to_the_last_bit(package: Any, kind: Any) -> None:
    alone = kind(nn.ReLU(True))
    watched = copy.deepcopy(alone)
    torch.manual_seed(1)
    fit(alone, package=package)
    torch.manual_seed(1)
    fit(
        watched,
        NeuralTangentKernel(every_n_steps=2, split="train", size=20),
        NeuralTangentKernel(size=10, outputs="sum", name="sum"),
        package=package,
    )
    for (name, one), other in zip(
        alone.state_dict().items(), watched.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
    assert {"ntk/top1", "ntk/drift/sum"} <= set(watched.metrics)


def test_a_resumed_run_counts_from_the_first_start(tmp_path: Path) -> None:
    def callback() -> Any:
        return NeuralTangentKernel(size=30)

    whole = OldForeign()
    whole.layers[3].p = 0.0
    parts = copy.deepcopy(whole)
    full = fit(whole, callback(), max_epochs=4)
    fit(parts, callback(), max_epochs=2).save_checkpoint(tmp_path / "x.ckpt")
    state = read_checkpoint(tmp_path / "x.ckpt")["callbacks"]["NeuralTangentKernel"]["start"]
    assert {name: tuple(value.shape) for name, value in state.items()} == {
        "kernel": (90, 90),
        "outputs": (30, 3),
        "targets": (30, 3),
    }
    trainer = pl.Trainer(**QUIET, max_epochs=4, callbacks=[callback()])
    trainer.fit(parts, *data(), ckpt_path=tmp_path / "x.ckpt", weights_only=True)
    for name, value in full.callback_metrics.items():
        assert value == trainer.callback_metrics[name], name
    fit(parts, max_epochs=1).save_checkpoint(tmp_path / "without.ckpt")
    trainer = pl.Trainer(**QUIET, max_epochs=2, callbacks=[callback()])
    with pytest.raises(InputError, match="the checkpoint holds no kernel at initialisation"):
        trainer.fit(parts, *data(), ckpt_path=tmp_path / "without.ckpt", weights_only=True)


def scaled(alpha: float, lr: float = 1.0) -> ScaledLightningModule:
    return ScaledLightningModule(
        TwoLayerNet(64, 8, 10), SquaredLoss(), partial(torch.optim.SGD, lr=lr), alpha=alpha
    )


def fit_digits(module: Any, *callbacks: Any, **arguments: Any) -> dict[str, float]:
    trainer = pl.Trainer(
        **QUIET, max_epochs=2, precision="64-true", callbacks=list(callbacks), **arguments
    )
    trainer.fit(module, datamodule=ImageDataModule("digits", n_train=60, n_val=60, batch_size=20))
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_the_kernel_is_that_of_the_net_and_on_request_that_of_the_scaled_model() -> None:
    module = scaled(alpha=30.0)
    found = fit_digits(
        module,
        NeuralTangentKernel(size=20),
        NeuralTangentKernel(size=20, model="F", name="scaled"),
    )
    for name in ("top1", "trace"):
        assert found[f"ntk/{name}/scaled"] == pytest.approx(900 * found[f"ntk/{name}"], rel=1e-9)
    for name in ("condition", "drift", "alignment", "label_alignment"):
        assert found[f"ntk/{name}/scaled"] == pytest.approx(found[f"ntk/{name}"], rel=1e-6)


def test_the_lazier_the_net_the_smaller_the_drift_which_the_report_takes_up(
    tmp_path: Path,
) -> None:
    drifts = {}
    for alpha in (1e2, 1e4):
        torch.manual_seed(0)
        report = LazinessReport(size=20)
        found = fit_digits(
            scaled(alpha), NeuralTangentKernel(size=20), report, default_root_dir=str(tmp_path)
        )
        drifts[alpha] = found["ntk/drift"]
        assert report.verdict.evidence["kernel_drift"] == pytest.approx(drifts[alpha])
    assert drifts[1e2] / drifts[1e4] == pytest.approx(100, rel=0.05)


def test_a_run_whose_outputs_are_not_finite_is_logged_as_such_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = OldForeign()
    callback = NeuralTangentKernel(size=5, top_k=2)
    trainer = fit(module, callback, max_epochs=1)
    nn.init.constant_(module.layers[4].weight, math.inf)
    monkeypatch.setattr(
        "lightning_lazy.callbacks.neural_tangent_kernel.tangent_kernel", lambda *_, **__: 1 / 0
    )
    values = callback.measure(trainer, module)
    assert values.keys() == {n for n in module.metrics if n.startswith("ntk/")}
    assert all(map(math.isnan, values.values()))


def test_a_kernel_that_is_not_finite_is_logged_as_such() -> None:
    module = OldForeign()
    module.layers = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
    callback = NeuralTangentKernel(size=5)
    trainer = fit(module, callback, max_epochs=1)
    # Outputs stay finite where the last layer is zero, squares of the last features do not.
    module.layers[1] = nn.Identity()
    nn.init.constant_(module.layers[0].weight, 1e30)
    nn.init.zeros_(module.layers[2].weight)
    assert all(map(math.isnan, callback.measure(trainer, module).values()))


class Tied(OldForeign):
    """Two layers with one weight, and one layer that is not trained."""

    def __init__(self) -> None:
        super().__init__()
        one, other, last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        other.weight = one.weight
        last.requires_grad_(False)
        self.layers = nn.Sequential(one, nn.Tanh(), other, nn.Tanh(), last)


def test_tied_parameters_count_once_and_frozen_ones_not_at_all() -> None:
    # Oracle: the chain rule through a function of the shared weight and the two biases alone.
    module = Tied()
    fit(module, NeuralTangentKernel(size=40), precision="64-true")
    x = data()[1].dataset.tensors[0].double()
    one, _, other, _, last = module.layers

    def outputs(w: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return last(torch.tanh(torch.tanh(x @ w.T + b) @ w.T + c))

    with torch.no_grad():
        parts = torch.func.jacrev(outputs, argnums=(0, 1, 2))(one.weight, one.bias, other.bias)
    jacobian = torch.cat([part.flatten(2) for part in parts], dim=2).flatten(0, 1)
    trace = float(jacobian.detach().square().sum()) / 40
    assert module.metrics["ntk/trace"] == pytest.approx(trace, rel=1e-10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "g"}, "model must be one of f, F, got 'g'"),
        ({"outputs": "mean"}, "outputs must be one of full, sum, got 'mean'"),
        ({"top_k": 0}, "top_k must be an integer of at least 1, got 0"),
        ({"size": None}, "size must be an integer of at least 1, got None"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        NeuralTangentKernel(**arguments)


def test_a_probe_that_can_not_be_had_is_said_before_training() -> None:
    module = OldForeign()
    with pytest.raises(InputError, match="should have 41 samples, the val set has 40"):
        fit(module, NeuralTangentKernel(size=41))
