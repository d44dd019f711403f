"""CatapultMonitor in real Trainers. Oracles: the theory, explicit Jacobians, a run not stopped."""

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as lp
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from trainers import QUIET

from lightning_lazy import InputError, RunFiles, ScaledLightningModule
from lightning_lazy.callbacks import CatapultMonitor, DivergenceGuard
from lightning_lazy.data import PointsDataModule
from lightning_lazy.losses import ExponentialLoss, LogisticLoss
from lightning_lazy.models import DeepLinear
from lightning_lazy.theory import catapult_kernel, catapult_window, follow, rising_lr, two_cycle

WIDTH = 100


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def network(depth: int = 1, variance: float = 1.0, seed: int = 0) -> DeepLinear:
    generator = torch.Generator().manual_seed(seed)
    sigma_w = math.sqrt(variance)
    return DeepLinear(1, WIDTH, depth, sigma_w=sigma_w, generator=generator).double()


def start(net: DeepLinear) -> tuple[float, float]:
    """Return f₀ and Θ₀ = (‖w₁‖² + ‖w₂‖²)/m."""
    square = sum(float(p.detach().square().sum()) for p in net.parameters())
    return net(torch.ones(1, 1).double()).item(), square / WIDTH


def fit(net: nn.Module, lr: float, *callbacks: Any, steps: int = 200, **options: Any) -> pl.Trainer:
    loss = options.pop("loss", LogisticLoss())
    data = options.pop("data", None) or PointsDataModule("degenerate")
    module = ScaledLightningModule(
        net, loss, partial(torch.optim.SGD, lr=lr), centering="none", log_every_n_steps=50
    )
    arguments = QUIET | {"precision": "64-true", "max_steps": steps, "limit_val_batches": 0}
    trainer = pl.Trainer(**(arguments | options), callbacks=[DivergenceGuard(), *callbacks])
    trainer.fit(module, datamodule=data, ckpt_path=options.pop("ckpt_path", None))
    return trainer


def phase_of(net: nn.Module, lr: float, **options: Any) -> Any:
    monitor = CatapultMonitor(**options.pop("monitor", {}))
    fit(net, lr, monitor, **options)
    return monitor.phase


@pytest.mark.parametrize(
    ("rate", "verdict"), [(2.0, "lazy"), (7.5, "lazy"), (10.0, "catapult"), (200.0, "divergent")]
)
def test_a_hidden_layer_with_the_logistic_loss_has_all_three_phases(
    rate: float, verdict: str
) -> None:
    net = network()
    f, kernel = start(net)
    lr = rate / kernel
    phase = phase_of(net, lr)
    assert phase.verdict == verdict
    # Oracle: the recursion of Theorem 2; losses are seen before each of the 200 updates.
    path = follow("logistic", f, kernel, lr=lr, width=WIDTH, steps=200)
    assert phase.kernel_start == pytest.approx(kernel, rel=1e-9)
    assert phase.lr_times_start == pytest.approx(rate, rel=1e-9)
    if verdict != "divergent":
        assert phase.kernel_end == pytest.approx(path.kernel[-1], rel=1e-9)
        peak = max(abs(path.output[:-1]))
        assert phase.peak_loss == pytest.approx(math.log(2 + 2 * math.cosh(peak)) / 2, rel=1e-9)
    if verdict == "catapult":
        assert phase.kernel_end == pytest.approx(catapult_kernel(lr, WIDTH), rel=0.02)


def test_the_exponential_loss_is_catapulted_in_its_window() -> None:
    net = network(variance=0.5, seed=1)
    f, kernel = start(net)
    low, high = catapult_window(f, kernel, WIDTH)
    verdicts = []
    for lr in (0.9 * low, (low + high) / 2, low + 2 * (high - low)):
        verdicts.append(
            phase_of(network(variance=0.5, seed=1), lr, loss=ExponentialLoss(), steps=400).verdict
        )
    assert verdicts == ["lazy", "catapult", "divergent"]
    assert rising_lr("exponential", f, kernel) == low


def test_the_two_cycle_of_the_linear_predictor_is_no_phase_although_its_loss_stands_still() -> None:
    net = network(depth=0)
    (weight,) = net.parameters()
    nn.init.constant_(weight, 2.0)
    phase = phase_of(net, 9.0)
    assert abs(weight.item()) == pytest.approx(two_cycle(9.0), rel=1e-6)
    assert phase.last_loss < phase.first_loss
    assert (phase.verdict, phase.converged) == ("none", False)
    assert "a cycle" in phase.reason


def test_a_kernel_that_grows_on_separable_data_is_none() -> None:
    generator = torch.Generator().manual_seed(0)
    net = DeepLinear(2, WIDTH, 1, generator=generator).double()
    phase = phase_of(net, 4.0, data=PointsDataModule("blobs"), steps=2000)
    assert phase.verdict == "none"
    assert phase.kernel_ratio > 1.05


def test_the_hessian_stands_in_and_its_drop_counts_above_2_only() -> None:
    near = partial(network, seed=22)  # starts near the minimum, where the Hessian is Θ/4
    _, kernel = start(near())
    lazy = phase_of(near(), 4.0 / kernel, monitor={"kernel": "hessian"})
    assert lazy.verdict == "lazy"
    catapult = phase_of(near(), 12.0 / kernel, monitor={"kernel": "hessian"})
    assert (catapult.verdict, catapult.kernel) == ("catapult", "hessian")
    # At the minimum: Corollary 1.
    assert catapult.kernel_end == pytest.approx(catapult_kernel(12.0 / kernel, WIDTH) / 4, rel=0.02)


def test_what_is_stored_is_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, kernel = start(network())
    monitor = CatapultMonitor(every_n_steps=50, name="mine")
    trainer = fit(network(), 10.0 / kernel, monitor, default_root_dir=tmp_path)
    stored = json.loads((tmp_path / "phase-mine.json").read_text())
    assert (stored["verdict"], stored["step"]) == ("catapult", 200)
    assert stored["rise"] == monitor.phase.rise > 0.1
    assert "phase after 200 steps: CATAPULT" in capsys.readouterr().out
    assert trainer.callback_metrics["curvature/phase/mine"] == 1.0
    assert trainer.callback_metrics["ntk/top1/mine"] == pytest.approx(monitor.phase.kernel_end)


class Foreign:
    """A classifier that knows nothing of this project, with two batches a pass."""

    automatic_optimization = True

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))
        self.losses: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


class OldForeign(Foreign, pl.LightningModule):
    pass


class NewForeign(Foreign, lp.LightningModule):
    pass


def loader() -> DataLoader:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(40, 6, generator=generator)
    return DataLoader(TensorDataset(x, torch.randint(3, (40,), generator=generator)), batch_size=20)


@pytest.mark.parametrize(("package", "kind"), [(pl, OldForeign), (lp, NewForeign)])
def test_a_foreign_module_is_judged_by_means_over_passes(package: Any, kind: Any) -> None:
    module, monitor = kind(), CatapultMonitor(batch_size=7)
    start = [p.detach().clone() for p in module.parameters()]
    trainer = package.Trainer(**(QUIET | {"max_epochs": 5}), callbacks=[monitor])
    trainer.fit(module, loader())
    phase = monitor.phase
    means = [sum(module.losses[i : i + 2]) / 2 for i in range(0, 10, 2)]
    assert phase.first_loss == pytest.approx(means[0], rel=1e-6)
    assert phase.last_loss == pytest.approx(means[-1], rel=1e-6)
    assert phase.verdict == "lazy"
    # Oracle: Θ/n from explicit Jacobians of all outputs.
    x = loader().dataset.tensors[0]
    for values, value in ((start, phase.kernel_start), (module.parameters(), phase.kernel_end)):
        given = dict(zip(dict(module.named_parameters()), values, strict=True))
        rows = torch.func.jacrev(lambda w: torch.func.functional_call(module, w, (x,)))(given)
        jacobian = torch.cat([part.reshape(40 * 3, -1) for part in rows.values()], dim=1)
        theta = (jacobian @ jacobian.T).detach().double() / 40
        assert value == pytest.approx(float(torch.linalg.eigvalsh(theta)[-1]), rel=1e-5)


class Explodes(OldForeign):
    """Its loss grows by a factor at every step after some."""

    def __init__(self, after: int, factor: float) -> None:
        super().__init__()
        self.after, self.factor = after, factor

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss * self.factor ** max(0, len(self.losses) - self.after)


def fit_foreign(module: Any, *callbacks: Any, **options: Any) -> Any:
    (monitor,) = (one for one in callbacks if isinstance(one, CatapultMonitor))
    trainer = pl.Trainer(**(QUIET | {"max_epochs": 5} | options), callbacks=list(callbacks))
    trainer.fit(module, loader())
    return monitor.phase


@pytest.mark.parametrize("factor", [math.nan, math.inf, 1e4])
@pytest.mark.parametrize("after", [1, 2, 4])
def test_what_explodes_within_a_pass_diverges_although_no_mean_over_passes_shows_it(
    factor: float, after: int
) -> None:
    # Two batches a pass; the guard stops the run at once, within the first pass or a later one.
    module = Explodes(after, factor)
    phase = fit_foreign(module, DivergenceGuard(every_n_steps=1), CatapultMonitor())
    assert phase.verdict == "divergent"


def test_the_end_of_a_run_counts_where_it_is_within_a_pass() -> None:
    module = OldForeign()
    phase = fit_foreign(module, CatapultMonitor(), max_steps=5)
    assert phase.first_loss == pytest.approx(sum(module.losses[:2]) / 2, rel=1e-6)
    assert phase.last_loss == pytest.approx(sum(module.losses[3:5]) / 2, rel=1e-6)


def test_losses_are_those_of_the_module_where_gradients_are_accumulated() -> None:
    module = OldForeign()
    phase = fit_foreign(module, CatapultMonitor(), accumulate_grad_batches=2)
    assert phase.first_loss == pytest.approx(sum(module.losses[:2]) / 2, rel=1e-6)


def test_the_largest_of_several_learning_rates_counts() -> None:
    class TwoRates(OldForeign):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            first, last = self.layers[0].parameters(), self.layers[2].parameters()
            return torch.optim.SGD([{"params": first, "lr": 0.2}, {"params": last}], lr=0.01)

    phase = fit_foreign(TwoRates(), CatapultMonitor())
    assert phase.lr_times_start == pytest.approx(0.2 * phase.kernel_start)


def test_a_resume_without_the_start_is_refused(tmp_path: Path) -> None:
    module = OldForeign()
    trainer = pl.Trainer(**(QUIET | {"max_epochs": 1}))
    trainer.fit(module, loader())
    trainer.save_checkpoint(tmp_path / "without.ckpt")
    trainer = pl.Trainer(**(QUIET | {"max_epochs": 2}), callbacks=[CatapultMonitor()])
    with pytest.raises(InputError, match="holds no start of training for CatapultMonitor"):
        trainer.fit(module, loader(), ckpt_path=tmp_path / "without.ckpt", weights_only=True)


def test_training_on_in_the_same_process_gives_a_verdict_at_its_end_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    module, monitor = OldForeign(), CatapultMonitor(every_n_steps=1)
    trainer = pl.Trainer(**(QUIET | {"max_epochs": 2}), callbacks=[monitor])
    trainer.fit(module, loader())
    trainer.fit_loop.max_epochs = 4
    trainer.fit(module, loader())
    assert capsys.readouterr().out.count("phase after") == 2
    means = [sum(module.losses[i : i + 2]) / 2 for i in range(0, 8, 2)]
    assert monitor.phase.first_loss == pytest.approx(means[0], rel=1e-6)
    assert monitor.phase.last_loss == pytest.approx(means[-1], rel=1e-6)


@pytest.mark.parametrize("kernel", ["ntk", "hessian"])
def test_attention_is_measured(kernel: Any) -> None:
    module = OldForeign()
    encoder = nn.TransformerEncoderLayer(2, 1, 8, dropout=0.0, batch_first=True)
    module.layers = nn.Sequential(nn.Unflatten(1, (3, 2)), encoder, nn.Flatten(), nn.Linear(6, 3))
    assert fit_foreign(module, CatapultMonitor(kernel), max_epochs=2).kernel_start > 0


def test_the_run_is_that_without_the_monitor() -> None:
    runs = []
    for callbacks in ([], [CatapultMonitor(every_n_steps=3)], [CatapultMonitor("hessian")]):
        net = network()
        fit(net, 5.0, *callbacks, steps=30)
        runs.append([p.detach() for p in net.parameters()])
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))


class Stop(pl.Callback):
    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 70:
            raise KeyboardInterrupt


@pytest.mark.parametrize("kernel", ["ntk", "hessian"])
def test_a_resumed_run_gives_the_same_verdict(tmp_path: Path, kernel: Any) -> None:
    _, theta = start(network())
    monitors = [CatapultMonitor(kernel, every_n_steps=20) for _ in range(3)]
    fit(network(), 10.0 / theta, monitors[0])
    path = tmp_path / "run"
    with pytest.raises(SystemExit):
        fit(network(), 10.0 / theta, monitors[1], RunFiles(str(path), every_n_steps=30), Stop())
    checkpoint = path / "checkpoints" / "last.ckpt"
    module = ScaledLightningModule(
        network(seed=5), LogisticLoss(), partial(torch.optim.SGD, lr=10.0 / theta),
        centering="none", log_every_n_steps=50,
    )  # fmt: skip
    arguments = QUIET | {"precision": "64-true", "max_steps": 200, "limit_val_batches": 0}
    trainer = pl.Trainer(
        **arguments, callbacks=[DivergenceGuard(), monitors[2], RunFiles(str(path))]
    )
    trainer.fit(
        module, datamodule=PointsDataModule("degenerate"), ckpt_path=checkpoint, weights_only=True
    )
    assert monitors[2].phase == monitors[0].phase


def test_manual_optimisation_is_refused() -> None:
    module = OldForeign()
    module.automatic_optimization = False
    trainer = pl.Trainer(**(QUIET | {"max_epochs": 1}), callbacks=[CatapultMonitor()])
    with pytest.raises(InputError, match="OldForeign optimises by itself"):
        trainer.fit(module, loader())
    with pytest.raises(InputError, match="kernel must be one of ntk, hessian"):
        CatapultMonitor("fisher")  # type: ignore[arg-type]
