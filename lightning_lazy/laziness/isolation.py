"""Measuring a module without leaving a trace in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_lazy.random_state import same_random_state_after


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Put ``module`` in evaluation mode inside, and everything back outside.

    Train/eval flags of every submodule and the global random number generators are as before on
    exit, also after an exception. In evaluation mode no BatchNorm buffer moves.

    Inside, modules with a true flag ``inplace`` work out of place, which gives the same numbers and
    leaves the inputs of the measurement as they are. Compiled code does not see hooks, so that
    compiled modules run as if they were not.
    """
    flags = [(part, part.training) for part in module.modules()]
    overwriting = in_place_modules(module).values()
    with same_random_state_after(), torch.compiler.set_stance("force_eager"):
        try:
            module.eval()
            for part in overwriting:
                part.inplace = False
            yield
        finally:
            for part, training in flags:
                part.training = training
            for part in overwriting:
                part.inplace = True


def in_place_modules(module: nn.Module) -> dict[str, Any]:
    """Return by name the modules inside ``module`` whose flag says that they overwrite inputs."""
    return {
        name: part
        for name, part in module.named_modules()
        if getattr(part, "inplace", False) is True
    }


def mixes_samples(module: nn.Module) -> bool:
    """Return whether outputs in evaluation mode depend on the other samples of a batch.

    So they do with BatchNorm that keeps no running averages.
    """
    return any(
        isinstance(part, _BatchNorm) and part.running_mean is None for part in module.modules()
    )
