"""Class labels as float targets, and which samples a net gets right."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_lazy.checks import check_choice
from lightning_lazy.errors import InputError

Targets = Literal["one_hot", "one_vs_all", "binary"]


def encode_targets(
    labels: Tensor, num_outputs: int, kind: Targets, dtype: torch.dtype | None = None
) -> Tensor:
    """Encode integer class labels as the float targets of a loss.

    Args:
        labels: integers or bools, shape `[batch]`: classes 0 … k - 1 or, for a single output, 0/1
            or -1/+1. Their range is checked on the CPU only. On a GPU a check would wait for the
            device in every step; there a wrong class ends in CUDA's own assertion, and with a
            single output the sign of a label decides.
        num_outputs: outputs of the net, k.
        kind: `one_hot`: 1 at the label, else 0. `one_vs_all`: +1 at the label, else -1; with k = 1
            the same as `binary`. `binary`: +1 where the label is above 0, else -1, for k = 1.
        dtype: of the result; None for torch's default.

    Returns:
        The targets, shape `[batch, num_outputs]`, on the device of the labels.

    Raises:
        InputError: labels that are not integers, of another shape or out of range, or an encoding
            that does not fit the number of outputs.

    Examples:
        >>> encode_targets(torch.tensor([2, 0]), 3, "one_vs_all")
        tensor([[-1., -1.,  1.],
                [ 1., -1., -1.]])
    """
    check_choice("kind", kind, get_args(Targets))
    if kind != "one_vs_all" and (kind == "binary") != (num_outputs == 1):
        wanted = "one output" if kind == "binary" else "two outputs or more"
        remedy = "binary" if num_outputs == 1 else "one_vs_all"
        raise InputError(
            f"targets={kind!r} must have {wanted}, got {num_outputs}; use targets={remedy!r}"
        )
    index = class_index(labels)
    dtype = dtype or torch.get_default_dtype()
    if num_outputs == 1:
        _check_binary(labels)
        return (labels > 0).to(dtype).mul_(2).sub_(1).unsqueeze(1)
    off = 0.0 if kind == "one_hot" else -1.0
    targets = torch.full((len(labels), num_outputs), off, dtype=dtype, device=labels.device)
    try:
        return targets.scatter(1, index.unsqueeze(1), 1.0)
    except RuntimeError as error:
        raise label_error(labels, num_outputs, error) from error


def class_index(labels: Tensor) -> Tensor:
    """Labels as int64, shape `[batch]`.

    Raises:
        InputError: labels that are not integers or of another shape.
    """
    if labels.is_floating_point() or labels.is_complex() or labels.dim() != 1:
        raise InputError(
            f"labels must be integers of shape [batch], got {labels.dtype} of shape "
            f"{list(labels.shape)}; pass class labels, or float targets of the output's shape"
        )
    return labels.long()


def label_error(labels: Tensor, num_outputs: int, error: Exception) -> Exception:
    """Return an `InputError` if torch's `error` says that labels are out of range, else `error`."""
    if "out of bounds" not in str(error):
        return error
    return InputError(
        f"labels must lie between 0 and {num_outputs - 1} for a net with {num_outputs} outputs, "
        f"got {int(labels.min())} to {int(labels.max())}; match the outputs to the classes"
    )


def _check_binary(labels: Tensor) -> None:
    if labels.dtype == torch.bool or labels.device.type != "cpu" or not len(labels):
        return
    try:
        low, high = (int(end) for end in labels.aminmax())
    except RuntimeError:  # within torch.func.vmap labels have no value to look at
        return
    if low < -1 or high > 1:
        raise InputError(
            f"labels of a net with one output must be 0/1 or -1/+1, got {low} to {high}; "
            "make the task binary, or give the net an output for each class"
        )


def num_correct(output: Tensor, target: Tensor) -> Tensor:
    """Tell for each sample whether the predicted class is the target's.

    With several outputs the prediction is the argmax (the first one of equals, so that an output of
    zeros stands at chance level), and so is the class of a float target. With one output the
    prediction is positive where the output is above 0, the target where it is above 0.

    Args:
        output: shape `[batch, outputs]`.
        target: integer labels `[batch]` or float targets of the output's shape.

    Returns:
        Bools of shape `[batch]`; their sum is the number of correct samples.

    Examples:
        >>> num_correct(torch.tensor([[1.0, 2.0], [4.0, 3.0]]), torch.tensor([1, 1]))
        tensor([ True, False])
    """
    if output.shape[1] == 1:
        return (output.squeeze(1) > 0) == (target.reshape(-1) > 0)
    if target.is_floating_point():
        target = target.argmax(1)
    return output.argmax(1) == target


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """Share of samples that `num_correct` calls correct: a scalar in the output's dtype."""
    return num_correct(output, target).to(output.dtype).mean()
