"""Jacobians of a model's outputs in its parameters, sample by sample."""

import math
import warnings
from collections.abc import Callable, MutableMapping
from copy import copy
from typing import Any

import torch
from torch import Tensor
from torch.func import jacrev, vmap

from lightning_lazy.curvature.functional import Parameters

Function = Callable[[Parameters, Any], Tensor]


def sample_jacobian(function: Function, at: Parameters, batch: Any, names: list[str]) -> Tensor:
    """Return the Jacobian of h on a batch in some parameters, shape (n, o, p).

    By backward passes over single samples, all at once, if outputs and derivatives of a sample
    alone are those that it has in the batch. Else by one over the batch for every sample and
    output, which costs many times more; if that is so because the net's code fails on a sample, a
    warning says why.

    Args:
        function: ``function(w, batch)`` gives h(w) on a batch, shape ``[n, o]``.
        at: w, leaves that require gradients.
        batch: Inputs; the samples stand along the first axis of tensors.
        names: Names of the parameters.
    """
    values = function(at, batch)
    try:
        jacobian, found = _by_sample(function, at, batch, names, len(values))
    except Exception as error:  # what code that is fit for a batch does with one sample is open
        warn_slower("Jacobians take a backward pass for every sample and output", error)
        return _by_row(values, at, names)
    if found.shape[1:2] == (1,) and _is_that_of_batch(jacobian, found[:, 0], values, at, names):
        return jacobian
    return _by_row(values, at, names)


def _is_that_of_batch(
    jacobian: Tensor, found: Tensor, values: Tensor, at: Parameters, names: list[str]
) -> bool:
    """Return whether outputs, and gradients of one combination of them, are those in the batch.

    Derivatives can be wrong without a word where several are taken at once: those of torch 2.14's
    `rms_norm` are.
    """
    close = math.sqrt(torch.finfo(values.dtype).eps)
    wanted = values.detach()
    if not bool(((found - wanted).abs() <= close * wanted.abs().max()).all()):
        return False
    generator = torch.Generator().manual_seed(0)
    signs = torch.randn(values.shape, generator=generator, dtype=torch.float64).to(wanted)
    expected = gradient((values * signs).sum(), at, names)
    sums = torch.einsum("no,nop->p", signs, jacobian)
    parts = torch.split(sums, [part.numel() for part in expected])
    pairs = zip(parts, expected, strict=True)
    return all(bool((a - b.flatten()).norm() <= close * b.norm()) for a, b in pairs)


def warn_slower(what: str, error: Exception) -> None:
    """Warn that a net's code, which works on batches, fails in a faster way."""
    told = str(error).partition("\n")[0][:200]
    warnings.warn(
        f"{what}, since the net's code fails on a faster way ({type(error).__name__}: {told})",
        stacklevel=3,
    )


def gradient(value: Tensor, at: Parameters, names: list[str]) -> tuple[Tensor, ...]:
    """Return the gradient of a number in some parameters, zero in those it does not depend on."""
    leaves = [at[name] for name in names]
    if not value.requires_grad:
        return tuple(map(torch.zeros_like, leaves))
    return torch.autograd.grad(
        value, leaves, retain_graph=True, allow_unused=True, materialize_grads=True
    )


def split_parameters(at: Parameters, names: list[str]) -> tuple[Parameters, Parameters]:
    """Return the parameters in ``names`` and the others, detached."""
    chosen = {name: at[name].detach() for name in names}
    return chosen, {name: p.detach() for name, p in at.items() if name not in chosen}


def _by_sample(
    function: Function, at: Parameters, batch: Any, names: list[str], samples: int
) -> tuple[Tensor, Tensor]:
    """Return the Jacobian, and the outputs of samples alone, shape (n, 1, o)."""
    chosen, rest = split_parameters(at, names)

    def output(own: Parameters, place: Tensor) -> tuple[Tensor, Tensor]:
        value = function(rest | own, _sample(batch, place, samples))
        return value[0], value

    def rows(place: Tensor) -> tuple[Parameters, Tensor]:
        return jacrev(output, has_aux=True)(chosen, place)

    device = next(iter(at.values())).device
    jacobian, found = vmap(rows)(torch.arange(samples, device=device))
    return torch.cat([jacobian[name].flatten(2) for name in names], dim=2), found


def _by_row(values: Tensor, at: Parameters, names: list[str]) -> Tensor:
    rows = [gradient(value, at, names) for value in values.flatten()]
    return torch.stack([torch.cat([g.flatten() for g in row]) for row in rows]).view(
        *values.shape, -1
    )


def _sample(batch: Any, place: Tensor, size: int) -> Any:
    """Return the batch of one sample: row ``place`` of all tensors of ``size`` rows."""
    if torch.is_tensor(batch):
        alike = batch.dim() > 0 and len(batch) == size
        return batch.index_select(0, place.view(1)) if alike else batch
    if isinstance(batch, MutableMapping):
        row = copy(batch)  # of the same class, which may give its keys as attributes
        for key, value in batch.items():
            row[key] = _sample(value, place, size)
        return row
    if isinstance(batch, list | tuple):
        parts = [_sample(value, place, size) for value in batch]
        return type(batch)(*parts) if hasattr(batch, "_fields") else parts
    return batch
