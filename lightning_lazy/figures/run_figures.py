"""Draws the figures of a run when it ends."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from lightning_lazy.build import build


def draw_figures(folder: Path, nodes: Mapping[str, Any]) -> list[Path]:
    """Draw the figures that configuration nodes describe from the files in ``folder``."""
    return [path for node in nodes.values() if node for path in build(node, folder=folder)]


class RunFigures(pl.Callback):
    """Draws a run's figures from its files and shows them to loggers that take images.

    Put it last in the list of callbacks, after `lightning_lazy.RunFiles` has closed the files.

    Args:
        folder: Folder of the run.
        figures: Configuration nodes by name; each is called with ``folder`` and returns the paths
            of the pictures that it has written.
    """

    def __init__(self, folder: str, figures: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.figures = dict(figures)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw, on one process."""
        if not trainer.is_global_zero or not (self.folder / "metrics.csv").is_file():
            return
        paths = draw_figures(self.folder, self.figures)
        for logger in trainer.loggers:
            for path in paths:
                _show(logger, path, trainer.global_step)


def _show(logger: Any, path: Path, step: int) -> None:
    """Send a picture to a logger that takes pictures."""
    if isinstance(logger, pl.loggers.WandbLogger):
        logger.log_image(f"figures/{path.stem}", [str(path)])
    elif isinstance(logger, pl.loggers.TensorBoardLogger):
        from matplotlib.image import imread

        logger.experiment.add_image(f"figures/{path.stem}", imread(path), step, dataformats="HWC")
