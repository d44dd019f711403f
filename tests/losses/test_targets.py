"""Encodings of labels and the count of correct samples. Oracle: written out by hand."""

import pytest
import torch

from lightning_lazy.errors import InputError
from lightning_lazy.losses import (
    CrossEntropyLoss,
    SoftHingeLoss,
    SquaredLoss,
    accuracy,
    encode_targets,
    num_correct,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("labels", "outputs", "kind", "expected"),
    [
        ([2, 0], 3, "one_hot", [[0, 0, 1], [1, 0, 0]]),
        ([2, 0], 3, "one_vs_all", [[-1, -1, 1], [1, -1, -1]]),
        ([0, 1, 1], 1, "binary", [[-1], [1], [1]]),
        ([-1, 1, 1], 1, "binary", [[-1], [1], [1]]),
        ([0, 1], 1, "one_vs_all", [[-1], [1]]),
        ([], 3, "one_vs_all", torch.zeros(0, 3).tolist()),
        ([], 1, "binary", torch.zeros(0, 1).tolist()),
    ],
)
def test_encodings(labels, outputs, kind, expected, dtype):
    encoded = encode_targets(torch.tensor(labels, dtype=torch.int64), outputs, kind, dtype)
    reference = torch.tensor(expected, dtype=dtype).reshape(len(labels), outputs)
    assert encoded.dtype == dtype
    assert torch.equal(encoded, reference)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.bool])
def test_labels_of_any_integer_type(dtype):
    labels = torch.tensor([0, 1, 1])
    wide = encode_targets(labels, 2, "one_hot")
    assert torch.equal(encode_targets(labels.to(dtype), 2, "one_hot"), wide)
    narrow = encode_targets(labels, 1, "binary")
    assert torch.equal(encode_targets(labels.to(dtype), 1, "binary"), narrow)


def test_default_dtype_is_that_of_torch():
    assert encode_targets(torch.tensor([0]), 2, "one_hot").dtype == torch.get_default_dtype()


@pytest.mark.parametrize("label", [3, -1, -100])
@pytest.mark.parametrize("loss", [SquaredLoss(), SoftHingeLoss(), CrossEntropyLoss()], ids=repr)
def test_label_out_of_range(loss, label):
    message = "labels must lie between 0 and 2 for a net with 3 outputs, got"
    with pytest.raises(InputError, match=message):
        loss(torch.zeros(2, 3), torch.tensor([0, label]))
    with pytest.raises(InputError, match=message):
        loss.per_sample(torch.zeros(2, 3), torch.tensor([0, label]))


def test_label_of_ten_classes_for_one_output():
    with pytest.raises(InputError, match="must be 0/1 or -1/.1, got 0 to 9"):
        encode_targets(torch.arange(10), 1, "binary")


@pytest.mark.parametrize(
    ("labels", "outputs", "kind", "message"),
    [
        (torch.tensor([0]), 3, "ordinal", "kind must be one of one_hot, one_vs_all, binary"),
        (torch.tensor([0]), 1, "one_hot", "must have two outputs or more, got 1; .*'binary'"),
        (torch.tensor([0]), 3, "binary", "must have one output, got 3; .*'one_vs_all'"),
        (torch.tensor([0.0]), 3, "one_hot", "labels must be integers of shape .batch., got"),
        (torch.tensor([[0]]), 3, "one_hot", "labels must be integers of shape .batch., got"),
    ],
)
def test_bad_encodings(labels, outputs, kind, message):
    with pytest.raises(InputError, match=message):
        encode_targets(labels, outputs, kind)


def test_an_error_that_is_not_about_the_range_is_passed_on(monkeypatch):
    def fail(*args):
        raise RuntimeError("something else")

    monkeypatch.setattr(torch.Tensor, "scatter", fail)
    with pytest.raises(RuntimeError, match="something else"):
        encode_targets(torch.tensor([0]), 2, "one_hot")


@pytest.mark.parametrize(
    ("output", "target", "expected"),
    [
        ([[1, 2], [4, 3], [0, 0]], torch.tensor([1, 1, 0]), [True, False, True]),
        ([[1, 2], [4, 3]], torch.tensor([[0.3, 0.7], [0.4, 0.6]]), [True, False]),
        ([[0.5], [-2], [0], [3]], torch.tensor([1, 0, 0, 0]), [True, True, True, False]),
        ([[0.5], [-2], [0.1]], torch.tensor([1, -1, -1]), [True, True, False]),
        ([[0.5], [-2]], torch.tensor([[1.0], [1.0]]), [True, False]),
        ([[0.5], [-2]], torch.tensor([-1.0, -1.0]), [False, True]),
    ],
)
def test_num_correct(output, target, expected):
    output = torch.tensor(output, dtype=torch.float64)
    assert num_correct(output, target).tolist() == expected
    share = accuracy(output, target)
    assert share.dtype == output.dtype
    assert share.item() == pytest.approx(sum(expected) / len(expected))
