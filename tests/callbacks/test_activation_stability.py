"""ActivationStability on nets with poolings, in-place activations, compiled parts, BatchNorm."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from trainers import QUIET

from lightning_lazy import InputError
from lightning_lazy.callbacks import ActivationStability


class Foreign(pl.LightningModule):
    """A classifier of 6×6 images that knows nothing of this project."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(3))
        self.layers(torch.zeros(2, 2, 6, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.3)


def pooled(in_place: bool = False) -> Foreign:
    torch.manual_seed(2)
    return Foreign(
        nn.LeakyReLU(inplace=in_place),
        nn.Conv2d(2, 5, 3, padding=1),
        nn.ReLU(inplace=in_place),
        nn.MaxPool2d(2),
    )


def loader() -> DataLoader:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(40, 2, 6, 6, generator=generator)
    return DataLoader(TensorDataset(x, torch.randint(3, (40,), generator=generator)), batch_size=8)


def fit(module: Foreign, *callbacks: Any) -> dict[str, float]:
    trainer = pl.Trainer(**QUIET, max_epochs=3, callbacks=list(callbacks))
    trainer.fit(module, loader(), loader())
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_signs_and_winners_equal_a_plain_float_computation() -> None:
    # Oracle: signs, and argmax over explicit windows, on the 40 images of the loader.
    module = pooled()
    start = copy.deepcopy(module)
    metrics = fit(module, ActivationStability(pooling=True, batch_size=15))
    x = loader().dataset.tensors[0]
    same = [torch.ones(40, 72, dtype=torch.double)]  # the first activation sees the images
    before, after = (one.layers[:2](x) for one in (start, module))
    same.append(((before > 0) == (after > 0)).double().flatten(1))
    winners = [
        z.relu().unfold(2, 2, 2).unfold(3, 2, 2).flatten(4).argmax(4) for z in (before, after)
    ]
    same.append((winners[0] == winners[1]).double().flatten(1))
    layers = [layer.mean().item() for layer in same]
    name = "lazy/activation_stability"
    logged = [metrics[f"{name}/layers.{i}"] for i in (0, 2, 3)]
    # Metrics are kept in single precision.
    assert logged == pytest.approx(layers, abs=1e-6)
    assert metrics[name] == pytest.approx(torch.cat(same, 1).mean().item(), abs=1e-6)
    assert metrics[f"{name}_layers"] == pytest.approx(sum(layers) / 3, abs=1e-6)
    assert 0.3 < layers[1] < 0.999
    assert 0.3 < layers[2] < 0.999


def test_an_in_place_net_is_measured_like_its_twin_with_one_warning_and_trains_as_before() -> None:
    # Its first layer would overwrite the probe set, which is kept from one measurement to the next.
    expected = fit(pooled(), ActivationStability(every_n_steps=2, pooling=True))
    alone, watched = pooled(in_place=True), pooled(in_place=True)
    fit(alone)
    with pytest.warns(UserWarning, match="in-place activations layers.0, layers.2 out of place"):
        metrics = fit(watched, ActivationStability(every_n_steps=2, pooling=True))
    assert metrics == expected
    assert [part.inplace for part in watched.modules() if hasattr(part, "inplace")] == [True] * 2
    for name, value in alone.state_dict().items():
        assert torch.equal(value, watched.state_dict()[name]), name


def test_a_net_that_is_compiled_inside_a_module_is_measured_like_its_twin() -> None:
    expected = fit(pooled(), ActivationStability())
    module = pooled()
    module.layers = torch.compile(module.layers, backend="eager")
    metrics = fit(module, ActivationStability())
    name = "lazy/activation_stability"
    assert metrics[name] == expected[name] < 1
    assert metrics[f"{name}/layers._orig_mod.2"] == expected[f"{name}/layers.2"]


def test_pooling_in_a_net_without_poolings_is_said_before_training() -> None:
    with pytest.raises(InputError, match="Foreign has no nn.MaxPool2d modules"):
        fit(Foreign(nn.ReLU()), ActivationStability(pooling=True))


def rank(number: int, world_size: int, module: Foreign) -> Any:
    """What the callback asks of a Trainer in one of several processes."""
    return SimpleNamespace(
        global_rank=number,
        world_size=world_size,
        global_step=0,
        lightning_module=module,
        datamodule=None,
        val_dataloaders=loader(),
        precision_plugin=SimpleNamespace(convert_input=lambda batch: batch),
        strategy=SimpleNamespace(reduce_boolean_decision=lambda decision: decision),
    )


def batch_norm_net() -> Foreign:
    return Foreign(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5, track_running_stats=False), nn.ReLU())


def initial(number: int, world_size: int, module: Foreign, state: Any = None) -> Any:
    callback = ActivationStability(batch_size=10, size=35)
    if state is not None:
        callback.load_state_dict(state)
    callback.prepare(rank(number, world_size, module), module)
    return callback.state_dict()


def test_batches_whose_samples_are_mixed_go_to_processes_whole() -> None:
    # Oracle: one process on the same batches. BatchNorm normalises by the statistics of a batch, so
    # that processes with other batches would see other signs.
    module = batch_norm_net()
    whole = initial(0, 1, module)["initial"]["bits"]["layers.2"]
    parts = [initial(i, 3, module)["initial"]["bits"]["layers.2"] for i in range(3)]
    assert torch.equal(torch.cat(parts), whole)
    assert sorted(len(part) for part in parts) == [5, 10, 20]
    # And after a resume on other processes:
    state = initial(0, 1, module)
    parts = [initial(i, 2, module, state)["initial"]["bits"]["layers.2"] for i in range(2)]
    assert torch.equal(torch.cat(parts), whole)


def test_a_process_without_a_batch_is_said_before_training() -> None:
    with pytest.raises(InputError, match="each of 5 processes a batch, got too few batches of 10"):
        initial(4, 5, batch_norm_net())
