"""Whether the weight decay of an optimizer is L2 regularisation."""

from __future__ import annotations

import copy
from collections import OrderedDict, defaultdict
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_lazy.random_state import same_random_state_after

_DECAY, _STEPS = 0.1, 3


def is_coupled(optimizer: Optimizer) -> bool:
    """Tell by trial whether weight decay λ takes the steps of a loss with ½·λ·‖θ‖² added.

    That is its definition: the optimizer's own `step` takes small tensors along the same path,
    whether λ stands in the parameter group or λ·θ in the gradient. SGD does, Adam does, AdamW does
    not. A single step would not tell decay outside of momentum. The optimizer itself, its state and
    its hooks stay as they are.

    Args:
        optimizer: any with `weight_decay` in its groups, before or after any number of steps.

    Returns:
        Whether it holds in every group.

    Raises:
        TypeError: the optimizer wraps another one, which a trial would step.
        Exception: whatever `step` raises on parameters that it is not made for.

    Examples:
        >>> weights = [torch.zeros(2, 2, requires_grad=True)]
        >>> is_coupled(torch.optim.Adam(weights)), is_coupled(torch.optim.AdamW(weights))
        (True, False)
    """
    if any(isinstance(part, Optimizer) for part in vars(optimizer).values()):
        raise TypeError("it wraps another optimizer")
    with torch.no_grad(), same_random_state_after():
        paths = [_end_of_path(optimizer, decay) for decay in (_DECAY, 0.0)]
    return all(
        torch.allclose(one, other, rtol=1e-9, atol=0.0) for one, other in zip(*paths, strict=True)
    )


def _end_of_path(optimizer: Optimizer, decay: float) -> list[Tensor]:
    """Return what the steps make of a tensor a group, with the rest of λ·θ in the gradient."""
    trial = _without_state(optimizer)
    trial.param_groups = [_small_group(group, decay) for group in optimizer.param_groups]
    for step in range(_STEPS):
        for group in trial.param_groups:
            (param,) = group["params"]
            param.grad = torch.cos(step + param) + (_DECAY - decay) * param
        type(trial).step(trial)  # type: ignore[call-arg]
    return [group["params"][0] for group in trial.param_groups]


def _without_state(optimizer: Optimizer) -> Optimizer:
    """Return an optimizer like this one that has not stepped and has no hooks."""
    trial = object.__new__(type(optimizer))
    trial.__dict__.update(vars(optimizer))
    trial.state = defaultdict(dict)
    trial._optimizer_step_pre_hooks = OrderedDict()
    trial._optimizer_step_post_hooks = OrderedDict()
    return trial


def _small_group(group: dict[str, Any], decay: float) -> dict[str, Any]:
    """Return a group with the options of this one and a tensor of as many axes, of length 2."""
    first = group["params"][0]
    shape = (2,) * first.dim()
    values = torch.linspace(1, 2, 2 ** first.dim(), dtype=torch.float64, device=first.device)
    own = copy.deepcopy({key: value for key, value in group.items() if key != "params"})
    own |= {"params": [values.reshape(shape)], "lr": 0.1, "weight_decay": decay}
    return own | ({"maximize": False} if "maximize" in own else {})
