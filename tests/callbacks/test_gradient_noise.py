"""Noise on gradients. Oracles: χ² intervals, equation 3.3 of Li, Wei & Ma 2019, plain runs."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as lp
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from trainers import QUIET

from lightning_lazy import InputError, read_checkpoint
from lightning_lazy.callbacks import GradientNoise
from lightning_lazy.theory import gradient_noise_std, noise_variance

SIZE = 20_000


class Still:
    """A module whose own gradient is zero, so that its weights show the noise alone."""

    def __init__(self, lr: float = 1.0, l2: float = 0.0, tau_0: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(tau_0 * torch.randn(SIZE))
        self.other = nn.Parameter(torch.zeros(3))
        self.lr, self.l2 = lr, l2

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return 0 * (self.weight.sum() + self.other.sum())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr, weight_decay=self.l2)


class OldStill(Still, pl.LightningModule):
    pass


class NewStill(Still, lp.LightningModule):
    pass


def fit(module: Any, *noises: Any, package: Any = pl, **arguments: Any) -> Any:
    options = QUIET | {"max_steps": 1, "max_epochs": -1, "callbacks": list(noises)} | arguments
    trainer = package.Trainer(**options)
    trainer.fit(module, DataLoader(torch.zeros(4, 1)))
    return module


def is_chi_square(values: Tensor, std: float) -> bool:
    """Whether Σ v²/std² is within four standard deviations of its mean."""
    count = values.numel()
    statistic = float(values.detach().double().square().sum()) / std**2
    return abs(statistic - count) < 4 * math.sqrt(2 * count)


@pytest.mark.parametrize(("package", "kind"), [(pl, OldStill), (lp, NewStill)])
def test_an_update_carries_noise_of_the_given_size(package: Any, kind: Any) -> None:
    module = fit(kind(lr=0.5), GradientNoise(0.2), package=package)
    assert is_chi_square(module.weight, 0.5 * 0.2)
    assert abs(float(module.weight.detach().mean())) < 4 * 0.1 / math.sqrt(SIZE)
    assert module.other.detach().abs().min() > 0


def test_updates_carry_noise_of_their_own_and_it_is_added_once_an_update() -> None:
    steps = 9
    module = fit(OldStill(), GradientNoise(0.2), max_steps=steps)
    assert is_chi_square(module.weight, 0.2 * math.sqrt(steps))
    accumulated = fit(OldStill(), GradientNoise(0.2), max_steps=steps, accumulate_grad_batches=2)
    assert torch.equal(module.weight, accumulated.weight)


def test_noise_and_weight_decay_keep_the_variance_of_the_start() -> None:
    tau_0, lr, l2, steps = 0.5, 10.0, 0.01, 40
    std = gradient_noise_std(tau_0, lr, l2)
    torch.manual_seed(0)
    module = OldStill(lr, l2, tau_0)
    start = module.weight.detach().clone()
    fit(module, GradientNoise(std), max_steps=steps)
    assert is_chi_square(module.weight, tau_0)
    # 0.9^40 of the start is left.
    correlation = float(torch.corrcoef(torch.stack([start, module.weight.detach()]))[0, 1])
    assert abs(correlation - 0.9**steps) < 4 / math.sqrt(SIZE)
    # At a tenth of the rate the same noise has less weight.
    torch.manual_seed(0)
    slow = fit(OldStill(lr / 10, l2, tau_0), GradientNoise(std), max_steps=steps)
    variance = noise_variance(tau_0, std, lr=lr / 10, l2=l2, steps=steps)
    assert is_chi_square(slow.weight, math.sqrt(variance))
    assert variance < 0.55 * tau_0**2


def test_the_schedule_counts_updates_and_is_logged() -> None:
    seen = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            seen.append(float(trainer.callback_metrics["noise/gradient_std"]))

    noise = GradientNoise(0.2, "step", factor=0.0, milestones=[2])
    module = fit(OldStill(), noise, Watch(), max_steps=5)
    assert seen == [0.2, 0.2, 0.0, 0.0, 0.0]
    assert is_chi_square(module.weight, 0.2 * math.sqrt(2))


def test_only_the_chosen_parameters_get_noise() -> None:
    module = fit(OldStill(), GradientNoise(0.2, parameters=["oth*"]))
    assert not module.weight.any()
    assert module.other.all()
    frozen = OldStill()
    frozen.other.requires_grad_(False)
    fit(frozen, GradientNoise(0.2))
    assert not frozen.other.any()
    with pytest.raises(InputError, match=r"no trained parameter is called net\.\*: choose from w"):
        fit(OldStill(), GradientNoise(0.2, parameters=["net.*"]))
    with pytest.raises(InputError, match="no trained parameter is called 1: choose from w"):
        fit(OldStill(), GradientNoise(0.2, parameters=[1]))


def test_seeds_and_names_make_other_noise() -> None:
    one, same, other = (fit(OldStill(), GradientNoise(0.2, seed=seed)).weight for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    both = fit(OldStill(), GradientNoise(0.2), GradientNoise(0.2, name="more")).weight
    assert is_chi_square(both, 0.2 * math.sqrt(2))


def test_the_global_generator_is_left_alone() -> None:
    states = []
    for noises in ([], [GradientNoise(0.2)]):
        torch.manual_seed(5)
        fit(OldStill(), *noises, max_steps=3)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_each_of_several_optimizers_steps_with_noise_for_its_own_parameters() -> None:
    class Manual(OldStill):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Tensor, batch_idx: int) -> None:
            first, second = self.optimizers()
            self.manual_backward(super().training_step(batch, batch_idx))
            first.step()
            self.after_first = self.other.detach().clone()
            second.step()

        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD([p], lr=1.0) for p in (self.weight, self.other)]

    module = fit(Manual(), GradientNoise(0.2), max_steps=2)
    assert is_chi_square(module.weight, 0.2)
    assert not module.after_first.any()
    assert module.other.all()


def test_gradients_are_clipped_after_the_noise() -> None:
    module = fit(OldStill(), GradientNoise(5.0), gradient_clip_val=0.1)
    length = math.hypot(*(float(p.detach().norm()) for p in module.parameters()))
    assert length == pytest.approx(0.1, rel=1e-4)


def test_a_resumed_run_has_the_noise_of_an_uninterrupted_one(train: Callable[..., str]) -> None:
    arguments = (
        "data.n_train=60", "data.n_val=30", "model.width=8", "batch_size=20", "lr=0.1",
        "+callbacks.noise._target_=lightning_lazy.callbacks.GradientNoise",
        "+callbacks.noise.std=0.1", "+callbacks.noise.schedule=exponential",
        "+callbacks.noise.factor=0.9",
    )  # fmt: skip
    train(*arguments, "name=whole", "max_epochs=4")
    train(*arguments, "name=resumed", "max_epochs=2")
    (checkpoint,) = Path("runs/resumed").glob("*/checkpoints/last.ckpt")
    train(f"ckpt_path={checkpoint}", "max_epochs=4")
    one, two = (
        read_checkpoint(next(Path("runs", name).glob("*/checkpoints/last.ckpt")))["state_dict"]
        for name in ("whole", "resumed")
    )
    for name, value in one.items():
        assert torch.equal(value, two[name]) if torch.is_tensor(value) else value == two[name], name
    rows = [pd.read_csv(next(Path("runs", n).glob("*/metrics.csv"))) for n in ("whole", "resumed")]
    # Either run ends with a verdict on its health; everything else is the same.
    own = [name for name in rows[0] if not name.startswith("health/")]
    pd.testing.assert_frame_equal(rows[0][own], rows[1][own], check_exact=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"std": -1.0}, "std must be finite and at least 0, got -1"),
        ({"std": 1.0, "schedule": "linear"}, "schedule must be one of constant, step"),
        ({"std": 1.0, "schedule": "step"}, "the schedule step needs factor and milestones"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GradientNoise(**arguments)
