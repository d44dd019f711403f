"""What makes a grid another one than others, so that results of two are never mixed."""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from lightning_lazy.random_state import same_random_state_after
from lightning_lazy.stacked.chunk import Schedule
from lightning_lazy.stacked.grid import Grid
from lightning_lazy.stacked.stack import Batch, Task


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

    Data are told apart by their shape, labels and mean size of the inputs, which are the same on
    every machine.

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
        made = repr(net(**dict(grid.cells[0].knobs)))
    description = {
        "axes": grid.axes,
        "steps": schedule.steps,
        "check_every_n_steps": schedule.check_every,
        **vars(schedule.optimizer),
        "centering": task.centering,
        "hessian": hessian,
        "loss": repr(task.loss) if isinstance(task.loss, nn.Module) else _name(task.loss),
        "net": made,
        "dtype": str(task.x.dtype).removeprefix("torch."),
        "inputs": [*task.x.shape, f"{float(task.x.double().abs().mean()):.6g}"],
        "labels": labels.hexdigest()[:16],
    }
    return json.loads(json.dumps(description))


def _name(function: Callable[..., Any]) -> str:
    """Return what a function is called, without its address, which no two processes share."""
    return getattr(function, "__qualname__", type(function).__name__)
