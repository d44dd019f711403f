"""Batches in parts, and operators that are sums over such parts."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_lazy.checks import check_size
from lightning_lazy.curvature.functional import Parameters
from lightning_lazy.curvature.vectors import Reduce, as_dict, identity
from lightning_lazy.errors import InputError


def count_examples(batch: Any) -> int:
    """Return the length of the first axis that all tensors of a batch share.

    Tensors without axes, and what is no tensor, do not count.

    Raises:
        InputError: There are no such tensors, or their lengths differ.
    """
    lengths = set(_lengths(batch))
    if len(lengths) != 1:
        raise InputError(
            "a batch must hold tensors with one length of their first axis, got "
            f"{sorted(lengths) or 'none'}; split it into micro-batches by hand"
        )
    return lengths.pop()


def split_batch(batch: Any, max_examples_at_once: int) -> list[Any]:
    """Return a batch in micro-batches of at most ``max_examples_at_once`` examples, in order.

    Args:
        batch: A tensor, or tensors in tuples, lists and dictionaries, with the examples along
            their first axis. What has no such axis is in every part.
        max_examples_at_once: Largest number of examples in a part; only the last may hold fewer.

    Raises:
        InputError: The number is below 1, or the tensors' lengths differ.
    """
    check_size("max_examples_at_once", max_examples_at_once)
    starts = range(0, count_examples(batch), max_examples_at_once)
    return [_part(batch, slice(first, first + max_examples_at_once)) for first in starts]


def _lengths(batch: Any) -> list[int]:
    if torch.is_tensor(batch):
        return [len(batch)] if batch.ndim else []
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    if isinstance(batch, list | tuple):
        return [length for value in batch for length in _lengths(value)]
    return []


def _part(batch: Any, examples: slice) -> Any:
    if torch.is_tensor(batch):
        return batch[examples] if batch.ndim else batch
    if isinstance(batch, Mapping):
        return {key: _part(value, examples) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        parts = [_part(value, examples) for value in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch


class MicroBatchOperator(ABC):
    """A symmetric operator on flat vectors of parameters: a weighted sum over micro-batches.

    Attributes:
        dim: Number of parameters, all of them.
        device: Where they live.
        dtype: Their type.
        products: How often the operator was applied.
    """

    def __init__(
        self,
        parameters: Parameters,
        batches: Sequence[Any],
        weights: Sequence[float] | None = None,
        reduce: Reduce = identity,
    ) -> None:
        _check_parameters(parameters)
        if weights is not None and len(weights) != len(batches):
            raise InputError(
                f"expected a weight for each of {len(batches)} batches, got {len(weights)}; pass "
                "the share of the samples in each, or None for equal ones"
            )
        first = next(iter(parameters.values()))
        self.dim = sum(p.numel() for p in parameters.values())
        self.device, self.dtype = first.device, first.dtype
        self.products = 0
        # A copy: the operator stays the same when training goes on.
        self._at = {name: p.detach().clone() for name, p in parameters.items()}
        self._batches = batches
        self._weights = [1 / len(batches)] * len(batches) if weights is None else weights
        self._reduce = reduce

    def __call__(self, vector: Tensor) -> Tensor:
        """Return the product with a vector of shape ``(dim,)``, as such a vector.

        Raises:
            InputError: The vector has another shape, or an operation of the net can't be
                differentiated as this takes.
        """
        if vector.shape != (self.dim,):
            raise InputError(
                f"expected a vector of shape [{self.dim}], got {list(vector.shape)}; flatten the "
                "parameters in their order"
            )
        self.products += 1
        direction = as_dict(vector.detach().to(self.device, self.dtype), self._at)
        total = torch.zeros(self.dim, device=self.device, dtype=self.dtype)
        for number, weight in enumerate(self._weights):
            total.add_(self._product(number, direction), alpha=weight)
        return self._reduce(total)

    @abstractmethod
    def _product(self, number: int, direction: Parameters) -> Tensor:
        """Return the product of one micro-batch's operator, flat."""


def _check_parameters(parameters: Parameters) -> None:
    if not parameters:
        raise InputError("parameters must not be empty, got none; pass those that are trained")
    kinds = {(str(p.dtype), str(p.device)) for p in parameters.values()}
    if len(kinds) > 1 or not next(iter(parameters.values())).is_floating_point():
        raise InputError(
            "parameters must be of one floating type on one device, got "
            f"{', '.join(' on '.join(kind) for kind in sorted(kinds))}; convert them first"
        )
