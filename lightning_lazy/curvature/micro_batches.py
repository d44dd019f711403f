"""Batches in parts, and operators that are sums over such parts."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, MutableMapping, Sequence
from copy import copy
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
        # Of the same class where that can be, which may give its keys as attributes.
        part = copy(batch) if isinstance(batch, MutableMapping) else dict(batch)
        for key, value in batch.items():
            part[key] = _part(value, examples)
        return part
    if isinstance(batch, list | tuple):
        parts = [_part(value, examples) for value in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)
    return batch


class MicroBatchOperator(ABC):
    """A symmetric operator on flat vectors of parameters: a weighted sum over micro-batches.

    Args:
        parameters: By name, of one floating type on one device; copied.
        batches: Micro-batches.
        weights: Of the batches; ``None``: equal ones that add up to 1.
        max_examples_at_once: Batches with more examples are split, and their weights with them.
        reduce: Adds a tensor up over all processes.

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
        max_examples_at_once: int | None = None,
        reduce: Reduce = identity,
    ) -> None:
        _check_parameters(parameters)
        if weights is None:
            if not batches:
                raise InputError("batches must not be empty, got none; pass at least one")
            weights = [1 / len(batches)] * len(batches)
        if len(weights) != len(batches):
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
        self._batches, self._weights = batches, weights
        if max_examples_at_once is not None:
            self._batches, self._weights = _split_all(batches, weights, max_examples_at_once)
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


def _split_all(
    batches: Sequence[Any], weights: Sequence[float], max_examples_at_once: int
) -> tuple[list[Any], list[float]]:
    """Return all parts of all batches, with their shares of the weights."""
    all_parts, shares = [], []
    for batch, weight in zip(batches, weights, strict=True):
        parts = split_batch(batch, max_examples_at_once)
        all_parts += parts
        total = count_examples(batch)
        shares += [weight * count_examples(part) / total for part in parts]
    return all_parts, shares


def _check_parameters(parameters: Parameters) -> None:
    if not parameters:
        raise InputError("parameters must not be empty, got none; pass those that are trained")
    kinds = {(str(p.dtype), str(p.device)) for p in parameters.values()}
    if len(kinds) > 1 or not next(iter(parameters.values())).is_floating_point():
        raise InputError(
            "parameters must be of one floating type on one device, got "
            f"{', '.join(' on '.join(kind) for kind in sorted(kinds))}; convert them first"
        )
