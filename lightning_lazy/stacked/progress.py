"""The progress bar of a grid."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm


class CellStepBar(pl.callbacks.ProgressBar):
    """One line that counts updates over all cells; a diverged cell's remaining ones count as done.

    Use it with a `StackedGrid`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bar: Any = None

    def disable(self) -> None:
        """Show nothing, as on ranks other than the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show the bar."""
        self._enabled = True

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar to what is done."""
        done, total = pl_module.progress
        if self._bar is None:
            self._bar = Tqdm(
                total=total, initial=done, unit=" cell-steps", unit_scale=True, smoothing=0.05,
                disable=not self._enabled, dynamic_ncols=True, desc=f"{len(pl_module.cells)} cells",
            )  # fmt: skip
        self._bar.update(done - self._bar.n)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
