"""Oracles: the formula image by image, scipy's distributions, runs of other batches and workers."""

import copy
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from trainers import QUIET

from lightning_lazy import LinearizedModel, ScaledLightningModule
from lightning_lazy.callbacks._probe import Probe
from lightning_lazy.data import FullBatchLoader, ImageDataModule
from lightning_lazy.data.counter import INDEX_MASK, make_keys, random_words
from lightning_lazy.data.mixup import Mixup
from lightning_lazy.errors import InputError
from lightning_lazy.losses import (
    CrossEntropyLoss,
    ExponentialLoss,
    LogisticLoss,
    NormalizedSoftmaxLoss,
    SoftHingeLoss,
    SquaredLoss,
)
from lightning_lazy.models import TwoLayerNet

pytest.importorskip("sklearn")
Pairs = list[tuple[Tensor, Tensor]]


def ready(**kwargs: Any) -> ImageDataModule:
    data = ImageDataModule(**{"n_train": 50, "batch_size": 20, "mixup": 1.0, "seed": 3} | kwargs)
    data.setup()
    return data


def unmixed(data: ImageDataModule) -> Any:
    assert isinstance(data.preprocess, Mixup)
    return data.preprocess.transform


def pairs(data: ImageDataModule, loader: Any = None) -> Pairs:
    loader = data.train_dataloader() if loader is None else loader
    return [data.transform(batch, torch.float64) for batch in loader]


def mixer(alpha: float = 1.0, seed: int = 0) -> Mixup:
    return Mixup(lambda raw, dtype: (raw.images, raw.labels), alpha, 10, seed)


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 3.0, 1e4])
def test_shares_have_the_beta_distribution(alpha: float) -> None:
    # Oracle: scipy's. Below a p-value of 1e-4 one set of draws in ten thousand would fall.
    stats = pytest.importorskip("scipy.stats")
    shares = mixer(alpha).shares(make_keys(torch.arange(50_000), epoch=2)).numpy()
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 1e-4


@pytest.mark.parametrize("alpha", [1e-300, 1e-3, 1e9])
def test_extreme_distributions_stay_within_0_and_1(alpha: float) -> None:
    shares = mixer(alpha).shares(make_keys(torch.arange(1000), epoch=0))
    assert bool(((shares >= 0) & (shares <= 1)).all())
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.08)  # five standard errors


def test_partners_are_uniform_and_independent_of_shares_and_crops() -> None:
    stats = pytest.importorskip("scipy.stats")
    keys = make_keys(torch.arange(40_000), epoch=1)
    partners = mixer().partners(keys, 20)
    assert torch.equal(partners & ~INDEX_MASK, keys & ~INDEX_MASK)
    index = (partners & INDEX_MASK).numpy()
    shares = mixer().shares(keys).numpy()
    crops = random_words(0, keys, 3).numpy() / 2**32
    for cells in (index, 20 * (8 * shares).astype(int) + index):
        assert stats.chisquare(np.bincount(cells)).pvalue > 1e-4
    for one in (index, shares):
        for other in crops:
            assert stats.spearmanr(one, other).pvalue > 1e-4


def test_epochs_and_seeds_draw_anew() -> None:
    keys = make_keys(torch.arange(100), epoch=0)
    first = mixer().shares(keys)
    for other in (mixer().shares(keys + (1 << 40)), mixer(seed=1).shares(keys)):
        assert bool((other != first).all())


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("flatten", [False, True])
def test_a_batch_is_the_formula_image_by_image(augment: bool, flatten: bool) -> None:
    # In double precision, one rounding of each product and sum.
    data = ready(augment=augment, padding=1, flatten=flatten)
    raw = next(iter(data.train_dataloader()))
    x, y = data.transform(raw, torch.float64)
    mixup, plain = data.preprocess, unmixed(data)
    others = mixup.partners(raw.keys, 50)
    own_x, own_labels = plain(data.train_set.__getitems__(raw.keys), torch.float64)
    other_x, other_labels = plain(data.train_set.__getitems__(others), torch.float64)
    assert y.dtype == torch.float64
    for i, share in enumerate(mixup.shares(raw.keys).tolist()):
        expected = share * own_x[i] + (1 - share) * other_x[i]
        torch.testing.assert_close(x[i], expected, rtol=1e-14, atol=1e-14)
        target = np.zeros(10)
        target[int(own_labels[i])] += share
        target[int(other_labels[i])] += 1 - share
        np.testing.assert_allclose(y[i].numpy(), target, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize(("dtype", "digits"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_targets_have_the_dtype_of_the_inputs(dtype: torch.dtype, digits: float) -> None:
    data = ready()
    x, y = data.transform(next(iter(data.train_dataloader())), dtype)
    assert x.dtype == y.dtype == dtype
    torch.testing.assert_close(y.double().sum(1), torch.ones(20).double(), rtol=0, atol=digits)


def test_targets_of_a_binary_task_lie_between_its_labels() -> None:
    data = ready(binary=[[0, 1, 2], [3, 4, 5]])
    raw = next(iter(data.train_dataloader()))
    _, y = data.transform(raw, torch.float64)
    share = data.preprocess.shares(raw.keys)
    expected = share * raw.labels + (1 - share) * raw.partners.labels
    assert y.shape == (20, 1)
    torch.testing.assert_close(y.squeeze(1), expected, rtol=1e-14, atol=1e-15)


def test_a_mixture_does_not_depend_on_the_batch_nor_on_workers_nor_on_ranks() -> None:
    data = ready(augment=True, padding=1)

    def by_target(batches: Pairs) -> dict[tuple[float, ...], list[float]]:
        return {
            tuple(t): i for x, y in batches for t, i in zip(y.tolist(), x.tolist(), strict=True)
        }

    whole = by_target(pairs(data))
    assert len(whole) == 50
    assert by_target(pairs(ready(augment=True, padding=1, batch_size=7))) == whole
    assert by_target(pairs(ready(augment=True, padding=1, num_workers=2))) == whole
    halves = [by_target(pairs(data, data._shuffled_loader(10, rank, 2))) for rank in range(2)]
    assert halves[0] | halves[1] == whole
    full = ready(augment=True, padding=1, batch_size="full")
    assert by_target(pairs(full)) == whole


def test_validation_probes_and_plain_indices_are_not_mixed() -> None:
    data, plain = ready(n_val=30), ready(n_val=30, mixup=None)
    for batch, other in zip(data.val_dataloader(), plain.val_dataloader(), strict=True):
        x, y = data.on_after_batch_transfer(batch, 0)
        assert y.dtype == torch.int64
        assert torch.equal(x, plain.transform(other)[0])
    loader = data.train_dataloader()
    trainer = pl.Trainer(max_steps=1, **QUIET)
    trainer.fit(net(), datamodule=data)
    (x, y), *_ = Probe("train", size=50).batches(trainer)
    assert torch.equal(x, plain.transform(loader.dataset.__getitems__(range(50)))[0])
    assert torch.equal(y, data.train_set.labels)


def test_a_plain_index_among_keys_keeps_its_image_and_its_label() -> None:
    data = ready()
    keys = make_keys(torch.arange(6), epoch=0)
    keys[::2] &= INDEX_MASK
    x, y = data.transform(data.train_set.__getitems__(keys), torch.float64)
    own_x, labels = data.transform(data.train_set.__getitems__(range(6)), torch.float64)
    assert torch.equal(x[::2], own_x[::2])
    assert torch.equal(y[::2], torch.nn.functional.one_hot(labels, 10).double()[::2])
    assert not torch.equal(x[1], own_x[1])


@pytest.mark.parametrize("batch_size", [20, "full"])
def test_a_resumed_loader_goes_on_with_the_mixtures_that_were_left(batch_size: Any) -> None:
    data = ready(augment=True, padding=1)

    def loader() -> Any:
        if batch_size == "full":
            return FullBatchLoader(data.train_set, data.transform, steps=3, gather=True)
        return data.train_dataloader()

    expected = pairs(data, loader())
    assert len(expected) == 3
    assert not torch.equal(expected[0][1], expected[1][1])
    stopped, resumed = loader(), loader()
    list(islice(stopped, 2))
    stopped.batch_done()
    resumed.load_state_dict(stopped.state_dict())
    ((x, y),) = pairs(data, resumed)
    assert torch.equal(x, expected[2][0])
    assert torch.equal(y, expected[2][1])


@pytest.mark.parametrize("alpha", [0, -1.0, float("nan"), float("inf"), True, "yes"])
def test_a_parameter_that_is_no_positive_number_is_refused(alpha: Any) -> None:
    with pytest.raises(InputError, match="mixup must be .*above 0"):
        ImageDataModule(mixup=alpha)


# Through a module: losses, metrics, the frozen copy.


def net(loss: Any = None, **arguments: Any) -> ScaledLightningModule:
    torch.manual_seed(0)
    model = TwoLayerNet(64, 16, arguments.pop("outputs", 10))
    optimizer = partial(torch.optim.SGD, lr=0.5)
    return ScaledLightningModule(model, loss or NormalizedSoftmaxLoss(), optimizer, **arguments)


def fit(module: ScaledLightningModule, **data: Any) -> dict[str, float]:
    trainer = pl.Trainer(max_epochs=3, **QUIET)
    trainer.fit(module, datamodule=ready(**data))
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_the_loss_of_a_mixture_is_the_mixture_of_the_losses() -> None:
    # Cross entropy is linear in the target; the squared error is up to a term without the output.
    data = ready()
    raw = next(iter(data.train_dataloader()))
    _, y = data.transform(raw, torch.float64)
    share = data.preprocess.shares(raw.keys)
    output = torch.randn(20, 10, dtype=torch.float64, requires_grad=True)

    def mixture(loss: Any) -> Tensor:
        own, other = (
            loss.per_sample(output, labels) for labels in (raw.labels, raw.partners.labels)
        )
        return (share * own + (1 - share) * other).mean()

    for loss in (CrossEntropyLoss(), NormalizedSoftmaxLoss()):
        torch.testing.assert_close(loss(output, y), mixture(loss), rtol=1e-13, atol=0)
    entropy = -(y * output.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(NormalizedSoftmaxLoss()(output, y), entropy / 20, rtol=1e-13, atol=0)
    loss = SquaredLoss()
    gradients = [
        torch.autograd.grad(value, output)[0] for value in (loss(output, y), mixture(loss))
    ]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-15)


def test_train_accuracy_counts_the_class_of_the_larger_share() -> None:
    # Oracle: the first epoch recomputed with weights that a learning rate of zero leaves alone.
    module = net()
    module.optimizer = partial(torch.optim.SGD, lr=0.0)
    metrics = fit(module)
    data, right, losses = ready(), [], []
    loader = data.train_dataloader()
    loader.set_epoch(2)
    for batch in loader:
        x, y = data.transform(batch, torch.float32)
        right += (module(x).argmax(1) == y.argmax(1)).tolist()
        losses += module.loss.per_sample(module(x), y).tolist()
    assert metrics["train/acc"] == pytest.approx(np.mean(right), abs=1e-12)
    assert metrics["train/loss"] == pytest.approx(np.mean(losses), rel=1e-6)


@pytest.mark.parametrize("loss", [SoftHingeLoss(), LogisticLoss(), ExponentialLoss()], ids=repr)
def test_losses_of_a_margin_refuse_mixtures_before_training(loss: Any) -> None:
    with pytest.raises(InputError, match=r"mixup=1 makes shares .*Loss\(.* or mixup=null"):
        fit(net(loss))


def test_the_squared_loss_takes_mixtures_of_one_hot_targets_only() -> None:
    assert fit(net(SquaredLoss()))["train/loss"] < 1
    with pytest.raises(InputError, match="one_vs_all.* can't be fitted to.*targets=one_hot"):
        fit(net(SquaredLoss(targets="one_vs_all")))
    metrics = fit(net(SquaredLoss(targets="binary"), outputs=1), binary=[[0, 1, 2], [3, 4]])
    assert metrics["val/acc"] > 0.5
    assert "train/acc" not in metrics  # numbers are fitted, not classes


def test_losses_of_others_get_soft_targets_as_they_are() -> None:
    assert fit(net(torch.nn.functional.cross_entropy))["train/loss"] > 0


@pytest.mark.parametrize("batch_size", [25, "full"])
def test_outputs_of_the_frozen_copy_for_mixtures_are_never_reused(batch_size: Any) -> None:
    # Oracle: the run that computes f(θ₀, x) in every step.
    runs = [net(reference_cache=cache) for cache in (True, False)]
    for module in runs:
        fit(module, batch_size=batch_size)
    for p, q in zip(*(module.parameters() for module in runs), strict=True):
        assert torch.equal(p, q)
    start = copy.deepcopy(net().net.state_dict())
    assert any(not torch.equal(p, start[name]) for name, p in runs[0].net.state_dict().items())


def test_a_linearised_model_trains_on_mixtures() -> None:
    linear = net()
    linear.model.net = LinearizedModel(linear.net)
    assert 0 < fit(linear)["train/loss"] < 1
