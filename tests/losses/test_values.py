"""Values, reductions and options of the losses. Oracle: closed forms in extended precision."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lightning_lazy.errors import InputError
from lightning_lazy.losses import (
    CrossEntropyLoss,
    ExponentialLoss,
    LogisticLoss,
    NormalizedSoftmaxLoss,
    SoftHingeLoss,
    SquaredLoss,
    encode_targets,
)

WIDE = np.longdouble


def _squared(f, y):
    return (f - y) ** 2


def _soft_hinge(beta):
    return lambda f, y: np.logaddexp(WIDE(0), beta * (1 - y * f)) / beta


def _logistic(f, y):
    return np.logaddexp(WIDE(0), -y * f)


def _exponential(f, y):
    return np.exp(-y * f)


def _cross_entropy(f, y):
    return -y * (f - np.logaddexp.reduce(f, axis=1, keepdims=True))


# loss class, encoding of labels, elements that the loss adds up or averages over the outputs
CASES = {
    "squared": (SquaredLoss, {}, "one_hot", _squared),
    "squared_pm": (SquaredLoss, {"targets": "one_vs_all"}, "one_vs_all", _squared),
    "soft_hinge": (SoftHingeLoss, {}, "one_vs_all", _soft_hinge(20)),
    "soft_hinge_5": (SoftHingeLoss, {"beta": 5}, "one_vs_all", _soft_hinge(5)),
    "logistic": (LogisticLoss, {}, "one_vs_all", _logistic),
    "exponential": (ExponentialLoss, {}, "one_vs_all", _exponential),
    "cross_entropy": (CrossEntropyLoss, {}, "one_hot", _cross_entropy),
    "normalized": (NormalizedSoftmaxLoss, {"factor": 2.0}, "one_hot", _cross_entropy),
}
REDUCE = {"mean": np.mean, "sum": np.sum}


def _data(outputs=5, scale=3.0):
    generator = torch.Generator().manual_seed(0)
    output = scale * torch.randn(7, outputs, dtype=torch.float64, generator=generator)
    labels = torch.randint(0, outputs, (7,), generator=generator)
    return output, labels


@pytest.mark.parametrize("samples", ["mean", "sum"])
@pytest.mark.parametrize("outputs", ["mean", "sum"])
@pytest.mark.parametrize("factor", [1, 0.25])
@pytest.mark.parametrize("case", CASES)
def test_closed_form_and_reductions(case, samples, outputs, factor):
    build, options, kind, elements = CASES[case]
    output, labels = _data()
    factor_given = factor * options.get("factor", 1.0)
    loss = build(**{**options, "samples": samples, "outputs": outputs, "factor": factor_given})
    target = encode_targets(labels, 5, kind, torch.float64)
    values = elements(output.numpy().astype(WIDE), target.numpy().astype(WIDE))
    single = factor * REDUCE[outputs](values, axis=1)
    for given in (labels, target):
        np.testing.assert_allclose(loss.per_sample(output, given), single, rtol=1e-14)
        np.testing.assert_allclose(loss(output, given), REDUCE[samples](single), rtol=1e-14)
    assert loss(output, labels).dtype == torch.float64
    assert loss(output.float(), target).dtype == torch.float32


@pytest.mark.parametrize("build", [SoftHingeLoss, LogisticLoss, ExponentialLoss])
@pytest.mark.parametrize("labels", [[0, 1, 1], [-1, 1, 1]])
def test_one_output_is_binary(build, labels):
    output = torch.tensor([[0.3], [-0.2], [2.0]], dtype=torch.float64)
    signs = torch.tensor([-1.0, 1.0, 1.0])
    expected = build()(output, signs.unsqueeze(1))
    assert build()(output, torch.tensor(labels)) == expected
    assert build(targets="binary")(output, torch.tensor(labels)) == expected
    assert build()(output, signs) == expected


def test_defaults_are_the_papers():
    output, labels = _data(outputs=10)
    one_hot = F.one_hot(labels, 10).double()
    plain = F.cross_entropy(output, labels)
    assert torch.isclose(SquaredLoss()(output, labels), F.mse_loss(output, one_hot))
    assert torch.isclose(CrossEntropyLoss()(output, labels), plain)
    assert torch.isclose(NormalizedSoftmaxLoss()(output, labels), plain / 20)


def test_soft_targets():
    output, _ = _data()
    soft = torch.softmax(output.flip(0), 1)
    expected = -(soft * torch.log_softmax(output, 1)).sum(1)
    torch.testing.assert_close(CrossEntropyLoss().per_sample(output, soft), expected)
    signs = 2 * soft - 1
    expected = F.softplus(-signs * output).mean(1)
    torch.testing.assert_close(LogisticLoss().per_sample(output, signs), expected)


@pytest.mark.parametrize("case", CASES)
def test_copies_and_pickles(case):
    build, options, _, _ = CASES[case]
    output, labels = _data()
    loss = build(**options)
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert other(output, labels) == loss(output, labels)
    assert not loss.state_dict()
    assert "samples='mean'" in repr(loss)


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (SquaredLoss, {"samples": "max"}, "samples must be one of mean, sum, got 'max'"),
        (SquaredLoss, {"outputs": None}, "outputs must be one of mean, sum, got None"),
        (SquaredLoss, {"targets": "pm"}, "targets must be one of one_hot, one_vs_all, binary"),
        (SoftHingeLoss, {"targets": "one_hot"}, "targets must be one of one_vs_all, binary, got"),
        (CrossEntropyLoss, {"targets": "binary"}, "targets must be one of one_hot, got 'binary'"),
        (LogisticLoss, {"factor": 0}, "factor must be finite and above 0, got 0"),
        (LogisticLoss, {"factor": float("nan")}, "factor must be finite and above 0, got nan"),
        (SoftHingeLoss, {"beta": -1.0}, "beta must be finite and above 0, got -1.0"),
    ],
)
def test_bad_options(build, options, message):
    with pytest.raises(InputError, match=message):
        build(**options)


@pytest.mark.parametrize("build", [SquaredLoss, SoftHingeLoss, CrossEntropyLoss])
@pytest.mark.parametrize(
    "target",
    [
        torch.zeros(4),
        torch.zeros(4, 1),
        torch.zeros(3, 4),
        torch.zeros(5, dtype=torch.int64),
        torch.zeros(4, 3, dtype=torch.int64),
    ],
    ids=lambda target: str(tuple(target.shape)),
)
def test_shapes_are_never_broadcast(build, target):
    message = r"target must be integer labels of shape \[4\] or floats of shape \[4, 3\], got"
    with pytest.raises(InputError, match=message):
        build()(torch.zeros(4, 3), target)


def test_shapes_of_outputs():
    with pytest.raises(InputError, match=r"output must be of shape \[batch, outputs\], got \[3\]"):
        SquaredLoss()(torch.zeros(3), torch.zeros(3))
    with pytest.raises(InputError, match="cross entropy must have two outputs or more, got 1"):
        CrossEntropyLoss()(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))
