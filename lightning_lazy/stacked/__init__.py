"""Many cells of a phase diagram trained at once in one process."""

from lightning_lazy.stacked.files import missing_shards, read_cells
from lightning_lazy.stacked.grid import Cell, Grid
from lightning_lazy.stacked.module import StackedGrid
from lightning_lazy.stacked.progress import CellStepBar

__all__ = ["Cell", "CellStepBar", "Grid", "StackedGrid", "missing_shards", "read_cells"]
