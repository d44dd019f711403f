"""Order of learning of P and Q. Oracle: noisy gradient descent as a plain loop in double precision,
equations 3.1, 3.4 and 5.1 of Li, Wei & Ma 2019, with gradients by autograd."""

from functools import partial
from typing import Any
from zlib import crc32

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from trainers import QUIET

from lightning_lazy import InputError, ScaledLightningModule
from lightning_lazy.callbacks import (
    AnnealOnLoss,
    GradientNoise,
    PatternLearning,
    PreActivationNoise,
)
from lightning_lazy.callbacks.gradient_noise import add_noise
from lightning_lazy.data import ImageDataModule, PatternsDataModule
from lightning_lazy.data.counter import derive_seed
from lightning_lazy.losses import LogisticLoss
from lightning_lazy.models import TwoLayerNet, TwoPartNet

LARGE, SMALL, L2, STD, STEPS = 2.0, 0.5, 0.05, 0.03, 12
DATA: dict[str, Any] = {"n_train": 60, "p0": 0.2, "q0": 0.3, "n_val": 20, "r": 0.5, "seed": 4}
THRESHOLD = 0.6
NOISE_STREAM = crc32(b"GradientNoise")


def module(
    l2: float = L2, weight_decay: float = 0.0, net: nn.Module | None = None, **sgd: Any
) -> Any:
    torch.manual_seed(1)
    net = net if net is not None else TwoPartNet(16, 30, v_width=40, tau=0.4).double()
    optimizer = partial(torch.optim.SGD, lr=LARGE, weight_decay=weight_decay, **sgd)
    return ScaledLightningModule(net, LogisticLoss(), optimizer, l2=l2, centering="none")


def two_rates() -> Any:
    trained = module()

    def optimizer(parameters: Any) -> torch.optim.SGD:
        w, *others = parameters
        return torch.optim.SGD([{"params": w, "lr": 1.0}, {"params": others}], lr=0.5)

    trained.optimizer = optimizer
    return trained


def fit(trained: Any, *callbacks: Any, data: Any = None, **arguments: Any) -> pl.Trainer:
    options = {"max_steps": STEPS, "precision": "64-true", "callbacks": list(callbacks)} | arguments
    trainer = pl.Trainer(**(QUIET | options))
    trainer.fit(trained, datamodule=data or PatternsDataModule(8, **DATA))
    return trainer


def plain_loop(net: TwoPartNet) -> dict[str, Any]:
    """Train with L-S; return weights, signals, the first small loss and what is measured."""
    data = PatternsDataModule(8, **DATA)
    data.setup()
    x, y, kinds = data.train_set.images, data.train_set.labels, data.train_set.components
    weights = [net.w.hidden.weight, net.v.hidden.weight]
    signals = [torch.zeros_like(p) for p in weights]
    shared, lr, annealed = torch.zeros_like(weights[0]), LARGE, -1
    for step in range(STEPS):
        losses = nn.functional.softplus(-y * net(x)[:, 0])
        if annealed < 0 and float(losses.detach().mean()) < THRESHOLD:
            lr, annealed = SMALL, step
        gradients = torch.autograd.grad(losses.mean(), weights, retain_graph=True)
        (with_q,) = torch.autograd.grad(losses[kinds > 0].sum() / len(x), weights[:1])
        with torch.no_grad():
            for p, gradient in zip(weights, gradients, strict=True):
                p.grad = gradient + L2 * p
            add_noise(weights, STD, derive_seed(0, NOISE_STREAM, step))
            for p, signal, gradient in zip(weights, signals, gradients, strict=True):
                signal.mul_(1 - lr * L2).sub_(lr * gradient)
                p.sub_(lr * p.grad)
            shared = (1 - lr * L2) * shared + lr * with_q
    return {"x": x, "y": y, "kinds": kinds, "signals": signals, "shared": shared, "data": data,
            "annealed": annealed}  # fmt: skip


@pytest.mark.parametrize(("l2", "weight_decay"), [(L2, 0.0), (0.0, L2)])
@pytest.mark.parametrize("first", [True, False])
def test_weights_signal_and_noise_are_those_of_the_plain_loop(
    l2: float, weight_decay: float, first: bool
) -> None:
    trained = module(l2, weight_decay)
    callbacks = [
        AnnealOnLoss([THRESHOLD], [SMALL / LARGE], every_n_steps=1),
        GradientNoise(STD),
        PatternLearning(every_n_steps=5),
    ]
    trainer = fit(trained, *(callbacks if first else callbacks[::-1]))
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    net = module().net
    expected = plain_loop(net)
    assert 0 < expected["annealed"] < STEPS - 2
    for name, p in trained.net.named_parameters():
        wanted = dict(net.named_parameters())[name]
        torch.testing.assert_close(p, wanted, rtol=1e-11, atol=1e-13)
    for part, name, signal in ((net.w, "w", 0), (net.v, "v", 1)):
        accumulated = expected["signals"][signal]
        noise = part.hidden.weight.detach() - accumulated
        assert metrics[f"pattern/{name}_signal"] == pytest.approx(float(accumulated.norm()))
        assert metrics[f"pattern/{name}_noise"] == pytest.approx(
            float(noise.square().mean()) ** 0.5
        )
    assert metrics["pattern/shared_signal"] == pytest.approx(float(expected["shared"].norm()))


def test_accuracies_losses_and_the_lemmas_are_those_computed_by_hand() -> None:
    trained = module()
    metrics = fit(trained, PatternLearning(every_n_steps=5, batch_size=7)).callback_metrics
    data = PatternsDataModule(8, **DATA)
    data.setup()
    x, y, kinds = data.train_set.images, data.train_set.labels, data.train_set.components
    net = trained.net
    with torch.no_grad():
        r, g = net.w(x[:, :8])[:, 0], net.v(x[:, 8:])[:, 0]

        def losses(output: Tensor) -> Tensor:
            return (1 + (-y * output).exp()).log()

        for kind, name in enumerate(("p_only", "q_only", "both")):
            own = kinds == kind
            acc = ((r + g)[own] * y[own] > 0).double().mean()
            assert float(metrics[f"train/{name}/acc"]) == pytest.approx(float(acc), abs=1e-12)
            loss = float(losses(r + g)[own].mean())
            assert float(metrics[f"train/{name}/loss"]) == pytest.approx(loss, rel=1e-10)
        assert float(metrics["pattern/r_loss"]) == pytest.approx(
            float(losses(r)[kinds != 1].mean()), rel=1e-10
        )
        assert float(metrics["pattern/g_loss"]) == pytest.approx(
            float(losses(g)[kinds == 1].mean()), rel=1e-10
        )
        _, z, zeta = data.patterns
        bend = net.v((z + zeta)[None]) + net.v((z - zeta)[None]) - 2 * net.v(z[None])
        assert float(metrics["pattern/second_difference"]) == pytest.approx(abs(float(bend)))
        # Eight inputs or more with P only span everything: α = Wᵀw/2.
        assert int((kinds == 0).sum()) >= 8
        odd = net.w.output.weight @ net.w.hidden.weight
        assert float(metrics["pattern/alpha"]) == pytest.approx(float(odd.norm()) / 2, rel=1e-9)
        assert float(metrics["pattern/alpha_rest"]) == pytest.approx(0.0, abs=1e-9)


def test_watching_leaves_no_trace() -> None:
    weights = []
    for watch in ([], [PatternLearning(every_n_steps=1)]):
        trained = module()
        fit(trained, GradientNoise(STD), PreActivationNoise(0.2), *watch)
        weights.append(torch.cat([p.detach().flatten() for p in trained.parameters()]))
    assert torch.equal(*weights)


def test_the_shared_signal_is_left_out_where_activations_are_noisy() -> None:
    trainer = fit(module(), PreActivationNoise(0.2), PatternLearning())
    assert "pattern/shared_signal" not in trainer.callback_metrics
    assert "pattern/w_signal" in trainer.callback_metrics


@pytest.mark.parametrize(
    ("trained", "data", "arguments", "message"),
    [
        (partial(module, net=TwoLayerNet(16, 4, 1).double()), None, {}, "no net of two parts"),
        (
            partial(module, net=TwoPartNet(64, 4).double()),
            ImageDataModule("digits", n_train=20, classes=[3, 8], binary=True),
            {},
            "needs a datamodule with patterns",
        ),
        (partial(module, momentum=0.9), None, {}, "for plain SGD without momentum, got SGD"),
        (module, None, {"accumulate_grad_batches": 2}, "accumulated over 2 batches"),
        (module, None, {"gradient_clip_val": 0.1}, "got gradient_clip_val=0.1 and 1 groups"),
        (two_rates, None, {}, "one learning rate for both parts, .* 2 groups"),
    ],
)
def test_what_the_formulas_do_not_hold_for_is_refused(
    trained: Any, data: Any, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        fit(trained(), PatternLearning(), data=data, **arguments)
