"""What `torch.func.vmap` can't take, told in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lightning_lazy.errors import InputError

_WORDS = ("vmap", "Batching rule", "data pointer", "functorch")
"""Of these each error has one that is vmap's own, and not one of the module at hand."""


@contextmanager
def refusing_unstackable(what: str) -> Iterator[None]:
    """Turn vmap's errors inside into an `InputError`.

    Args:
        what: What can't be stacked, such as a class of nets.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        known = any(word in str(error) for word in _WORDS)
        if isinstance(error, torch.OutOfMemoryError) or not known:
            raise
        reason = str(error).splitlines()[0]
        raise InputError(
            f"cells of {what} can't be stacked ({reason}): train them one by one, in a multirun of "
            "single runs"
        ) from error
