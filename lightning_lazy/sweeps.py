"""Sweeps: where their cells go, and the picture at their end."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

_RUNS = "runs"


def sweep_time(name: str, overrides: Any, params: Any) -> str:
    """Return the folder name of a sweep: that of the same sweep started before, or the time.

    Hydra leaves ``multirun.yaml`` in the folder of a sweep. Started again with the same overrides
    and parameters, a sweep goes on in that folder and skips the cells that are finished.
    """
    wanted = _identity(overrides, params)
    for recorded in sorted(Path(_RUNS, name).glob("*/multirun.yaml"), reverse=True):
        hydra = OmegaConf.load(recorded).hydra
        if _identity(hydra.overrides.task, hydra.sweeper.get("params")) == wanted:
            return recorded.parent.name
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")


def _identity(overrides: Any, params: Any) -> tuple[list[str], dict[str, str]]:
    listed = {str(key): str(value) for key, value in (params or {}).items()}
    return sorted(map(str, overrides)), listed


class SweepFigure(Callback):
    """Draws the figure of a multirun, also when one of its cells has failed."""

    _pending: "tuple[Path, dict[str, Any]] | None" = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Note the sweep's folder: after a failure Hydra does not call `on_multirun_end`."""
        figure = config.get("sweep_figure")
        if isinstance(figure, DictConfig):  # the cells refuse anything else
            SweepFigure._pending = (
                Path(config.hydra.sweep.dir),
                OmegaConf.to_container(figure, resolve=True),  # type: ignore[assignment]
            )

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Draw the figure."""
        draw_unfinished()


def draw_unfinished() -> None:
    """Draw the figure of the sweep that has just run, unless it has been drawn."""
    if SweepFigure._pending is None:
        return
    folder, node = SweepFigure._pending
    SweepFigure._pending = None
    draw_sweep_figure(folder, node)


def draw_sweep_figure(folder: Path, node: Mapping[str, Any]) -> None:
    """Draw the figure that ``node`` describes from the runs in ``folder``; say where it is."""
    from lightning_lazy.build import build

    for path in build(node, folder=folder):
        print(f"figure: {path}")
