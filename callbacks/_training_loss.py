"""The loss of any Lightning module as a function that leaves no trace."""

import copy
import inspect
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from lightning_lazy.errors import InputError

LossFunction = Callable[[Any, Any], Tensor]


def training_loss(pl_module: Any, batch: Any) -> Tensor:
    """Return the loss of a batch: the module's ``loss_of(batch)``, else its ``training_step``.

    Call it inside `silenced`.

    Raises:
        InputError: ``training_step`` returns no loss.
    """
    if hasattr(pl_module, "loss_of"):
        return pl_module.loss_of(batch)
    wanted = inspect.signature(pl_module.training_step).parameters.values()
    only_batch = len(wanted) == 1 and all(p.kind is not p.VAR_POSITIONAL for p in wanted)
    output = pl_module.training_step(batch) if only_batch else pl_module.training_step(batch, 0)
    loss = output.get("loss") if isinstance(output, dict) else output
    if not torch.is_tensor(loss):
        raise InputError(
            f"{type(pl_module).__name__}.training_step returned {type(loss).__name__}, not a loss: "
            "pass loss_fn=function(module, batch) to the callback"
        )
    return loss


def refuse_manual_optimization(pl_module: Any, callback: str) -> None:
    """Raise an `InputError` if ``training_step`` would step the optimizers itself."""
    if not pl_module.automatic_optimization and not hasattr(pl_module, "loss_of"):
        raise InputError(
            f"{callback} can't call the training_step of {type(pl_module).__name__}, which "
            "optimises by itself (automatic_optimization=False): pass loss_fn=function(module, "
            "batch)"
        )


def repeatable(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a function that draws the same random numbers in every call.

    A loss that draws (noise, masks, mixed-up samples) is then one function of the parameters. Call
    it where the random state is restored afterwards.
    """

    def same_draws(*arguments: Any) -> Tensor:
        random.seed(0)
        np.random.seed(0)
        torch.default_generator.manual_seed(0)
        # `torch.manual_seed` takes a millisecond where there is no GPU.
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.manual_seed_all(0)
        return function(*arguments)

    return same_draws


@contextmanager
def silenced(pl_module: Any) -> Iterator[None]:
    """Let ``training_step`` run without logging and without a trace in metrics and buffers.

    Inside, ``log`` and ``log_dict`` do nothing, and metrics are copies. What a module writes
    elsewhere (its logger's experiment, lists of its own) can't be seen from here: then pass
    ``loss_fn``.

    Raises:
        InputError: On exit, parameters that are not trained were moved.
    """
    metrics = list(_metrics(pl_module))
    buffers = [
        (part, name, buffer, buffer.detach().clone())
        for part in pl_module.modules()
        for name, buffer in part.named_buffers(recurse=False)
    ]
    frozen = _sums(pl_module)
    pl_module.log = pl_module.log_dict = _do_nothing
    for (parent, name, _), metric in zip(metrics, _fresh_copies(metrics), strict=True):
        setattr(parent, name, metric)
    try:
        yield
    finally:
        del pl_module.log, pl_module.log_dict
        for parent, name, metric in metrics:
            setattr(parent, name, metric)
        with torch.no_grad():
            for part, name, buffer, value in buffers:
                setattr(part, name, buffer)
                if not buffer.is_inference():  # those can't be written to, so they were not
                    buffer.copy_(value)
    if not torch.equal(frozen, _sums(pl_module)):
        raise InputError(
            f"{type(pl_module).__name__}.training_step moves parameters that are not trained, as a "
            "measurement must not: pass loss_fn=function(module, batch) to the callback"
        )


def _metrics(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Give outermost metrics and collections of them, each with its parent and all its names."""
    for name, child in module._modules.items():
        if isinstance(child, Metric | MetricCollection):
            yield module, name, child
        elif child is not None:
            yield from _metrics(child)


def _fresh_copies(metrics: list[tuple[nn.Module, str, nn.Module]]) -> list[nn.Module]:
    """Return copies of metrics that have seen nothing."""
    parts = [part for *_, one in metrics for part in one.modules() if isinstance(part, Metric)]
    # What the metrics have seen, and what they made of it, need not be copied.
    tensors: list[Tensor] = []
    for part in parts:
        held = [part.metric_state, part._computed, part._forward_cache]
        apply_to_collection(held, Tensor, tensors.append)
    known = {id(tensor): tensor for tensor in tensors}
    # All at once, since some share their parts.
    copies: list[nn.Module] = copy.deepcopy([one for *_, one in metrics], known)
    for inner in (inner for module in copies for inner in module.modules()):
        if isinstance(inner, Metric):
            inner.reset()
    return copies


def _sums(module: nn.Module) -> Tensor:
    """Return the sums of parameters that are not trained, which tell whether they moved."""
    frozen = [p for p in module.parameters() if not p.requires_grad and p.is_floating_point()]
    return torch.tensor([p.detach().sum(dtype=torch.float64).nan_to_num() for p in frozen])


def _do_nothing(*_: Any, **__: Any) -> None:
    """Stand in for ``log``."""
