"""What makes a grid another one than others, so that results of two are never mixed."""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from lightning_lazy.random_state import same_random_state_after
from lightning_lazy.stacked.chunk import Schedule
from lightning_lazy.stacked.grid import Grid
from lightning_lazy.stacked.stack import Batch, Task


@torch.no_grad()
def describe(
    grid: Grid,
    schedule: Schedule,
    task: Task,
    test: Sequence[Batch],
    *,
    net: Callable[..., nn.Module],
    hessian: str,
) -> dict[str, Any]:
    """Return plain containers that are equal for two runs of one grid, and as json knows them.

    Data are told apart by their shape, labels and mean size of the inputs, nets by how they are
    printed and the mean size of their first weights, losses by how they are printed and a value,
    which are the same on every machine.

    Args:
        grid: The grid, all its shards.
        schedule: When what happens in a cell.
        task: What the cells learn.
        test: Batches (x, y) that they are tested on.
        net: Makes the net, with the grid's knobs as keyword arguments.
        hessian: When the largest eigenvalue of the Hessian is measured.
    """
    labels = hashlib.sha256()
    for y in (task.y, *(y for _, y in test)):
        labels.update(str(y.double().cpu().tolist()).encode())
    with same_random_state_after():
        torch.manual_seed(grid.cells[0].seed)
        made = net(**dict(grid.cells[0].knobs)).to(task.x.device, task.x.dtype).eval()
        shape = made(task.x[:2]).shape[1:]
    description = {
        "axes": grid.axes,
        "steps": schedule.steps,
        "check_every_n_steps": schedule.check_every,
        **vars(schedule.optimizer),
        "centering": task.centering,
        "hessian": hessian,
        "loss": repr(task.loss) if isinstance(task.loss, nn.Module) else _name(task.loss),
        "loss_of_example": f"{_example_loss(task, shape):.4g}",
        "net": repr(made),
        "dtype": str(task.x.dtype).removeprefix("torch."),
        "inputs": [*task.x.shape, f"{float(task.x.double().abs().mean()):.6g}"],
        "labels": labels.hexdigest()[:16],
        "weights": f"{_mean_size(made):.6g}",
    }
    return json.loads(json.dumps(description))


def _example_loss(task: Task, shape: torch.Size) -> float:
    """Return ℓ of outputs between −2 and 2, one after another, on the targets."""
    samples = len(task.x)
    outputs = torch.linspace(-2, 2, samples * shape.numel()).to(task.x)
    return float(task.loss(outputs.view(samples, *shape), task.y))


def _mean_size(net: nn.Module) -> float:
    """Return the mean size of a net's parameters."""
    parameters = [p.double() for p in net.parameters()]
    total = sum(p.numel() for p in parameters)
    return sum(float(p.abs().sum()) for p in parameters) / total if total else 0.0


def _name(function: Callable[..., Any]) -> str:
    """Return what a function is called, without its address, which no two processes share."""
    return getattr(function, "__qualname__", type(function).__name__)
