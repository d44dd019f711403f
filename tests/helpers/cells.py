"""Cells trained together and alone, for comparisons."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lightning_lazy import ScaledLightningModule
from lightning_lazy.optim import ScaledAdam, ScaledRMSprop
from lightning_lazy.stacked.chunk import Chunk, Schedule, Trained, stack_class
from lightning_lazy.stacked.grid import Cell
from lightning_lazy.stacked.stack import Task, Tensors
from lightning_lazy.stacked.updates import OptimizerOptions


class SameBatch:
    """A loader of one batch, the whole set, over and over."""

    def __init__(self, task: Task, steps: int) -> None:
        self.batch, self.steps = (task.x, task.y), steps

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter([self.batch] * self.steps)


def on_sphere(n: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, *shape, dtype=torch.float64, generator=generator)
    return (x / x.flatten(1).norm(dim=1).view(-1, *[1] * len(shape)) * x[0].numel() ** 0.5).to(
        dtype
    )


def labels(n: int, classes: int = 10) -> Tensor:
    return torch.randint(classes, (n,), generator=torch.Generator().manual_seed(1))


def nets_of(cells: list[Cell], make: Callable[[], nn.Module], dtype: Any) -> list[nn.Module]:
    """The net of each cell at initialisation, as its seed gives it."""
    nets = []
    for cell in cells:
        torch.manual_seed(cell.seed)
        nets.append(make().to(dtype))
    return nets


def optimizer_of(cell: Cell) -> Callable[..., torch.optim.Optimizer]:
    """The optimizer of a single run, as conf/optimizer builds it."""
    made: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "sgd": partial(torch.optim.SGD, lr=cell.lr),
        "momentum": partial(torch.optim.SGD, lr=cell.lr, momentum=0.9),
        "rmsprop": partial(torch.optim.RMSprop, lr=cell.lr, alpha=0.999, eps=1e-8),
        "adam": partial(torch.optim.Adam, lr=cell.lr, eps=1e-8),
        "scaled_rmsprop": partial(ScaledRMSprop, lr=cell.lr, alpha=cell.alpha),
        "scaled_adam": partial(ScaledAdam, lr=cell.lr, alpha=cell.alpha),
    }
    return made[cell.optimizer]


def module_of(cell: Cell, net: nn.Module, task: Task) -> ScaledLightningModule:
    """The module of the cell's single run."""
    return ScaledLightningModule(
        deepcopy(net),
        task.loss,
        optimizer_of(cell),
        alpha=cell.alpha,
        l2=cell.l2,
        centering=task.centering,
    )


def alone(cell: Cell, net: nn.Module, task: Task, steps: int) -> ScaledLightningModule:
    """The single run's module after ``steps`` updates: its loss, its optimizer, autograd."""
    module = module_of(cell, net, task)
    optimizer = module.configure_optimizers()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = module.loss_of((task.x, task.y))
        (loss + module.penalty() if module.l2 > 0 else loss).backward()
        optimizer.step()
    return module


def together(
    cells: list[Cell], nets: list[nn.Module], task: Task, steps: int, kind: Any = None
) -> dict[int, Trained]:
    """The cells after ``steps`` updates in one stack, by their index."""
    schedule = Schedule(steps, 50, OptimizerOptions())
    chunk = Chunk(cells, nets, task, schedule, kind or stack_class(nets[0], task))
    done: list[Trained] = []
    while chunk.cells:
        done += chunk.advance()
    return {one.cell.index: one for one in done}


def deviation(values: Tensors, module: ScaledLightningModule) -> float:
    """Largest deviation of a parameter or buffer, in units of the largest of all."""
    own = dict(module.model.named_parameters()) | dict(module.model.named_buffers())
    pairs = [(value.double(), own[name].detach().double()) for name, value in values.items()]
    largest = max(float(one.abs().max()) for _, one in pairs)
    return max(float((value - one).abs().max()) for value, one in pairs) / largest
