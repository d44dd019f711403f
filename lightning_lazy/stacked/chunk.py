"""Cells of one kind that are trained together until each has diverged or done all its steps."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_lazy.stacked.grid import Cell
from lightning_lazy.stacked.stack import Stack, Task, Tensors
from lightning_lazy.stacked.two_layer import TwoLayerStack
from lightning_lazy.stacked.updates import OptimizerOptions, StackedOptimizer
from lightning_lazy.stacked.vmapped import VmappedStack

EXPLODED = 1e6
"""Growth of the loss that ends a cell, as in `lightning_lazy.callbacks.DivergenceGuard`."""


class Schedule(NamedTuple):
    """When what happens, in updates of a cell.

    Attributes:
        steps: Updates of a cell.
        check_every: Updates between two checks for explosion and for updates lost to rounding; the
            first and the last update are always checked.
        optimizer: Constants of the optimizers.
    """

    steps: int
    check_every: int
    optimizer: OptimizerOptions


class Trained(NamedTuple):
    """A cell that leaves the stack.

    Attributes:
        cell: The cell.
        parameters: Its trained parameters, by their names in a `ScaledModel`.
        fixed: Its buffers and untrained parameters, where stacked.
        stopped: Whether it left because its loss exploded.
        record: Columns of its row that are known from the training.
    """

    cell: Cell
    parameters: Tensors
    fixed: Tensors
    stopped: bool
    record: dict[str, Any]


def stack_class(net: nn.Module, task: Task) -> type[TwoLayerStack] | type[VmappedStack]:
    """Return the fastest stack for a net."""
    return TwoLayerStack if TwoLayerStack.takes(net, task) else VmappedStack


def parameter_tensors(cell: Cell) -> int:
    """Return how many tensors of the parameters' size a cell needs.

    Besides those of the optimizer θ, g, and at checks a copy of θ and the signs of g.
    """
    return 4 + StackedOptimizer.tensors(cell.optimizer)


class Chunk:
    """Cells with one optimizer and one kind of net.

    Args:
        cells: The cells.
        nets: Their nets at initialisation.
        task: What they learn.
        schedule: When what happens.
        kind: How they are computed.

    Attributes:
        cells: Those that are still trained.
        step: Updates that these have done.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        nets: Sequence[nn.Module],
        task: Task,
        schedule: Schedule,
        kind: type[TwoLayerStack] | type[VmappedStack],
    ) -> None:
        self.cells = list(cells)
        self.step = 0
        self._schedule = schedule
        alpha = task.x.new_tensor([cell.alpha for cell in cells])
        self._stack: Stack = kind(nets, alpha, task)
        parameters = self._stack.parameters
        self._optimizer = StackedOptimizer(
            self.cells[0].optimizer, cells, parameters, schedule.optimizer
        )
        self._alpha = alpha
        self._l2 = task.x.new_tensor([cell.l2 for cell in cells])
        self._has_l2 = any(cell.l2 > 0 for cell in cells)
        self._first = self._minimised()
        nothing = torch.full_like(alpha, torch.nan, dtype=torch.float64)
        self._frozen, self._frozen_throughout = nothing, nothing.clone()
        self._seconds = torch.zeros_like(nothing)

    def advance(self) -> list[Trained]:
        """Train up to the next check; return the cells that leave.

        Without cells left, the chunk is done.
        """
        start = time.perf_counter()
        for _ in range(self._next_check() - self.step - 1):
            self._optimizer.step(self._gradients())
        self._checked_step()
        self.step = self._next_check()
        losses = self._minimised()
        limit = EXPLODED * self._first.abs()
        exploded = ~losses.isfinite() | ((limit > 0) & (losses > limit))
        leaves = exploded | (self.step == self._schedule.steps)
        places, ended = leaves.nonzero().flatten().tolist(), exploded.tolist()
        self._seconds += (time.perf_counter() - start) / len(self.cells)
        if not places:
            return []
        gone = [self._leaving(place, ended[place]) for place in places]
        self._keep((~leaves).nonzero().flatten())
        return gone

    def state_dict(self) -> dict[str, Any]:
        """Return everything that training continues from, as tensors and plain containers."""
        return {
            "cells": [cell.index for cell in self.cells],
            "step": self.step,
            "parameters": self._stack.parameters,
            "fixed": self._stack.fixed,
            "optimizer": self._optimizer.state_dict(),
            "first": self._first,
            "frozen": self._frozen,
            "frozen_throughout": self._frozen_throughout,
            "seconds": self._seconds,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from what `state_dict` of a chunk of the same cells gave."""
        self.step = saved["step"]
        for own in ("parameters", "fixed"):
            for name, value in getattr(self._stack, own).items():
                value.copy_(saved[own][name])
        self._optimizer.load_state_dict(saved["optimizer"])
        for own in ("first", "frozen", "frozen_throughout", "seconds"):
            getattr(self, f"_{own}").copy_(saved[own])

    def _next_check(self) -> int:
        period = self._schedule.check_every
        following = 1 if self.step == 0 else (self.step // period + 1) * period
        return min(following, self._schedule.steps)

    def _gradients(self) -> Tensors:
        """Return α times the gradients of the minimised loss, the L2 term included."""
        gradients = self._stack.gradients()
        if self._has_l2:
            factor = self._alpha * self._l2
            for name, parameter in self._stack.parameters.items():
                shaped = factor.view(-1, *[1] * (parameter.ndim - 1))
                gradients[name].addcmul_(parameter, shaped)
        return gradients

    def _minimised(self) -> Tensor:
        """Return the minimised loss of each cell, the L2 term included."""
        losses = self._stack.losses()
        if self._has_l2:
            squares = [p.square().flatten(1).sum(1) for p in self._stack.parameters.values()]
            losses = losses + 0.5 * self._l2 * torch.stack(squares).sum(0)
        return losses

    def _checked_step(self) -> None:
        """Make an update and count the parameters that it should have moved and did not.

        As `lightning_lazy.laziness.count_frozen` does for a single run.
        """
        gradients = self._gradients()
        live = {name: value != 0 for name, value in gradients.items()}
        before = {name: value.clone() for name, value in self._stack.parameters.items()}
        self._optimizer.step(gradients)
        frozen, moving = torch.zeros_like(self._frozen), torch.zeros_like(self._frozen)
        for name, parameter in self._stack.parameters.items():
            moving += live[name].flatten(1).sum(1)
            frozen += (live[name] & (parameter == before[name])).flatten(1).sum(1)
        self._frozen = frozen / moving  # 0/0, not a number, where no gradient is left
        self._frozen_throughout = torch.fmin(self._frozen_throughout, self._frozen)

    def _leaving(self, place: int, stopped: bool) -> Trained:
        record = {
            "health/frozen_share": float(self._frozen[place]),
            "frozen_throughout": float(self._frozen_throughout[place]),
            "effective_lr": self._optimizer.effective_lr(place),
            "steps": self.step,
            "seconds": float(self._seconds[place]),
        }
        parameters, fixed = (
            {name: value[place] for name, value in tensors.items()}
            for tensors in (self._stack.parameters, self._stack.fixed)
        )
        return Trained(self.cells[place], parameters, fixed, stopped, record)

    def _keep(self, places: Tensor) -> None:
        """Take the cells that have left out of the stack."""
        self.cells = [self.cells[place] for place in places.tolist()]
        if not self.cells:
            return
        self._stack.keep(places)
        self._optimizer.keep(places, self._stack.parameters)
        for own in ("alpha", "l2", "first", "frozen", "frozen_throughout", "seconds"):
            setattr(self, f"_{own}", getattr(self, f"_{own}")[places])
