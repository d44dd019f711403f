"""Redraws figures from files: ``python -m lightning_lazy.figures <folder> [<folder> …]``."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_lazy.build import build
from lightning_lazy.errors import InputError
from lightning_lazy.figures.frames import read_config, run_folders
from lightning_lazy.figures.run_figures import draw_figures
from lightning_lazy.stacked.files import TABLE, group_shards
from lightning_lazy.sweeps import draw_sweep_figure

_USAGE = """usage: python -m lightning_lazy.figures <folder of a run or of a sweep>
   or: python -m lightning_lazy.figures <folder> <folder> … (shards of grids, put together)"""


def redraw(*folders: Path) -> None:
    """Draw the figures that the configurations in folders name, and print their paths.

    Args:
        folders: Folder of a run or of a sweep. Or several ones of grids: of shards, of sweeps or
            above them. Their tables are put together, what is missing is said, and pictures go to
            the first folder.

    Raises:
        InputError: A folder is that of neither a run nor a sweep, has no figure, or is one of
            several and not that of a grid.
    """
    if len(folders) > 1 or not (folders[0] / "config.yaml").is_file():
        _redraw_sweep(folders)
        return
    for path in draw_figures(folders[0], read_config(folders[0])["figures"]):
        print(f"figure: {path}")


def _redraw_sweep(folders: tuple[Path, ...]) -> None:
    grids = len(folders) > 1 or next(folders[0].rglob(TABLE), None) is not None
    if not grids:
        node = read_config(run_folders(folders[0])[0])["sweep_figure"]
        if node is None:
            raise InputError(
                f"the sweep in {folders[0]} has no figure: set sweep_figure in its experiment"
            )
        draw_sweep_figure(folders[0], node)
        return
    for node in _grid_figures(folders):
        for path in build(node, folder=list(folders)):
            print(f"figure: {path}")


def _grid_figures(folders: tuple[Path, ...]) -> list[dict[str, Any]]:
    """Return the figure of a sweep of grids; where it has none, those of its runs."""
    first = [group_shards(folder)[0][0] for folder in folders][0]
    if not (first / "config.yaml").is_file():
        raise InputError(f"{first} holds no config.yaml that names its figures: start it again")
    config = read_config(first)
    nodes = [config["sweep_figure"]] if config["sweep_figure"] else config["figures"].values()
    found = [node for node in nodes if node]
    if not found:
        raise InputError(f"the grid in {first} has no figure: set sweep_figure in its experiment")
    return found


def main(arguments: Sequence[str]) -> None:
    """Redraw what the command line names; exit with one line where that can't be."""
    if not arguments:
        sys.exit(_USAGE)
    try:
        redraw(*map(Path, arguments))
    except InputError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
