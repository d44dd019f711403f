"""Data frames from the files of runs."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from lightning_lazy.errors import InputError


def read_metrics(folder: Path) -> pd.DataFrame:
    """Return the metrics of a run, a row a step.

    Raises:
        InputError: There is no ``metrics.csv``, or no row in it.
    """
    path = folder / "metrics.csv"
    if not path.is_file():
        raise InputError(f"{folder} holds no metrics.csv: give the folder of a run")
    frame = pd.read_csv(path)
    if frame.empty:
        raise InputError(f"{path} holds no row yet: wait for the run's first epoch")
    return frame


def read_config(folder: Path) -> dict[str, Any]:
    """Return the resolved configuration of a run."""
    return OmegaConf.to_container(  # type: ignore[return-value]
        OmegaConf.load(folder / "config.yaml")
    )


def run_folders(folder: Path) -> list[Path]:
    """Return the folders of the cells of a sweep, in the order of their numbers.

    Raises:
        InputError: There is none.
    """
    found = [path.parent for path in folder.glob("*/config.yaml")]
    if not found:
        raise InputError(f"{folder} holds no runs: give the folder of a run or of a sweep")
    return sorted(found, key=lambda path: (len(path.name), path.name))


def read_sweep(folder: Path) -> pd.DataFrame:
    """Return the finished cells of a sweep, a row each.

    Columns: the knobs ``alpha``, ``lr``, ``l2`` and ``seed``, ``optimizer`` (its class), all final
    metrics, ``diverged``, ``frozen_throughout`` (the smallest ``health/frozen_share`` of the run:
    updates were lost from beginning to end where it is large), ``steps`` and ``folder``. Cells
    without summary, such as crashed ones, are left out and named on the standard output.
    """
    rows = []
    for cell in run_folders(folder):
        if not (cell / "summary.json").is_file():
            print(f"missing: {cell} has no summary.json, it failed or has not ended")
            continue
        config, summary = read_config(cell), json.loads((cell / "summary.json").read_text())
        metrics = read_metrics(cell)
        frozen = metrics.get("health/frozen_share")
        rows.append(
            {
                **{knob: config[knob] for knob in ("alpha", "lr", "l2", "seed")},
                "optimizer": config["optimizer"]["_target_"].rpartition(".")[2],
                **summary["metrics"],
                "diverged": bool(summary["diverged"]),
                "frozen_throughout": float("nan") if frozen is None else frozen.min(),
                "steps": summary["steps"],
                "folder": str(cell),
            }
        )
    if not rows:
        raise InputError(f"no cell of {folder} has ended: wait, or start the sweep again")
    return pd.DataFrame(rows)
