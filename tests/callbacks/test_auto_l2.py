"""AutoL2 in real Trainers. Oracles: the algorithm by hand, plain forward passes, plain decay."""

import copy
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as lp
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from trainers import QUIET

from lightning_lazy import InputError, RunFiles, ScaledLightningModule
from lightning_lazy.callbacks.auto_l2 import AutoL2
from lightning_lazy.data import ImageDataModule, TeacherStudentDataModule
from lightning_lazy.losses import NormalizedSoftmaxLoss, SquaredLoss
from lightning_lazy.models import FullyConnected
from lightning_lazy.optim import ScaledAdam, StepDecay

pytestmark = pytest.mark.filterwarnings("ignore:AutoL2 may shrink")
SGD = partial(torch.optim.SGD, lr=0.05)


class Foreign:
    """A classifier that knows nothing of this project; its losses can be scripted by step."""

    def __init__(self, optimizer: Any = SGD, l2: float | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.4)
        )
        self.out = nn.Linear(16, 3)
        self.optimizer = optimizer
        if l2 is not None:
            self.l2 = l2

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layers(x))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("own", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return self.optimizer(self.parameters())


class OldForeign(Foreign, pl.LightningModule):
    pass


class NewForeign(Foreign, lp.LightningModule):
    pass


class Explicit(OldForeign):
    """Adds the L2 term to its loss by itself."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        norm = sum(p.square().sum() for p in self.parameters())
        return super().training_step(batch, batch_idx) + 0.5 * self.l2 * norm


def loader(samples: int = 40, batch_size: int = 8) -> DataLoader:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(samples, 6, generator=generator)
    y = torch.randint(3, (samples,), generator=generator)
    return DataLoader(TensorDataset(x, y), batch_size=batch_size)


class Recorder(pl.Callback):
    """Notes every row and the coefficients in force at every update."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, float]] = {}
        self.in_force: list[tuple[list[float], float | None]] = []

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        decays = [group["weight_decay"] for group in optimizer.param_groups]
        self.in_force.append((decays, getattr(module, "l2", None)))

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        values = {name: value for name, value in trainer.callback_metrics.items() if "l2/" in name}
        self.rows[trainer.global_step] = values


def fit(module: Any, *callbacks: Any, data: Any = None, **arguments: Any) -> Recorder:
    torch.manual_seed(0)
    recorder = Recorder()
    trainer = pl.Trainer(
        **(QUIET | {"max_epochs": 4} | arguments), callbacks=[*callbacks, recorder]
    )
    trainer.fit(module, data if data is not None else loader())
    return recorder


def scripted(values: Sequence[float]) -> Callable[..., Tensor]:
    """Return a loss_fn that gives one value after the other; the first is asked for before 1."""
    rest = iter([values[0], *values])
    return lambda module, batch: torch.tensor(next(rest))


def no_error(module: Any, batch: Any) -> float:
    return 0.0


def driven(losses: Sequence[float], **options: Any) -> AutoL2:
    """Return an AutoL2 whose measurements are given."""
    return AutoL2(loss_fn=scripted(losses), error_fn=no_error, size=8, **options)


def test_weight_decay_follows_the_algorithm(capsys: pytest.CaptureFixture[str]) -> None:
    # Decays at 15, and at 30, the first measurement after 15 + 0.1/0.01.
    auto = driven([1, 2, 2, 2, 2, 2, 2, 2])
    recorder = fit(OldForeign(), auto, max_epochs=8)
    decays = [decay for (decay,), _ in recorder.in_force]
    assert decays == pytest.approx([0.1] * 15 + [0.01] * 15 + [0.001] * 10)
    assert recorder.rows[1] == {"l2/coefficient": 0.1}
    assert recorder.rows[15] == {
        "l2/coefficient": pytest.approx(0.01), "l2/loss": 2.0, "l2/error": 0.0, "l2/decay": 1,
    }  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "AutoL2: l2 0.1 → 0.01 after 15 updates, since the training loss rose (loss 2, error 0)",
        "AutoL2: l2 0.01 → 0.001 after 30 updates, since the training loss rose (loss 2, error 0)",
    ]


def test_decays_by_the_error_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    errors = scripted([0.1, 0.2, 0.2, 0.2])
    auto = AutoL2(
        loss_fn=lambda module, batch: torch.tensor(1.0), error_fn=errors, size=8, name="mine"
    )
    recorder = fit(OldForeign(), auto)
    assert recorder.rows[15]["l2/decay/mine"] == 2
    assert auto.state_key == "AutoL2[mine]"
    assert "since the training error rose" in capsys.readouterr().out


def module(optimizer: Any = SGD, **options: Any) -> ScaledLightningModule:
    torch.manual_seed(0)
    net = FullyConnected(64, 16, 2, 10)
    return ScaledLightningModule(
        net, NormalizedSoftmaxLoss(), optimizer, **({"centering": "none"} | options)
    )


def digits(**options: Any) -> ImageDataModule:
    return ImageDataModule("digits", **({"n_train": 60, "n_val": 40, "batch_size": 20} | options))


@pytest.mark.parametrize("alpha", [1.0, 3.0])
def test_the_explicit_l2_of_a_scaled_module_is_steered_and_left_out_of_the_loss(
    alpha: float,
) -> None:
    auto = AutoL2(0.02, period=2)
    own = module(alpha=alpha, centering="subtract")
    recorder = fit(own, auto, data=digits(), max_epochs=1, max_steps=2)
    assert [l2 for _, l2 in recorder.in_force] == [0.02, 0.02]
    assert recorder.in_force[0][0] == [0]
    # Oracle: a plain pass over the training set; single precision.
    data = digits()
    data.setup()
    x, y = data.transform(data.train_set.__getitems__(range(60)))
    output = own(x)
    loss = nn.functional.cross_entropy(output, y) / 20 / alpha**2
    assert recorder.rows[2]["l2/loss"] == pytest.approx(loss.item(), rel=1e-5)
    wrong = (output.argmax(1) != y).double().mean().item()
    assert recorder.rows[2]["l2/error"] == pytest.approx(wrong, abs=1e-12)


def test_an_explicit_l2_of_a_foreign_module_is_found_by_its_loss() -> None:
    auto = AutoL2(0.03, period=4, size=24, batch_size=12)
    own = Explicit(l2=0.5)
    recorder = fit(own, auto, max_epochs=1, max_steps=4)
    assert recorder.in_force == [([0], 0.03)] * 4
    # Oracle: plain passes in batches of the subset, batch statistics, no dropout, no L2.
    own.train()
    own.layers[3].eval()
    for part in auto.probe._batches:
        assert len(part[0]) == 12
    parts = [(own(x), y) for x, y in auto.probe._batches]
    losses = [nn.functional.cross_entropy(output, y).item() for output, y in parts]
    errors = [(output.argmax(1) != y).float().mean().item() for output, y in parts]
    assert recorder.rows[4]["l2/loss"] == pytest.approx(sum(losses) / 2, rel=1e-6)
    assert recorder.rows[4]["l2/error"] == pytest.approx(sum(errors) / 2, rel=1e-6)


def test_an_l2_attribute_that_only_became_weight_decay_leaves_it_to_the_optimizer() -> None:
    own = OldForeign(partial(torch.optim.SGD, lr=0.05, weight_decay=0.5), l2=0.5)
    recorder = fit(own, AutoL2(0.04))
    assert recorder.in_force[0] == ([0.04], 0.5)
    assert own.l2 == 0.5


def test_groups_keep_their_ratios_and_those_without_decay_have_none() -> None:
    def optimizer(params: Any) -> Any:
        weights, biases, *rest = params
        groups = [
            {"params": [weights], "weight_decay": 2e-3},
            {"params": [biases], "weight_decay": 0.0},
            {"params": rest, "weight_decay": 5e-4},
        ]
        return torch.optim.SGD(groups, lr=0.05)

    recorder = fit(OldForeign(optimizer), driven([1, 2, 2, 2]))
    assert recorder.in_force[0][0] == pytest.approx([0.1, 0.0, 0.025])
    assert recorder.in_force[15][0] == pytest.approx([0.01, 0.0, 0.0025])


class Unfreeze(pl.Callback):
    """Gives the optimizer another group on the way, as fine-tuning does."""

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        if trainer.current_epoch == 1:
            extra = {"params": [nn.Parameter(torch.zeros(1))], "weight_decay": 1e-3}
            trainer.optimizers[0].add_param_group(extra)


def test_groups_that_come_later_take_part_from_the_next_decay_on() -> None:
    own = OldForeign(partial(torch.optim.SGD, lr=0.05, weight_decay=2e-3))
    recorder = fit(own, Unfreeze(), driven([1, 2, 2, 2]))
    assert recorder.in_force[15][0] == pytest.approx([0.01, 0.005])


@pytest.mark.parametrize("kind", ["Adam", "RMSprop", "NAdam", "Adagrad"])
def test_any_optimizer_with_coupled_decay_will_do(kind: str) -> None:
    recorder = fit(OldForeign(partial(getattr(torch.optim, kind), lr=0.01)), AutoL2(0.02))
    assert recorder.in_force[0] == ([0.02], None)


def test_training_is_that_with_the_same_constant_weight_decay_to_the_last_bit() -> None:
    # λ stays at its start: all that AutoL2 does beside setting it is to measure.
    alone = OldForeign(partial(torch.optim.SGD, lr=0.05, weight_decay=0.03))
    watched = OldForeign()
    fit(alone)
    fit(watched, AutoL2(0.03, period=3, min_l2=0.03))
    fit(other := OldForeign(), AutoL2(0.03, on="batch", period=2, min_l2=0.03))
    state = alone.state_dict()
    for name, value in [*watched.state_dict().items(), *other.state_dict().items()]:
        assert torch.equal(value, state[name]), name


def test_the_current_batch_can_be_what_is_measured_on() -> None:
    own = OldForeign()
    recorder = fit(own, AutoL2(on="batch", period=4), max_epochs=1, max_steps=4)
    x, y = list(loader())[3]
    own.train()
    own.layers[3].eval()
    loss = nn.functional.cross_entropy(own(x), y).item()
    assert recorder.rows[4]["l2/loss"] == pytest.approx(loss, rel=1e-6)


class Stream(IterableDataset):
    """A set of unknown length."""

    def __iter__(self) -> Any:
        yield from loader().dataset


def test_a_stream_can_be_measured_on_its_batches_only() -> None:
    stream = DataLoader(Stream(), batch_size=8)
    with pytest.raises(InputError, match="no train loader with a dataset of known length"):
        fit(OldForeign(), AutoL2(), data=stream)
    assert 5 in fit(OldForeign(), AutoL2(on="batch"), data=stream, max_epochs=2).rows


def test_updates_are_counted_where_gradients_are_accumulated() -> None:
    auto = driven([1, 2, 2, 2, 2, 2], period=2)
    recorder = fit(OldForeign(), auto, max_epochs=4, accumulate_grad_batches=2)
    # 12 updates; measured at 2, 4, 6, …: decay at 6, then not before 6 + 10.
    assert [decay for (decay,), _ in recorder.in_force] == pytest.approx([0.1] * 6 + [0.01] * 6)


def test_it_works_together_with_a_schedule_of_the_learning_rate() -> None:
    own = module(SGD, schedule=partial(StepDecay, factor=0.5, every=4), schedule_interval="step")
    auto = driven([1, 2, 2, 2])
    recorder = fit(own, auto, data=digits(), max_epochs=6)
    assert [l2 for _, l2 in recorder.in_force] == pytest.approx([0.1] * 15 + [0.01] * 3)
    assert own.trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.05 * 0.5**4)


def test_under_the_other_lightning_package() -> None:
    auto, own = driven([1, 2, 2, 2]), NewForeign()
    trainer = lp.Trainer(**(QUIET | {"max_epochs": 4}), callbacks=[auto])
    trainer.fit(own, loader())
    assert trainer.callback_metrics["l2/coefficient"] == pytest.approx(0.01)


class Manual(OldForeign):
    """Steps its optimizer itself."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        nn.functional.cross_entropy(self(batch[0]), batch[1]).backward()
        optimizer.step()


def test_manual_optimisation_needs_the_loss() -> None:
    with pytest.raises(InputError, match=r"pass loss_fn=function\(module, batch\)"):
        fit(Manual(), AutoL2())
    recorder = fit(Manual(), driven([1, 2, 2, 2]))
    assert recorder.rows[15]["l2/coefficient"] == pytest.approx(0.01)


class Ops(TorchDispatchMode):
    """Notes every operation on tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


class Watched(AutoL2):
    """Notes at which steps its hooks touch a tensor: only so could they wait for a device."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.touched: set[int] = set()

    def on_train_batch_start(self, trainer: Any, *rest: Any) -> None:
        with Ops() as ops:
            super().on_train_batch_start(trainer, *rest)
        if ops.seen:
            self.touched.add(trainer.global_step)

    def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
        with Ops() as ops:
            super().on_train_batch_end(trainer, *rest)
        if ops.seen:
            self.touched.add(trainer.global_step)


def test_no_tensor_is_touched_between_measurements() -> None:
    auto = Watched(period=4)
    fit(OldForeign(), auto, max_epochs=3)
    assert auto.touched == {0, 4, 8, 12}


class Stop(pl.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["module", "optimizer"])
@pytest.mark.parametrize("step", [7, 16, 21])
def test_a_resumed_run_is_the_same_to_the_last_bit(tmp_path: Path, where: str, step: int) -> None:
    # Losses that rise with λ‖θ‖: a large learning rate, so that decays come.
    decay = 0.0 if where == "module" else 1e-3
    optimizer = partial(torch.optim.SGD, lr=0.5, momentum=0.9, weight_decay=decay)

    def run(folder: Path, *more: Any, ckpt_path: Path | None = None) -> Any:
        own, auto = module(optimizer), AutoL2(0.3, period=2, refractory=2.0)
        trainer = pl.Trainer(
            **(QUIET | {"max_epochs": 12}),
            callbacks=[RunFiles(str(folder), every_n_steps=5), auto, *more],
        )
        trainer.fit(own, datamodule=digits(), ckpt_path=ckpt_path, weights_only=True)
        return own.state_dict(), own.l2, auto._controller, auto._setter

    whole = run(tmp_path / "whole")
    assert whole[2].l2 < 0.3
    with pytest.raises(SystemExit):
        run(tmp_path / "cut", Stop(step))
    resumed = run(tmp_path / "cut", ckpt_path=tmp_path / "cut/checkpoints/last.ckpt")
    assert resumed[1:] == whole[1:]
    for name, value in whole[0].items():
        assert torch.equal(resumed[0][name], value) if torch.is_tensor(value) else True, name


def test_a_run_made_longer_in_the_same_trainer_keeps_its_coefficient() -> None:
    own, auto, recorder = OldForeign(), driven([1, 2, 2, 2, 2, 2, 2]), Recorder()
    trainer = pl.Trainer(**(QUIET | {"max_epochs": 4}), callbacks=[auto, recorder])
    trainer.fit(own, loader())
    trainer.fit_loop.max_epochs = 5
    trainer.fit(own, loader())
    assert [decay for (decay,), _ in recorder.in_force[15:]] == pytest.approx([0.01] * 10)


def test_a_second_run_begins_anew() -> None:
    auto = AutoL2(loss_fn=lambda module, batch: torch.tensor(1.0), error_fn=no_error)
    for _ in range(2):
        rest = iter([1, 1, 2, 2, 2])
        auto.loss_fn = lambda module, batch, rest=rest: torch.tensor(float(next(rest)))
        recorder = fit(OldForeign(), auto)
        assert recorder.rows[15]["l2/coefficient"] == pytest.approx(0.01)


def test_soft_targets_count_as_their_largest_share() -> None:
    data = loader().dataset
    soft = 0.7 * nn.functional.one_hot(data.tensors[1], 3) + 0.1
    mixed = DataLoader(TensorDataset(data.tensors[0], soft), batch_size=8)
    own = OldForeign()
    recorder = fit(own, AutoL2(), data=mixed, max_steps=5)
    own.train()
    own.layers[3].eval()
    wrong = (own(data.tensors[0]).argmax(1) != data.tensors[1]).double().mean().item()
    assert recorder.rows[5]["l2/error"] == pytest.approx(wrong, abs=1e-12)


class Regression(OldForeign):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self(batch[0]).sum(1).square().mean()


def targets(y: Tensor) -> DataLoader:
    return DataLoader(TensorDataset(loader().dataset.tensors[0], y), batch_size=8)


@pytest.mark.parametrize(
    ("y", "reason"),
    [
        (torch.randn(40, 3), "its targets are no classes"),
        (torch.randn(40), "its targets are no classes"),
        (torch.zeros(40, 2, dtype=torch.int64), r"its targets are of shape \[8, 2\]"),
    ],
)
def test_a_module_without_an_error_rate_is_refused_before_the_first_update(
    y: Tensor, reason: str
) -> None:
    own = Regression()
    before = copy.deepcopy(own.state_dict())
    with pytest.raises(InputError, match=rf"error of Regression \({reason}\): pass error_fn=func"):
        fit(own, AutoL2(size=8), data=targets(y))
    assert all(torch.equal(value, before[name]) for name, value in own.state_dict().items())
    assert 5 in fit(Regression(), AutoL2(error_fn=no_error), data=targets(y)).rows


def test_a_module_that_regresses_is_refused() -> None:
    own = ScaledLightningModule(FullyConnected(6, 8, 1, 1), SquaredLoss(), SGD)
    data = TeacherStudentDataModule(6, n_train=40, n_val=8, batch_size=8)
    with pytest.raises(InputError, match="can't tell the training error of ScaledLightningModule"):
        fit(own, AutoL2(), data=data)


class Shapeless(OldForeign):
    """Has no forward that could be called on inputs."""

    forward = pl.LightningModule.forward

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.out(self.layers(batch[0])), batch[1])


def test_a_module_without_forward_is_refused() -> None:
    with pytest.raises(InputError, match=r"can't tell the training error of Shapeless \(.*forward"):
        fit(Shapeless(), AutoL2())


class Strict(OldForeign):
    """Takes batches of two loaders at once."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch["a"], batch_idx)


def test_batches_of_several_loaders_need_functions() -> None:
    data = {"a": loader(), "b": loader()}
    with pytest.raises(
        InputError, match=r"tell the training loss of Strict \(.*: pass loss_fn=fun"
    ):
        fit(Strict(), AutoL2(), data=data)
    functions = {"loss_fn": lambda module, batch: torch.tensor(1.0), "error_fn": no_error}
    assert 5 in fit(Strict(), AutoL2(**functions), data=data).rows


class Noisy(OldForeign):
    """Draws noise in every training step."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) + torch.rand(())


def test_a_loss_that_draws_is_measured_with_the_same_draws_every_time() -> None:
    own = Noisy(partial(torch.optim.SGD, lr=0.0))
    recorder = fit(own, AutoL2(1e-9, min_l2=1e-9))
    assert recorder.rows[5]["l2/loss"] == recorder.rows[10]["l2/loss"]


REFUSED: list[tuple[Any, str]] = [
    (
        OldForeign(partial(torch.optim.AdamW, lr=0.01)),
        r"AdamW decays weights outside of the gradient \(decoupled weight decay\): use SGD",
    ),
    (
        OldForeign(partial(torch.optim.Adam, lr=0.01, decoupled_weight_decay=True)),
        "Adam decays weights outside of the gradient",
    ),
    (
        OldForeign(partial(torch.optim.NAdam, lr=0.01, decoupled_weight_decay=True)),
        "NAdam decays weights outside",
    ),
    (
        Explicit(partial(torch.optim.AdamW, lr=0.01), l2=0.0),
        "set weight_decay=0: AutoL2 then steers the l2 of Explicit",
    ),
    (OldForeign(partial(torch.optim.Rprop, lr=0.01)), "found no L2 to steer, Rprop has no weight"),
    (OldForeign(partial(ScaledAdam, lr=0.01)), "found no L2 to steer, ScaledAdam has no weight"),
    (
        Explicit(partial(torch.optim.SGD, lr=0.1, weight_decay=0.1), l2=0.2),
        "Explicit has l2=0.2 and SGD weight_decay=0.1: set one of them to 0",
    ),
    (
        Explicit(l2=torch.tensor(0.2)),
        "the l2 of Explicit is a tensor: make it a number, self.l2 = 0.2",
    ),
]


@pytest.mark.parametrize(("own", "message"), REFUSED)
def test_what_can_not_be_steered_is_refused(own: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit(own, AutoL2(size=8))


def test_two_optimizers_or_two_of_them_are_refused() -> None:
    class Two(Manual):
        def configure_optimizers(self) -> Any:
            return [SGD(self.layers.parameters()), SGD(self.out.parameters())]

    with pytest.raises(InputError, match="needs one optimizer, Two has 2"):
        fit(Two(), driven([1, 1]))
    with pytest.raises(InputError, match="two AutoL2 would set the same coefficient"):
        fit(OldForeign(), AutoL2(name="a"), AutoL2(name="b"))


class Odd(torch.optim.SGD):
    """Steps only with a closure."""

    def step(self, closure: Any = None) -> Any:
        if closure is None:
            raise RuntimeError("needs a closure\nalways")
        return super().step(closure)


def test_an_optimizer_that_can_not_be_tried_is_refused() -> None:
    with pytest.raises(InputError, match=r"whether the weight_decay of Odd is L2 \(needs a clos"):
        fit(OldForeign(partial(Odd, lr=0.1)), AutoL2())


def test_a_coefficient_that_would_kill_the_net_is_warned_of() -> None:
    # lr / (1 - momentum) · l2 · 3 · period = 0.2 / 0.1 · 0.1 · 15 = 3.
    heavy = partial(torch.optim.SGD, lr=0.2, momentum=0.9)
    with pytest.warns(UserWarning, match=r"l2 · 3 · period = 3 should be below 0.5"):
        fit(module(heavy), AutoL2(), data=digits(), max_epochs=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="AutoL2 may shrink")
        fit(module(heavy), AutoL2(0.01), data=digits(), max_epochs=1)
        fit(OldForeign(heavy), AutoL2(), max_epochs=1)  # has BatchNorm


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"period": 0}, "period must be an integer of at least 1, got 0"),
        ({"l2": 0}, "l2 must be finite and above 0, got 0"),
        ({"l2": -1.0}, "l2 must be finite and above 0, got -1.0"),
        ({"factor": 2.0}, "factor must be below 1, got 2.0"),
        ({"on": "probe"}, "on must be one of subset, batch, got 'probe'"),
        ({"size": 0}, "size must be an integer of at least 1, got 0"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AutoL2(**options)
