"""Curvature of modules that do in ``training_step`` what foreign modules do.

The oracle of a number is the dense Hessian in double precision (`torch.autograd.functional`), whose
top eigenvalue Lanczos meets to 1e-8 or better at a residual of 1e-6.
"""

import copy
import random
from collections import UserDict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import AUROC, Accuracy, MeanMetric, MetricCollection, Recall
from torchmetrics.wrappers import MinMaxMetric
from trainers import QUIET

from lightning_lazy import InputError, ScaledLightningModule
from lightning_lazy.callbacks import HessianSpectrum, HessianTopEigenvalues
from lightning_lazy.callbacks._curvature import LossCurvature
from lightning_lazy.losses import CrossEntropyLoss

PRECISE: dict[str, Any] = {"tolerance": 1e-6, "batch_size": 15}


class Plain(pl.LightningModule):
    """A small classifier in double precision."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
        with torch.no_grad():
            for p in self.layers.parameters():
                p.copy_(torch.randn(p.shape, generator=generator) / 2)
        self.double()

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(self.layers(x), y)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.loss(*batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.25)


def samples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(40, 4, generator=generator).double()
    return x, torch.randint(3, (40,), generator=generator)


def loader(**options: Any) -> DataLoader:
    return DataLoader(TensorDataset(*samples()), **({"batch_size": 8} | options))


def fit(module: Any, *callbacks: Any, loaders: Any = None, **arguments: Any) -> dict[str, float]:
    trainer = pl.Trainer(**(QUIET | {"max_epochs": 1} | arguments), callbacks=list(callbacks))
    trainer.fit(module, loader() if loaders is None else loaders)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def dense(module: nn.Module, loss: Callable[[nn.Module], Tensor]) -> Tensor:
    """The Hessian of a loss of a module in the parameters that are trained."""
    named = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}

    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self) -> Tensor:
            return loss(self.module)

    def of_flat(flat: Tensor) -> Tensor:
        parts = flat.split([p.numel() for p in named.values()])
        w = {f"module.{n}": t.view_as(p) for t, (n, p) in zip(parts, named.items(), strict=True)}
        return functional_call(Loss(), w, ())

    flat = torch.cat([p.flatten() for p in named.values()])
    return torch.autograd.functional.hessian(of_flat, flat)


def top(module: nn.Module, loss: Callable[[Any], Tensor]) -> float:
    return float(torch.linalg.eigvalsh(dense(module, loss))[-1])


def matrix(module: Any, batches: list[Any], **options: Any) -> Tensor:
    """All products of the operator that the callbacks use."""
    trainer = pl.Trainer(**QUIET)
    with LossCurvature(**options).operator(trainer, module, batches) as operator:
        return torch.stack([operator(row) for row in torch.eye(operator.dim).double()])


class Noisy(Plain):
    """Draws in ``training_step``, as diffusion models, VAEs and mixup do."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        scale = 1 + random.random() + np.random.rand()
        return F.cross_entropy(self.layers(F.dropout(x) + scale * torch.randn_like(x)), y)


def test_a_loss_that_draws_is_measured_at_the_same_draws_in_all_products() -> None:
    # A matrix of second derivatives is symmetric; with new draws in every product it is not.
    x, y = samples()
    module = Noisy()
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    found = matrix(module, [(x[:25], y[:25]), (x[25:], y[25:])])
    torch.testing.assert_close(found, found.T, rtol=0, atol=1e-12)
    again = matrix(module, [(x[:25], y[:25]), (x[25:], y[25:])])
    assert torch.equal(found, again)
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


class Counting(Plain):
    """A loss whose weight depends on a buffer that ``training_step`` replaces."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.ones((), dtype=torch.float64))
        self.register_buffer("average", torch.zeros(4, dtype=torch.float64))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.calls = self.calls + 1
        self.average = 0.9 * self.average + 0.1 * batch[0].mean(0)
        self.average.mul_(0.5)
        return self.loss(*batch) * self.calls


def test_buffers_that_are_replaced_stay_and_the_loss_is_the_same_in_all_products() -> None:
    module = Counting()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    x, y = samples()
    found = matrix(module, [(x[:20], y[:20]), (x[20:], y[20:])])
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    expected = 2 * dense(module, lambda m: m.loss(x, y))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


class Measured(Plain):
    """Metrics with groups, lists, wrappers and a plain state."""

    def __init__(self) -> None:
        super().__init__()
        self.many = MetricCollection(
            [Accuracy("multiclass", num_classes=3), Recall("multiclass", num_classes=3)]
        )
        self.area = AUROC("multiclass", num_classes=3)
        self.range = MinMaxMetric(MeanMetric())
        self.again = self.area
        self.seen: list[dict[str, float]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        output = self.layers(x)
        loss = F.cross_entropy(output, y)
        self.many.update(output.detach(), y)
        self.area.update(output, y)  # keeps outputs with their graphs
        self.range(loss.detach())
        self.log("range", self.range.compute()["max"])
        self.log_dict(self.many)
        return loss

    def on_train_epoch_end(self) -> None:
        values = self.many.compute() | self.range.compute() | {"area": self.area.compute()}
        self.seen.append({name: float(value) for name, value in values.items()})


def test_metrics_with_groups_lists_and_wrappers_are_as_without_the_callback() -> None:
    alone, watched = Measured(), Measured()
    watched.load_state_dict(alone.state_dict())
    fit(alone, max_epochs=2)
    fit(watched, HessianTopEigenvalues(every_n_steps=1, **PRECISE), max_epochs=2)
    assert alone.seen == watched.seen
    assert len(alone.area.preds) == len(watched.area.preds)


class Teacher(Plain):
    """Moves parameters that are not trained, as self-distillation does."""

    def __init__(self) -> None:
        super().__init__()
        self.average = copy.deepcopy(self.layers).requires_grad_(False)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        for old, new in zip(self.average.parameters(), self.layers.parameters(), strict=True):
            old.data = 0.9 * old.data + 0.1 * torch.ones_like(new)
        return self.loss(*batch)


def test_a_step_that_moves_frozen_parameters_needs_a_loss() -> None:
    with pytest.raises(InputError, match=r"Teacher.* not trained.* pass loss_fn"):
        fit(Teacher(), HessianTopEigenvalues())
    alone, watched = Teacher(), Teacher()
    fit(alone)
    fit(watched, HessianTopEigenvalues(loss_fn=lambda m, batch: m.loss(*batch), **PRECISE))
    assert torch.equal(alone.average[0].weight, watched.average[0].weight)


class NewTensors(Plain):
    """Makes tensors of the default type, which is that of the Trainer's precision."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(batch[0] @ torch.eye(4), batch[1])


def test_tensors_made_in_the_step_are_double_where_the_trainer_is() -> None:
    module = NewTensors()
    metrics = fit(module, HessianTopEigenvalues(**PRECISE), precision="64-true")
    exact = top(module, lambda m: m.loss(*samples()))
    assert metrics["curvature/hessian_top1"] == pytest.approx(exact, rel=1e-8)


class AnyArguments(Plain):
    def training_step(self, *arguments: Any) -> Any:
        batch, _ = arguments
        return {"loss": self.loss(*batch)}


class OnlyBatch(Plain):
    def training_step(self, batch: Any) -> Any:
        return self.loss(*batch)


@pytest.mark.parametrize("kind", [Plain, AnyArguments, OnlyBatch])
def test_training_steps_of_any_signature(kind: Any) -> None:
    module = kind()
    metrics = fit(module, HessianTopEigenvalues(**PRECISE))
    exact = top(module, lambda m: m.loss(*samples()))
    assert metrics["curvature/hessian_top1"] == pytest.approx(exact, rel=1e-8)


class Record(UserDict):
    """A batch that gives its entries as attributes, as those of transformers do."""

    def __getattr__(self, name: str) -> Any:
        if name == "data":
            raise AttributeError(name)
        return self.data[name]


class Attributes(Plain):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(batch.x, batch.y)


class Pairs(Plain):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        parts, y = batch
        return self.loss(torch.cat([parts["left"], parts["right"]], 1), y)


def as_record(items: list[Any]) -> Any:
    x, y = torch.utils.data.default_collate(items)
    return Record(x=x, y=y)


def as_pair(items: list[Any]) -> Any:
    x, y = torch.utils.data.default_collate(items)
    return {"left": x[:, :2], "right": x[:, 2:]}, y


@pytest.mark.parametrize(("kind", "collate"), [(Attributes, as_record), (Pairs, as_pair)])
@pytest.mark.parametrize("on", ["probe", "batch"])
def test_batches_of_any_kind_count_by_their_examples(kind: Any, collate: Any, on: str) -> None:
    module = kind()
    callback = HessianTopEigenvalues(
        on=on, **(PRECISE | {"batch_size": 15 if on == "probe" else 3})
    )
    metrics = fit(module, callback, loaders=loader(collate_fn=collate))
    x, y = samples()
    used = (x, y) if on == "probe" else (x[-8:], y[-8:])
    exact = top(module, lambda m: m.loss(*used))
    assert metrics["curvature/hessian_top1"] == pytest.approx(exact, rel=1e-8)


class Several(Plain):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(*batch["a"]) + self.loss(*batch["b"])


def test_of_several_loaders_the_current_batch_is_measured_and_a_probe_needs_a_loss() -> None:
    module = Several()
    loaders = {"a": loader(), "b": loader(batch_size=5)}
    with pytest.raises(InputError, match=r"several loaders at once: pass loss_fn.* or on='batch'"):
        fit(module, HessianTopEigenvalues(), loaders=loaders)
    metrics = fit(
        module,
        HessianTopEigenvalues(on="batch", name="batch", **PRECISE),
        HessianTopEigenvalues(loss_fn=lambda m, batch: m.loss(*batch), **PRECISE),
        loaders=loaders,
        max_steps=1,
    )
    x, y = samples()
    exact = top(module, lambda m: m.loss(x[:8], y[:8]) + m.loss(x[:5], y[:5]))
    assert metrics["curvature/hessian_top1/batch"] == pytest.approx(exact, rel=1e-8)
    exact = top(module, lambda m: m.loss(x, y))
    assert metrics["curvature/hessian_top1"] == pytest.approx(exact, rel=1e-8)


class Summed(Plain):
    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(self.layers(x), y, reduction="sum")


@pytest.mark.parametrize("batch_size", [7, 40])
def test_losses_that_sum_over_samples_are_those_of_the_whole_probe(batch_size: int) -> None:
    module = Summed()
    callback = HessianTopEigenvalues(reduction="sum", tolerance=1e-6, batch_size=batch_size)
    metrics = fit(module, callback, max_steps=1, loaders=loader(batch_size=40))
    exact = top(module, lambda m: m.loss(*samples()))
    assert metrics["curvature/hessian_top1"] == pytest.approx(exact, rel=1e-8)


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_the_loss_of_a_scaled_module_says_that_it_sums() -> None:
    # Oracle: the same loss as a mean, times the 40 samples of the probe.
    found = []
    for reduction in ("mean", "sum"):
        loss = CrossEntropyLoss(samples=reduction)
        module = ScaledLightningModule(
            copy.deepcopy(Plain().layers), loss, partial(torch.optim.SGD, lr=0.0)
        ).double()
        callbacks = [
            HessianTopEigenvalues(**PRECISE),
            HessianTopEigenvalues(matrix="gauss_newton", name="gn", **PRECISE),
        ]
        metrics = fit(module, *callbacks, max_steps=1)
        found.append([metrics["curvature/hessian_top1"], metrics["curvature/gauss_newton_top1/gn"]])
    assert found[1] == pytest.approx([40 * value for value in found[0]], rel=1e-8)


class Thawing(Plain):
    """Trains its last layer, then all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers[0].requires_grad_(False)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.layers.parameters(), lr=0.25)

    def on_train_epoch_start(self) -> None:
        self.layers[0].requires_grad_(self.current_epoch > 0)


def test_parameters_that_thaw_or_freeze_on_the_way() -> None:
    module = Thawing()
    metrics = fit(module, HessianTopEigenvalues(overlap=True, **PRECISE), max_epochs=2)
    exact = top(module, lambda m: m.loss(*samples()))
    assert metrics["curvature/hessian_top1"] == pytest.approx(exact, rel=1e-8)


class Still(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.layers.requires_grad_(False)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        return None

    def configure_optimizers(self) -> None:
        return None


@pytest.mark.filterwarnings("ignore:.*configure_optimizers. returned .None")
def test_a_module_without_trained_parameters_is_named() -> None:
    with pytest.raises(InputError, match=r"HessianTopEigenvalues found no parameters .* Still"):
        fit(Still(), HessianTopEigenvalues())


def test_weights_in_half_precision_are_measured_in_single() -> None:
    # The Hessian at the rounded weights and inputs; float32 products err by some 1e-6.
    module = Plain()
    metrics = fit(module, HessianTopEigenvalues(tolerance=1e-4), precision="bf16-true")
    assert module.layers[0].weight.dtype == torch.bfloat16
    x, y = samples()
    exact = top(copy.deepcopy(module).double(), lambda m: m.loss(x.bfloat16().double(), y))
    assert metrics["curvature/hessian_top1"] == pytest.approx(exact, rel=1e-5)


class Normalised(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.layers.insert(1, nn.BatchNorm1d(5).double())


def test_a_last_micro_batch_too_small_for_its_own_statistics_is_said_in_one_line() -> None:
    with pytest.raises(InputError, match="more than one sample.* change size or batch_size"):
        fit(Normalised(), HessianTopEigenvalues(statistics="batch", batch_size=13))


def test_autocast_is_off_unless_asked_for() -> None:
    # In bfloat16 the rounding is 2⁻⁸; Hessians there agree with those in double to some per cent.
    module = Plain().float()
    x, y = samples()
    callbacks = [
        HessianTopEigenvalues(tolerance=1e-4),
        HessianTopEigenvalues(tolerance=1e-4, autocast=True, batch_size=20, name="half"),
    ]
    with torch.autocast("cpu", torch.bfloat16):
        data = DataLoader(TensorDataset(x.float(), y), batch_size=8)
        metrics = fit(module, *callbacks, precision="bf16-mixed", loaders=data)
    exact = top(copy.deepcopy(module).double(), lambda m: m.loss(x, y))
    assert metrics["curvature/hessian_top1"] == pytest.approx(exact, rel=1e-5)
    half = metrics["curvature/hessian_top1/half"]
    assert half == pytest.approx(exact, rel=0.1)
    assert half != pytest.approx(exact, rel=1e-5)


class Validated(Plain):
    """Replaces a buffer in validation, which makes it a tensor of inference mode."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros((), dtype=torch.float64))

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.seen = self.seen + len(batch[0])
        self.loss(*batch)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.loss(*batch) * (1 + 0 * self.seen)


class InsideInference(pl.LightningDataModule):
    """Makes its data when it is asked for a loader, under inference mode."""

    def val_dataloader(self) -> DataLoader:
        x, y = samples()

        def cut(indices: list[int]) -> tuple[Tensor, Tensor]:
            part = slice(indices[0], indices[-1] + 1)
            return x[part], y[part]

        return DataLoader(range(40), batch_size=8, collate_fn=cut)


def test_standalone_validation_with_data_made_in_inference_mode() -> None:
    module = Validated()
    trainer = pl.Trainer(**QUIET, callbacks=[HessianTopEigenvalues(split="val", **PRECISE)])
    trainer.validate(module, datamodule=InsideInference(), verbose=False)
    exact = top(module, lambda m: m.loss(*samples()))
    found = float(trainer.callback_metrics["curvature/hessian_top1"])
    assert found == pytest.approx(exact, rel=1e-8)
    assert float(module.seen) == 40


def test_standalone_validation_without_a_training_set_goes_on_with_a_warning() -> None:
    trainer = pl.Trainer(**QUIET, callbacks=[HessianTopEigenvalues()])
    with pytest.warns(UserWarning, match="no train loader: the Hessian is not measured"):
        trainer.validate(Validated(), loader(), verbose=False)
    assert "curvature/hessian_top1" not in trainer.callback_metrics


class Breaking(Plain):
    """Has weights that are not numbers after the measurements of step 2, until those of step 4."""

    def on_train_batch_end(self, *_: Any) -> None:
        if self.global_step == 2:
            self.layers[0].bias.data.fill_(float("nan"))
        if self.global_step == 4:
            for p in self.layers.parameters():
                p.data.fill_(0.5)


def test_measuring_goes_on_after_weights_that_were_not_numbers(tmp_path: Any) -> None:
    module = Breaking()
    found: list[float] = []

    class Look(pl.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            found.append(float(trainer.callback_metrics["curvature/hessian_top1"]))

    metrics = fit(
        module,
        HessianTopEigenvalues(every_n_steps=1, overlap=True, **PRECISE),
        HessianSpectrum(every_n_steps=1, steps=5, probes=2),
        Look(),
        default_root_dir=str(tmp_path),
    )
    assert np.isfinite(found).tolist() == [True, True, False, False, True]
    assert np.isfinite(metrics["curvature/hessian_trace"])
    rows = (tmp_path / "spectrum.csv").read_text().splitlines()[1:]
    assert {row.split(",")[0] for row in rows} == {"0", "1", "2", "5"}
    assert "nan" not in "".join(rows)


def test_the_current_batch_is_that_of_an_update_when_gradients_accumulate() -> None:
    module = Plain()
    steps: list[int] = []

    class Look(HessianTopEigenvalues):
        def measure(self, trainer: Any, pl_module: Any) -> dict[str, float]:
            steps.append(trainer.global_step)
            return super().measure(trainer, pl_module)

    fit(module, Look(on="batch", every_n_steps=1, **PRECISE), accumulate_grad_batches=2)
    assert steps == [1, 2, 3]
    alone = Plain()
    fit(alone, accumulate_grad_batches=2)
    assert torch.equal(alone.layers[0].weight, module.layers[0].weight)


def test_a_resumed_run_without_a_batch_has_no_current_batch_to_measure(tmp_path: Any) -> None:
    def trainer(**options: Any) -> Any:
        callback = HessianTopEigenvalues(on="batch", every_n_steps=3, **PRECISE)
        return pl.Trainer(**QUIET, callbacks=[callback], **options)

    first = trainer(max_steps=4)
    first.fit(Plain(), loader())
    first.save_checkpoint(tmp_path / "x.ckpt")
    state = torch.load(tmp_path / "x.ckpt", weights_only=True)
    state["callbacks"]["HessianTopEigenvalues"]["measured_at"] = 3  # as before the end of training
    torch.save(state, tmp_path / "x.ckpt")
    second = trainer(max_epochs=3, limit_train_batches=0)
    second.fit(Plain(), loader(), ckpt_path=tmp_path / "x.ckpt", weights_only=True)
    assert "curvature/hessian_top1" not in second.callback_metrics


def test_the_warm_start_saves_products() -> None:
    # 38 dimensions hold few products; a start near the eigenvectors must take fewer still.
    counts: list[list[int]] = []
    for fresh_every in (1, 100):
        counts.append([])

        class Look(pl.Callback):
            def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
                counts[-1].append(int(trainer.callback_metrics["curvature/hessian_products"]))

        callback = HessianTopEigenvalues(3, every_n_steps=1, fresh_every=fresh_every)
        fit(Plain(), callback, Look(), max_epochs=2)
    assert len(counts[1]) == 10
    assert sum(counts[1]) < 0.8 * sum(counts[0])


def test_products_and_the_error_bound_are_logged() -> None:
    # Lanczos in 38 dimensions closes after at most 38 products.
    metrics = fit(Plain(), HessianTopEigenvalues(2, **PRECISE))
    assert 2 <= metrics["curvature/hessian_products"] <= 38
    assert 0 <= metrics["curvature/hessian_error"] <= 1e-6 * metrics["curvature/hessian_top1"]


class Turning(pl.LightningModule):
    """L = ½ (u cos φ + v sin φ)², whose top eigenvector turns by φ = 0.3 a step."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(2))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        angle = torch.tensor(0.3 * self.global_step)
        return 0.5 * (self.w @ torch.stack([angle.cos(), angle.sin()])) ** 2 + 0 * batch[0].sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def test_the_overlap_is_the_squared_cosine_of_the_angle_that_the_eigenvector_turned() -> None:
    # Closed form: cos² 0.3.
    callback = HessianTopEigenvalues(every_n_steps=1, overlap=True, tolerance=1e-5)
    metrics = fit(Turning(), callback)
    expected = float(torch.cos(torch.tensor(0.3)) ** 2)
    assert metrics["curvature/hessian_overlap"] == pytest.approx(expected, rel=1e-4)


def test_compiled_modules_are_measured() -> None:
    module = Plain()
    module.layers = torch.compile(module.layers, backend="eager")
    metrics = fit(torch.compile(module, backend="eager"), HessianTopEigenvalues(**PRECISE))
    exact = top(module.layers._orig_mod, lambda m: F.cross_entropy(m(samples()[0]), samples()[1]))
    assert metrics["curvature/hessian_top1"] == pytest.approx(exact, rel=1e-8)


class L2(Plain):
    l2 = 3.0

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return -0.5 * F.cross_entropy(self.layers(x), y)


def test_the_l2_term_counts_before_the_largest_in_magnitude_is_chosen() -> None:
    module = L2()
    callbacks = [
        HessianTopEigenvalues(2, which=which, include_l2=True, name=which, **PRECISE)
        for which in ("LA", "SA", "LM")
    ]
    metrics = fit(module, *callbacks, max_steps=1)
    values = torch.linalg.eigvalsh(dense(module, lambda m: m.loss(*samples()))) + 3.0
    largest = values[values.abs().argsort(descending=True)][:2]
    for name, expected in (
        ("top{}/LA", values.flip(0)[:2]), ("bottom{}/SA", values[:2]), ("largest{}/LM", largest)
    ):  # fmt: skip
        found = [metrics[f"curvature/hessian_{name.format(i)}"] for i in (1, 2)]
        assert found == pytest.approx(expected.tolist(), rel=1e-8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 5, "max_products": 4}, "max_products must be an integer of at least 5, got 4"),
        ({"reduction": "none"}, "reduction must be one of mean, sum"),
        ({"matrix": "gauss_newton", "loss_fn": F.mse_loss}, "loss_fn .* pass loss_of_outputs"),
        ({"forward": F.mse_loss}, "forward and loss_of_outputs .* pass loss_fn"),
        ({"on": "batch", "size": 10}, "size .* leave it out"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        HessianTopEigenvalues(**arguments)
