"""Noise before activations: where it is, where it is not, and that it comes again."""

import copy
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as lp
import pytest
import pytorch_lightning as pl
import torch
from foreign import Foreign, NewForeign, OldForeign, loaders
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset
from trainers import QUIET

from lightning_lazy import InputError
from lightning_lazy.callbacks import PreActivationNoise


class Recorder(pl.LightningModule):
    """Linear layers of weight 1 around an activation that keeps what it sees."""

    def __init__(self, shape: tuple[int, ...] = (6,), lr: float = 0.0) -> None:
        super().__init__()
        self.shape, self.lr = shape, lr
        self.scale = nn.Parameter(torch.ones(1))
        self.activation = nn.ReLU()
        self.trained: list[Tensor] = []
        self.validated: list[Tensor] = []
        self.activation.register_forward_hook(self.keep)

    def keep(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        (self.trained if self.training else self.validated).append(inputs[0].detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.scale * x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self(batch[0]).square().mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self(batch[0])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
        return {"optimizer": optimizer, "lr_scheduler": schedule}


def record(shape: tuple[int, ...], *callbacks: Any, lr: float = 0.0, **arguments: Any) -> Recorder:
    x = torch.zeros(8, *shape)
    loader = DataLoader(TensorDataset(x), batch_size=4)
    module = Recorder(shape, lr)
    trainer = pl.Trainer(**(QUIET | {"max_epochs": 1} | arguments), callbacks=list(callbacks))
    trainer.fit(module, loader, loader)
    module.logged = dict(trainer.callback_metrics)
    return module


def test_noise_is_gaussian_of_the_given_size_in_training_only() -> None:
    # Oracle: the law of the sample variance of n normal draws, four standard errors.
    module = record((2000,), PreActivationNoise(0.4))
    noise = torch.cat(module.trained)
    assert abs(noise.mean()) < 4 * 0.4 / math.sqrt(noise.numel())
    assert noise.var().item() == pytest.approx(0.16, rel=4 * math.sqrt(2 / noise.numel()))
    kurtosis = (noise / noise.std()).pow(4).mean().item()
    assert kurtosis == pytest.approx(3, abs=4 * math.sqrt(24 / noise.numel()))
    assert all(torch.equal(x, torch.zeros_like(x)) for x in module.validated)
    assert not torch.equal(*module.trained)
    assert module.logged["noise/std"] == 0.4


def test_two_instances_have_independent_noise() -> None:
    # Oracle: variances add up; four standard errors of the sample variance.
    noise = record((2000,), PreActivationNoise(0.3), PreActivationNoise(0.4, name="more")).trained
    variance = torch.cat(noise).var().item()
    assert variance == pytest.approx(0.25, rel=4 * math.sqrt(2 / 16_000))


def test_noise_can_be_shared_along_axes() -> None:
    noise = record((3, 5, 5), PreActivationNoise(1.0, shared_axes=[0, 1])).trained[0]
    assert torch.equal(noise, noise[:1, :1].expand_as(noise))
    assert noise[0, 0].unique().numel() == 25
    alone = record((3, 5, 5), PreActivationNoise(1.0)).trained[0]
    assert alone.unique().numel() == alone.numel()


def test_training_without_noise_is_plain_training_to_the_last_bit() -> None:
    torch.manual_seed(1)
    plain = OldForeign()
    noiseless, noisy = copy.deepcopy(plain), copy.deepcopy(plain)
    for module, callbacks in (
        (plain, []),
        (noiseless, [PreActivationNoise(0.0)]),
        (noisy, [PreActivationNoise(0.1)]),
    ):
        torch.manual_seed(0)
        pl.Trainer(**QUIET, max_epochs=2, callbacks=callbacks).fit(module, *loaders())
    # With noise the global generator is as it was: dropout and shuffling are those of the others.
    assert torch.equal(plain.layers[0].weight, noiseless.layers[0].weight)
    assert not torch.equal(plain.layers[0].weight, noisy.layers[0].weight)


@pytest.mark.parametrize(("package", "kind"), [(pl, OldForeign), (lp, NewForeign)])
def test_nothing_is_left_in_the_module(package: Any, kind: Any) -> None:
    module = kind()
    keys = list(module.state_dict())
    package.Trainer(**QUIET, max_epochs=1, callbacks=[PreActivationNoise(0.3)]).fit(
        module, *loaders()
    )
    assert list(module.state_dict()) == keys
    assert not any(part._forward_pre_hooks for part in module.modules())


class Failing(Foreign, pl.LightningModule):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        raise RuntimeError("on purpose")


def test_an_error_in_training_takes_the_hooks_away() -> None:
    module = Failing()
    with pytest.raises(RuntimeError, match="on purpose"):
        pl.Trainer(**QUIET, max_epochs=1, callbacks=[PreActivationNoise(0.3)]).fit(
            module, *loaders()
        )
    assert not any(part._forward_pre_hooks for part in module.modules())


def test_the_schedule_counts_full_epochs_or_follows_the_learning_rate() -> None:
    def sizes(callback: PreActivationNoise) -> list[float]:
        trained = record((50_000,), callback, lr=1e-9, max_epochs=3).trained
        return [noise.std().item() for noise in trained[::2]]

    # Oracle: the formulas; 200,000 normal draws give their size to 0.2%, the margin is 1%.
    steps = sizes(PreActivationNoise(0.4, "step", factor=0.1, milestones=[2]))
    assert steps == pytest.approx([0.4, 0.4, 0.04], rel=0.01)
    assert sizes(PreActivationNoise(0.4, "lr")) == pytest.approx([0.4, 0.2, 0.1], rel=0.01)
    by_update = sizes(PreActivationNoise(1.0, "exponential", factor=0.5, interval="step"))
    assert by_update == pytest.approx([1.0, 0.25, 0.0625], rel=0.01)


def test_a_resumed_run_has_the_noise_of_an_uninterrupted_one(tmp_path: Path) -> None:
    def run(epochs: int, ckpt: Path | None = None) -> tuple[OldForeign, pl.Trainer]:
        torch.manual_seed(1)
        module = OldForeign()
        module.layers[3].p = 0.0  # dropout draws from the global generator, which is not resumed
        trainer = pl.Trainer(
            **QUIET, max_epochs=epochs, callbacks=[PreActivationNoise(0.2, "cosine", total=5)]
        )
        train = DataLoader(loaders()[0].dataset, batch_size=8)
        trainer.fit(module, train, loaders()[1], ckpt_path=ckpt)
        return module, trainer

    whole, _ = run(4)
    _, first = run(2)
    first.save_checkpoint(tmp_path / "half.ckpt")
    saved = torch.load(tmp_path / "half.ckpt", weights_only=True)
    assert saved["callbacks"]["PreActivationNoise"]["batches"] == 10
    resumed, _ = run(4, tmp_path / "half.ckpt")
    assert torch.equal(whole.layers[0].weight, resumed.layers[0].weight)
    assert torch.equal(whole.layers[4].weight, resumed.layers[4].weight)


def drawn(seed: int, rank: int, batch: int) -> Tensor:
    """Return what an activation sees of zeros in a batch, by the hooks called by hand."""
    callback, module = PreActivationNoise(1.0, seed=seed), Recorder()
    optimizers = [torch.optim.SGD(module.parameters(), lr=0.1)]
    trainer: Any = SimpleNamespace(
        global_rank=rank,
        global_step=0,
        current_epoch=0,
        optimizers=optimizers,
        train_dataloader=None,
        loggers=[],
        callback_metrics={},
    )
    callback.setup(trainer, module, "fit")
    callback.on_train_start(trainer, module)
    for index in range(batch + 1):
        callback.on_train_batch_start(trainer, module, None, index)
    module(torch.zeros(50, 6))
    callback.teardown(trainer, module, "fit")
    return module.trained[0]


def test_seeds_ranks_and_batches_have_noise_of_their_own() -> None:
    draws = [drawn(0, 0, 0), drawn(1, 0, 0), drawn(0, 1, 0), drawn(0, 0, 1)]
    assert torch.equal(draws[0], drawn(0, 0, 0))
    # Oracle: independent normal draws; the correlation of 300 pairs scatters by 0.06.
    correlations = torch.corrcoef(torch.stack([one.flatten() for one in draws]))
    assert (correlations - torch.eye(4)).abs().max() < 0.25


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"std": -0.1}, "std must be finite and at least 0, got -0.1"),
        ({"std": 0.1, "schedule": "linear"}, "schedule must be one of"),
        ({"std": 0.1, "schedule": "step"}, "needs factor and milestones"),
        ({"std": 0.1, "interval": "batch"}, "interval must be one of epoch, step"),
    ],
)
def test_wrong_arguments_are_said_when_it_is_built(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PreActivationNoise(**arguments)


def test_a_module_without_activations_is_refused() -> None:
    trainer = pl.Trainer(**QUIET, max_epochs=1, callbacks=[PreActivationNoise(0.1)])
    with pytest.raises(InputError, match="no activation modules"):
        trainer.fit(OldForeign(nn.Identity()), *loaders())


def test_compiled_modules_are_refused() -> None:
    module = OldForeign()
    module.layers.compile(backend="eager")
    trainer = pl.Trainer(**QUIET, max_epochs=1, callbacks=[PreActivationNoise(0.1)])
    with pytest.raises(InputError, match="train it without torch.compile"):
        trainer.fit(module, *loaders())
    whole = torch.compile(OldForeign(), backend="eager")
    trainer = pl.Trainer(**QUIET, max_epochs=1, callbacks=[PreActivationNoise(0.1)])
    with pytest.raises(InputError, match="is compiled"):
        trainer.fit(whole, *loaders())


class Other(Recorder):
    """Keeps nothing, and may call its activation otherwise or have no optimizer."""

    def __init__(self, how: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.how = how
        self.automatic_optimization = how != "no optimizer"

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "by name":
            return self.activation(input=self.scale * x)
        if self.how == "again":
            return checkpoint(self.activation, self.scale * x, use_reentrant=False)
        return super().forward(x)

    def keep(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.trained.append(output.detach().clone())

    def configure_optimizers(self) -> Any:
        return super().configure_optimizers() if self.automatic_optimization else None


def fit_other(how: str, noise: PreActivationNoise, **arguments: Any) -> Other:
    module = Other(how, **arguments)
    loader = DataLoader(TensorDataset(torch.ones(4, 6)), batch_size=4)
    pl.Trainer(**QUIET, max_epochs=1, callbacks=[noise]).fit(module, loader, loader)
    return module


@pytest.mark.filterwarnings("ignore:.*configure_optimizers. returned .None")
def test_inputs_by_name_and_modules_without_an_optimizer_are_as_good() -> None:
    outputs = [
        fit_other(how, PreActivationNoise(0.5)).trained[0]
        for how in ("plain", "by name", "no optimizer")
    ]
    assert not torch.equal(outputs[0], torch.ones(4, 6))
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


@pytest.mark.filterwarnings("ignore:.*configure_optimizers. returned .None")
@pytest.mark.parametrize(
    ("how", "schedule", "lr", "message"),
    [
        ("again", "constant", 0.1, "can't repeat the noise of activations"),
        ("no optimizer", "lr", 0.1, "needs an optimizer, the module has none"),
        ("plain", "lr", 0.0, "divides by the initial learning rate, which is 0"),
    ],
)
def test_what_would_go_wrong_in_silence_is_refused(
    how: str, schedule: Any, lr: float, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        fit_other(how, PreActivationNoise(0.5, schedule), lr=lr)
