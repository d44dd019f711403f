"""The P/Q distribution. Oracles: binomial shares, geometry of the half Gaussians and of the three
directions, moments of the half normal and the uniform distribution."""

import math
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from trainers import QUIET

from lightning_lazy import InputError, ScaledLightningModule
from lightning_lazy.data import PatternsDataModule
from lightning_lazy.laziness.pattern_learning import components
from lightning_lazy.losses import LogisticLoss
from lightning_lazy.models import TwoPartNet


def ready(dimension: int = 20, **arguments: Any) -> PatternsDataModule:
    data = PatternsDataModule(dimension, **arguments)
    data.setup()
    return data


def parts(data: PatternsDataModule, examples: Any) -> tuple[Tensor, Tensor, Tensor]:
    x = examples.images
    return x[:, : data.dimension], x[:, data.dimension :], examples.labels


def test_shares_are_those_of_the_text_within_the_binomial_error() -> None:
    data = ready(n_train=40_000, p0=0.2, q0=0.3)
    kinds = data.train_set.components
    x1, x2, y = parts(data, data.train_set)
    assert torch.equal(components(x1, x2), kinds)
    for kind, share in enumerate((0.2, 0.3, 0.5)):
        error = math.sqrt(share * (1 - share) / len(kinds))
        assert abs((kinds == kind).double().mean() - share) < 4 * error
    # Labels are uniform and have nothing to do with the component.
    for kind in range(3):
        own = y[kinds == kind].double()
        assert abs(own.mean()) < 4 / math.sqrt(len(own))


def test_exact_shares_are_exact_with_balanced_labels() -> None:
    data = ready(n_train=300, p0=0.1, q0=0.2, shares="exact")
    kinds, y = data.train_set.components, data.train_set.labels
    assert kinds.bincount().tolist() == [30, 60, 210]
    assert [int(y[kinds == kind].sum()) for kind in range(3)] == [0, 0, 0]
    assert kinds[:50].unique().tolist() == [0, 1, 2]  # in random order


def test_p_are_half_gaussians_behind_a_margin() -> None:
    data = ready(50, n_train=20_000, p0=1.0, q0=0.0)
    x1, x2, y = parts(data, data.train_set)
    assert not x2.any()
    along = y * (x1 @ data.patterns.w_star)
    gamma = 50**-0.5
    assert float(data.patterns.w_star.norm()) == pytest.approx(1.0)
    assert along.min() >= gamma * (1 - 1e-12)
    # Behind the margin |N(0, 1/d)|: mean γ₀·√(2/π), second moment 1/d.
    beyond = (along - gamma) / gamma
    assert abs(beyond.mean() - math.sqrt(2 / math.pi)) < 4 / math.sqrt(len(y))
    assert abs(beyond.square().mean() - 1) < 4 * math.sqrt(2 / len(y))
    # Across, N(0, I/d): Σ over 49 directions of squares times d is χ² with 49·n degrees.
    across = x1 - torch.outer(x1 @ data.patterns.w_star, data.patterns.w_star)
    degrees = 49 * len(y)
    assert abs(float(across.square().sum()) * 50 - degrees) < 4 * math.sqrt(2 * degrees)


@pytest.mark.parametrize("q_dimension", [None, 2])
def test_q_are_three_directions_with_a_random_length(q_dimension: int | None) -> None:
    data = ready(q_dimension=q_dimension, n_train=9000, p0=0.0, q0=1.0, r=0.2)
    x1, x2, y = parts(data, data.train_set)
    _, z, zeta = data.patterns
    assert not x1.any()
    assert x2.shape[1] == (q_dimension or 20)
    assert float(z.norm()) == pytest.approx(1.0)
    assert float(zeta.norm()) == pytest.approx(0.2)
    assert float(z @ zeta) == pytest.approx(0.0, abs=1e-15)
    alpha = x2 @ z
    b = (x2 @ zeta) / (0.2**2 * alpha)
    torch.testing.assert_close(x2, alpha[:, None] * (z + torch.outer(b, zeta)))
    assert torch.equal(b.round(), b.round() * (y < 0))
    torch.testing.assert_close(b, b.round(), rtol=0, atol=1e-9)
    assert abs(b.round()[y < 0].mean()) < 4 / math.sqrt(len(y) / 2)
    # α ~ U(0, 1).
    assert 0 <= alpha.min() < 0.01
    assert 0.99 < alpha.max() <= 1
    assert abs(alpha.mean() - 0.5) < 4 / math.sqrt(12 * len(y))


def test_what_is_not_given_has_the_scales_of_the_theorems() -> None:
    data = ready(64, kappa=0.5)
    assert (data.n_train, data.p0, data.margin) == (256, 0.125, 0.125)
    assert float(data.patterns.zeta.norm()) == pytest.approx(64**-0.75)
    assert (data.in_features, data.outputs) == (128, 1)


def test_validation_sets_hold_one_component_each() -> None:
    data = ready(n_val=50)
    assert data.val_sets is not None
    assert tuple(data.val_sets) == data.val_names == ("p_only", "q_only", "both")
    for kind, examples in enumerate(data.val_sets.values()):
        assert examples.components.tolist() == [kind] * 50
        x1, x2, _ = parts(data, examples)
        assert components(x1, x2).tolist() == [kind] * 50
    assert len(data.val_dataloader()) == 3
    own, other = data.train_set.images[:50], data.val_sets["both"].images
    assert not torch.equal(own, other)


def test_examples_are_a_function_of_the_seed() -> None:
    one, same, other = (ready(seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.train_set.images, same.train_set.images)
    assert torch.equal(one.patterns.z, same.patterns.z)
    assert not torch.equal(one.train_set.images, other.train_set.images)


def test_training_validates_on_each_set_by_itself() -> None:
    data = PatternsDataModule(10, n_train=40, n_val=33, eval_batch_size=20, seed=3)
    torch.manual_seed(0)
    module = ScaledLightningModule(
        TwoPartNet(20, 8, tau=1.0).double(),
        LogisticLoss(),
        lambda parameters: torch.optim.SGD(parameters, lr=0.5),
        centering="none",
    )
    trainer = pl.Trainer(**QUIET, max_steps=3, val_check_interval=3, precision="64-true")
    trainer.fit(module, datamodule=data)
    assert data.val_sets is not None
    for name, examples in data.val_sets.items():
        output = module(examples.images).detach()
        correct = (output[:, 0] > 0) == (examples.labels > 0)
        logged = float(trainer.callback_metrics[f"val/{name}/acc"])
        assert logged == pytest.approx(float(correct.double().mean()), abs=1e-12)
        loss = float(LogisticLoss()(output, examples.labels))
        assert float(trainer.callback_metrics[f"val/{name}/loss"]) == pytest.approx(loss)
    assert "val/acc" not in trainer.callback_metrics


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dimension": 1}, "expected dimension to be a whole number of at least 2, got 1"),
        ({"q_dimension": 1}, "expected q_dimension to be a whole number of at least 2 or null"),
        ({"kappa": 1.0}, "kappa must be below 1, got 1.0"),
        ({"p0": 0.7, "q0": 0.4}, r"p0 \+ q0 must be at most 1, .* got 0.7 \+ 0.4"),
        ({"q0": -0.1}, "q0 must be finite and at least 0, got -0.1"),
        ({"r": 0.0}, "r must be finite and above 0, got 0.0"),
        ({"shares": "half"}, "shares must be one of drawn, exact, got 'half'"),
        ({"batch_size": "all"}, "expected batch_size to be a whole number"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PatternsDataModule(**arguments)
