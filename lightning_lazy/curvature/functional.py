"""A module's outputs as a function of its trained parameters, without touching the module."""

import warnings
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager
from copy import copy
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vjp
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _NormBase

from lightning_lazy.errors import InputError

Parameters = dict[str, Tensor]


class ModelFunction(nn.Module):
    """h(w, batch): what ``forward(module, batch)`` returns with the parameters w.

    Args:
        module: Any module. Its parameters that require gradients are w, each once where they are
            tied; the others and the buffers stay as they are.
        forward: Computes the outputs, a tensor whose first axis is that of the samples.
        dtype: Floating type that everything is computed in; ``None``: that of the module. In double
            precision differences of outputs that agree to six digits can be told from rounding.
    """

    def __init__(
        self,
        module: nn.Module,
        forward: Callable[[Any, Any], Tensor],
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.module = module
        self._compute = forward
        self._dtype = dtype

    def forward(self, batch: Any) -> Tensor:
        """Return the outputs with the module's own parameters."""
        return self._compute(self.module, batch)

    def current(self) -> Parameters:
        """Return the module's own w, detached, in the type of computation."""
        return self.cast(trained_parameters(self.module))

    def cast(self, parameters: Mapping[str, Tensor]) -> Parameters:
        """Return parameters detached and in the type of computation."""
        return {name: self._cast(p.detach()) for name, p in parameters.items()}

    def at(self, parameters: Mapping[str, Tensor], batch: Any) -> Tensor:
        """Return h(parameters, batch), differentiable in ``parameters``.

        Buffers that the module moves inside, such as averages and counts, are copies.
        """
        named = self.module.named_buffers()
        rest = {f"module.{n}": self._cast(value.detach().clone()) for n, value in named}
        if self._dtype is not None:
            for name, p in self.module.named_parameters():
                if name not in parameters:  # those that are not trained
                    rest[f"module.{name}"] = self._cast(p.detach())
        own = {f"module.{name}": self._cast(value) for name, value in parameters.items()}
        output = functional_call(self, rest | own, (cast_floats(batch, self._dtype),))
        if not torch.is_tensor(output):
            raise InputError(
                f"the outputs of {type(self.module).__name__} must be a tensor, got "
                f"{type(output).__name__}: pass a forward function that returns one"
            )
        return output

    def _cast(self, value: Tensor) -> Tensor:
        return value.to(self._dtype) if self._dtype and value.is_floating_point() else value


def trained_parameters(module: nn.Module) -> Parameters:
    """Return the parameters that require gradients, by name; tied ones once."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def cast_floats(batch: Any, dtype: torch.dtype | None) -> Any:
    """Return a batch with all floating tensors in it in ``dtype``; ``None`` leaves it as it is."""
    if dtype is None:
        return batch
    if torch.is_tensor(batch):
        return batch.to(dtype) if batch.is_floating_point() else batch
    if isinstance(batch, MutableMapping):
        cast_batch = copy(batch)  # of the same class, which may give its keys as attributes
        for key, value in batch.items():
            cast_batch[key] = cast_floats(value, dtype)
        return cast_batch
    if isinstance(batch, list | tuple):
        cast = [cast_floats(value, dtype) for value in batch]
        return type(batch)(*cast) if hasattr(batch, "_fields") else cast
    return batch


@contextmanager
def differentiable(module: nn.Module) -> Iterator[None]:
    """Have attention and LSTMs computed by code that can be differentiated in any way.

    The fused kernels for them have first derivatives in reverse mode only.
    """
    lstm = any(isinstance(part, nn.LSTM) for part in module.modules())
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if lstm:
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", message="TF32 acceleration")
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
        yield


@contextmanager
def batch_statistics(module: nn.Module) -> Iterator[None]:
    """Let BatchNorm normalise by the statistics of each batch, without a trace in its averages.

    So the outputs are a function of the parameters and the batch alone, as a linearisation needs;
    running averages would have moved with the training.
    """
    norms = [part for part in module.modules() if isinstance(part, _NormBase)]
    flags = [(norm.training, norm.track_running_stats) for norm in norms]
    try:
        for norm in norms:
            norm.training, norm.track_running_stats = True, False
        yield
    finally:
        for norm, (training, tracking) in zip(norms, flags, strict=True):
            norm.training, norm.track_running_stats = training, tracking


def has_batch_norm(module: nn.Module) -> bool:
    """Return whether outputs in training depend on the other samples of a batch."""
    return any(isinstance(part, _NormBase) for part in module.modules())


@lru_cache(maxsize=1)
def _load_forward_mode() -> None:
    """Have torch script its decompositions for forward mode, without its warning about that."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit.script`")
        jvp(torch.sin, (torch.zeros(()),), (torch.ones(()),))


def directional_derivative(
    function: Callable[[Parameters], Tensor], at: Parameters, direction: Parameters
) -> tuple[Tensor, Tensor]:
    """Return h(w) and Dh(w) v.

    By forward-mode differentiation; where an operation of the net lacks it, by differentiating
    u ↦ Dh(w)ᵀ u, which is linear, in reverse.
    """
    _load_forward_mode()
    try:
        value, change = jvp(function, (at,), (direction,))  # type: ignore[misc]
    except NotImplementedError:
        value, pull_back = vjp(function, at)  # type: ignore[misc]
        _, again = vjp(lambda u: pull_back(u)[0], torch.zeros_like(value))  # type: ignore[misc]
        (change,) = again(direction)
    return value, change
