"""Redraws figures from files: ``python -m lightning_lazy.figures <folder of a run or sweep>``."""

import sys
from pathlib import Path

from lightning_lazy.errors import InputError
from lightning_lazy.figures.frames import read_config, run_folders
from lightning_lazy.figures.run_figures import draw_figures
from lightning_lazy.sweeps import draw_sweep_figure


def redraw(folder: Path) -> None:
    """Draw the figures that the configuration in ``folder`` names, and print their paths.

    Raises:
        InputError: ``folder`` is that of neither a run nor a sweep.
    """
    if (folder / "config.yaml").is_file():
        for path in draw_figures(folder, read_config(folder)["figures"]):
            print(f"figure: {path}")
        return
    node = read_config(run_folders(folder)[0])["sweep_figure"]
    if node is None:
        raise InputError(f"the sweep in {folder} has no figure: set sweep_figure in its experiment")
    draw_sweep_figure(folder, node)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m lightning_lazy.figures <folder of a run or of a sweep>")
    try:
        redraw(Path(sys.argv[1]))
    except InputError as error:
        sys.exit(f"error: {error}")
