"""Training loss and error rate of any Lightning module, without a trace."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from lightning_lazy.callbacks._buffers import measured_alike
from lightning_lazy.callbacks._l2 import with_l2
from lightning_lazy.callbacks._probe import default_forward
from lightning_lazy.callbacks._training_loss import (
    LossFunction,
    repeatable,
    silenced,
    training_loss,
)
from lightning_lazy.curvature.functional import batch_statistics
from lightning_lazy.curvature.micro_batches import count_examples
from lightning_lazy.errors import InputError
from lightning_lazy.losses import num_correct

ErrorFunction = Callable[[Any, Any], Any]
_LOSS_FN = "loss_fn=function(module, batch) that returns the loss without the L2 term"
_ERROR_FN = "error_fn=function(module, batch) that returns the share of wrong samples"


@contextmanager
def measuring(trainer: Any, pl_module: Any) -> Iterator[None]:
    """Let loss and outputs be computed as in training, without dropout and the L2 term.

    In the Trainer's precision and without gradients. BatchNorm normalises by the statistics of the
    batch and keeps its averages.
    """
    with ExitStack() as stack:
        for one in (
            measured_alike(pl_module),
            batch_statistics(pl_module),
            silenced(pl_module),
            with_l2(pl_module, 0.0),
            torch.no_grad(),
            trainer.precision_plugin.forward_context(),
        ):
            stack.enter_context(one)
        yield


def error_sums(
    pl_module: Any,
    batches: list[Any],
    loss_fn: LossFunction | None,
    error_fn: ErrorFunction | None,
) -> Tensor:
    """Return Σ n·loss, Σ n·error and Σ n over batches of n samples, in double precision.

    Call it inside `measuring`.

    Args:
        pl_module: The module.
        batches: This rank's batches.
        loss_fn: ``loss_fn(pl_module, batch)``; ``None``: that of ``training_step``.
        error_fn: ``error_fn(pl_module, batch)``, the share of wrong samples; ``None``: by the
            module's outputs.

    Returns:
        Three numbers, on the module's device.

    Raises:
        InputError: There is no telling what the loss or the error is.
    """
    sums = torch.zeros(3, dtype=torch.float64, device=pl_module.device)
    for batch in batches:
        size = count_examples(batch[0] if isinstance(batch, list | tuple) else batch)
        loss, error = _loss_and_error(pl_module, batch, loss_fn, error_fn)
        sums += size * torch.stack([_number(value, sums) for value in (loss, error, 1.0)])
    return sums


def _number(value: Any, like: Tensor) -> Tensor:
    return torch.as_tensor(value).detach().to(like).reshape(())


def _loss_and_error(
    pl_module: Any, batch: Any, loss_fn: LossFunction | None, error_fn: ErrorFunction | None
) -> tuple[Any, Any]:
    if loss_fn is None and error_fn is None and hasattr(pl_module, "minimized_loss"):
        output = default_forward(pl_module, batch)  # once for both
        return pl_module.minimized_loss(output, batch[1]), _error_rate(pl_module, output, batch)
    loss = _tried(loss_fn or repeatable(training_loss), pl_module, batch, "loss", _LOSS_FN)
    if error_fn is not None:
        return loss, error_fn(pl_module, batch)
    output = _tried(default_forward, pl_module, batch, "error", _ERROR_FN)
    return loss, _error_rate(pl_module, output, batch)


def _tried(function: Callable[..., Any], pl_module: Any, batch: Any, what: str, remedy: str) -> Any:
    """Call a function; say how to help if that fails."""
    try:
        return function(pl_module, batch)
    except InputError:
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise _cannot_tell(pl_module, what, reason, remedy) from error


def _error_rate(pl_module: Any, output: Any, batch: Any) -> Tensor:
    """Return the share of samples whose largest output is not that of their class."""
    target = batch[1] if isinstance(batch, list | tuple) and len(batch) > 1 else None
    if not torch.is_tensor(output) or output.dim() != 2 or not torch.is_tensor(target):
        raise _no_error(pl_module, "its outputs and targets are not one row and one class a sample")
    if target.is_floating_point():
        if not _are_shares(target, output):
            raise _no_error(pl_module, "its targets are no classes")
    elif target.shape != output.shape[:1]:
        raise _no_error(pl_module, f"its targets are of shape {list(target.shape)}")
    return 1 - num_correct(output, target).double().mean()


def _are_shares(target: Tensor, output: Tensor) -> bool:
    """Return whether floats are shares of two classes or more."""
    if target.shape != output.shape or output.shape[1] == 1:
        return False
    sums = target.double().sum(1)
    return bool((target >= 0).all() and torch.allclose(sums, torch.ones_like(sums), atol=1e-2))


def _no_error(pl_module: Any, reason: str) -> InputError:
    return _cannot_tell(pl_module, "error", reason, _ERROR_FN)


def _cannot_tell(pl_module: Any, what: str, reason: str, remedy: str) -> InputError:
    return InputError(
        f"AutoL2 can't tell the training {what} of {type(pl_module).__name__} ({reason}): pass "
        f"{remedy}"
    )
