"""The chunks of a shard, one after another, from where an earlier start was stopped."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from typing import Any

import torch
from torch import nn

from lightning_lazy.checks import check_size
from lightning_lazy.errors import InputError
from lightning_lazy.random_state import same_random_state_after
from lightning_lazy.stacked.chunk import Chunk, Schedule, parameter_tensors, stack_class
from lightning_lazy.stacked.examiner import Examiner, Hessian
from lightning_lazy.stacked.files import GridFiles
from lightning_lazy.stacked.grid import Cell, Knobs
from lightning_lazy.stacked.stack import Batch, Task

CACHED_BYTES = 8 * 2**20
"""Memory of a chunk on a CPU, unless told otherwise: what fits its caches."""


class GridRun:
    """Trains cells chunk by chunk and keeps their rows in files.

    Args:
        cells: The cells of the shard, those included that are finished.
        net: Makes a net of the cells' knobs, drawn from torch's global generator.
        task: What the cells learn.
        test: Batches (x, y) of images that they do not see.
        schedule: When what happens.
        files: Where rows and states go, and come from after a kill.
        memory_budget: Bytes that a chunk may take; ``None``: on a CPU `CACHED_BYTES`, on a GPU
            half of what is free, but at least one cell.
        checkpoint_every: Updates of a cell between two states of its chunk.
        hessian: When λ_max is measured, see `Examiner`.

    Attributes:
        cell_steps: Updates of all cells.
        cell_steps_done: Those that are done, or that a diverged cell did not need.
        done: Whether all cells are finished.

    Raises:
        InputError: The budget is too small for one cell.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        net: Callable[..., nn.Module],
        task: Task,
        test: Sequence[Batch],
        schedule: Schedule,
        *,
        files: GridFiles,
        memory_budget: int | None = None,
        checkpoint_every: int = 500,
        hessian: Hessian = "none",
    ) -> None:
        self._net, self._task, self._schedule, self._files = net, task, schedule, files
        self._start_net = lru_cache(maxsize=64)(self._make_net)
        self._examiner = Examiner(task, test, self._start_net, hessian)
        self._checkpoint_every = checkpoint_every
        self._by_index = {cell.index: cell for cell in cells}
        self._chunk: Chunk | None = None
        self._rows: list[dict[str, Any]] = []
        self.cell_steps = len(cells) * schedule.steps
        parts = list(self._parts(cells, memory_budget))
        self._resume()
        taken = {row["cell"] for row in self._rows} | files.finished
        if self._chunk is not None:
            taken |= {cell.index for cell in self._chunk.cells}
        waiting = [[cell for cell in part if cell.index not in taken] for part in parts]
        self._waiting = [part for part in waiting if part]

    @property
    def done(self) -> bool:
        """Whether all cells are finished."""
        return self._chunk is None and not self._waiting

    @property
    def cell_steps_done(self) -> int:
        """Updates that are done, or that a diverged cell did not need."""
        left = sum(map(len, self._waiting)) * self._schedule.steps
        if self._chunk is not None:
            left += len(self._chunk.cells) * (self._schedule.steps - self._chunk.step)
        return self.cell_steps - left

    def advance(self) -> None:
        """Train one chunk up to its next check."""
        if self._chunk is None:
            if not self._waiting:
                return
            self._chunk, self._rows = self._make_chunk(self._waiting.pop(0)), []
        before = self._chunk.step
        gone = self._chunk.advance()
        self._rows += [self._examiner.row(trained) for trained in gone]
        if not self._chunk.cells:
            self._chunk = None
            self._files.add(self._rows)
        elif self._chunk.step // self._checkpoint_every > before // self._checkpoint_every:
            self._files.save({"chunk": self._chunk.state_dict(), "rows": self._rows})

    def _resume(self) -> None:
        """Take up the chunk that was in progress."""
        saved = self._files.load()
        if saved is None or set(saved["chunk"]["cells"]) & self._files.finished:
            return
        self._chunk = self._make_chunk([self._by_index[i] for i in saved["chunk"]["cells"]])
        self._chunk.load_state_dict(saved["chunk"])
        self._rows = saved["rows"]

    def _parts(self, cells: Sequence[Cell], budget: int | None) -> Iterator[list[Cell]]:
        """Cut the cells into parts that can be stacked and fit the budget."""
        for _, group in groupby(cells, attrgetter("kind")):
            same = list(group)
            size = self._chunk_size(same[0], budget)
            for first in range(0, len(same), size):
                yield same[first : first + size]

    def _chunk_size(self, cell: Cell, budget: int | None) -> int:
        net = self._start_net(*cell.start)
        kind: Any = stack_class(net, self._task)
        needed = kind.bytes_per_cell(net, self._task, parameter_tensors(cell))
        if budget is None:
            return max(1, _free_bytes(self._task.x.device) // needed)
        if check_size("memory_budget", budget) < needed:
            raise InputError(
                f"memory_budget must hold one cell of {needed} bytes, got {budget}; raise it, or "
                "take fewer training images or a smaller net"
            )
        return budget // needed

    def _make_chunk(self, cells: list[Cell]) -> Chunk:
        nets = [self._start_net(*cell.start) for cell in cells]
        kind = stack_class(nets[0], self._task)
        return Chunk(cells, nets, self._task, self._schedule, kind)

    def _make_net(self, seed: int, knobs: Knobs) -> nn.Module:
        """Return the net that a single run with this seed starts from."""
        before = torch.get_default_dtype()
        with same_random_state_after():
            torch.set_default_dtype(self._task.x.dtype)
            try:
                torch.manual_seed(seed)
                return self._net(**dict(knobs))
            finally:
                torch.set_default_dtype(before)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 2
    return CACHED_BYTES
