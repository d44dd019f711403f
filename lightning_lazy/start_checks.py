"""What model, data and optimizer do not take of each other, said before training starts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lightning_lazy.data.memory import MemoryDataModule
from lightning_lazy.errors import InputError
from lightning_lazy.laziness import undisturbed
from lightning_lazy.nested import leaves


@contextmanager
def default_dtype(precision: Any) -> Iterator[None]:
    """Initialise weights in double precision where the run is in double precision."""
    before = torch.get_default_dtype()
    if str(precision) in ("64", "64-true"):
        torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def check_optimizer(module: Any, plain: dict[str, Any]) -> None:
    """Say before training starts what the optimizer or the schedule does not accept."""
    try:
        module.configure_optimizers()
    except InputError:
        raise
    except (TypeError, ValueError, LookupError) as error:
        given = ", ".join(
            f"{part}.{path}={value}"
            for part in ("optimizer", "schedule")
            for path, value in leaves(plain.get(part) or {}).items()
            if path and path[0] != "_"
        )
        raise InputError(
            f"can't build the optimizer or its schedule: {error}; change one of {given}"
        ) from error


def check_shapes(module: Any, data: Any, precision: Any) -> None:
    """Say before training starts that the model does not take the images.

    Raises:
        InputError: It does not, or its outputs are not as many as the task needs.
    """
    if not isinstance(data, MemoryDataModule):
        return
    with default_dtype(precision), undisturbed(module), torch.no_grad():
        x, y = data.transform(data.val_set.__getitems__([0, len(data.val_set) - 1]))
        try:
            module.loss(module.net(x), y)
        except InputError:
            raise
        except (RuntimeError, ValueError, TypeError) as error:
            raise InputError(
                f"the model does not take images of shape {list(x.shape[1:])}, or its outputs do "
                f"not fit the labels ({str(error).splitlines()[0]}): change model or data (data."
                "flatten, data.resolution)"
            ) from error
