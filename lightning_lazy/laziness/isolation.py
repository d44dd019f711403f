"""Measuring a module without leaving a trace in it."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from lightning_lazy.random_state import same_random_state_after


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Put ``module`` in evaluation mode inside, and everything back outside.

    Train/eval flags of every submodule and the global random number generators are as before on
    exit, also after an exception. In evaluation mode no BatchNorm buffer moves.
    """
    flags = [(part, part.training) for part in module.modules()]
    with same_random_state_after():
        try:
            module.eval()
            yield
        finally:
            for part, training in flags:
                part.training = training
