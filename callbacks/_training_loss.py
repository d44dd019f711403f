"""The loss of any Lightning module as a function that leaves no trace."""

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

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
    wanted = inspect.signature(pl_module.training_step).parameters
    output = pl_module.training_step(*(batch, 0)[: max(1, len(wanted))])
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


@contextmanager
def silenced(pl_module: Any) -> Iterator[None]:
    """Let ``training_step`` run without logging and without a trace in metrics and buffers.

    ``log`` and ``log_dict`` do nothing inside. What a module writes elsewhere (its logger's
    experiment, lists of its own) can't be seen from here: then pass ``loss_fn``.
    """
    metrics = [part for part in pl_module.modules() if isinstance(part, Metric)]
    kept = [_metric_state(metric) for metric in metrics]
    buffers = [(buffer, buffer.detach().clone()) for buffer in pl_module.buffers()]
    pl_module.log = pl_module.log_dict = _do_nothing
    try:
        yield
    finally:
        del pl_module.log, pl_module.log_dict
        for metric, state in zip(metrics, kept, strict=True):
            for name, value in state.items():
                setattr(metric, name, value)
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


def _metric_state(metric: Metric) -> dict[str, Any]:
    """Return everything of a metric that an update changes."""
    private = {
        name: getattr(metric, name) for name in ("_update_count", "_computed", "_forward_cache")
    }
    return private | {name: copy.deepcopy(value) for name, value in metric.metric_state.items()}


def _do_nothing(*_: Any, **__: Any) -> None:
    """Stand in for ``log``."""
