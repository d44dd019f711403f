"""Data frames from the files of runs."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from lightning_lazy.errors import InputError
from lightning_lazy.nested import leaves


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


def read_sweep(folder: Path, keep: Sequence[str] = ()) -> pd.DataFrame:
    """Return the finished cells of a sweep, a row each.

    Columns: the knobs ``alpha``, ``lr``, ``l2`` and ``seed``, ``optimizer`` (its class), all final
    metrics, ``diverged``, ``frozen_throughout`` (the smallest ``health/frozen_share`` of the run:
    updates were lost from beginning to end where it is large), ``steps`` and ``folder``; and every
    value of the configuration that differs between cells, by its dotted path, such as
    ``model.width``, with ``None`` in a cell that lacks it. Cells without summary, such as crashed
    ones, are left out and named on the standard output.

    Args:
        folder: Folder of the sweep.
        keep: Dotted paths of values that become columns although all cells may have the same.

    Raises:
        InputError: There are no cells, or none has ended.
    """
    rows, configs = [], []
    for cell in run_folders(folder):
        if not (cell / "summary.json").is_file():
            print(f"missing: {cell} has no summary.json, it failed or has not ended")
            continue
        config, summary = read_config(cell), json.loads((cell / "summary.json").read_text())
        metrics = read_metrics(cell)
        frozen = metrics.get("health/frozen_share")
        configs.append(leaves(config))
        rows.append(
            {
                **{knob: config[knob] for knob in ("alpha", "lr", "l2", "seed")},
                "optimizer": config["optimizer"]["_target_"].rpartition(".")[2],
                **{k: math.nan if v is None else v for k, v in summary["metrics"].items()},
                "diverged": bool(summary["diverged"]),
                "frozen_throughout": math.nan if frozen is None else frozen.min(),
                "steps": summary["steps"],
                "folder": str(cell),
            }
        )
    if not rows:
        raise InputError(f"no cell of {folder} has ended: wait, or start the sweep again")
    return pd.DataFrame([d | row for d, row in zip(_columns(configs, keep), rows, strict=True)])


def _columns(configs: list[dict[str, Any]], keep: Sequence[str]) -> list[dict[str, Any]]:
    """Return of every configuration the values to keep and those that are not the same in all."""
    paths = dict.fromkeys(path for config in configs for path in config)
    found = [
        path
        for path in paths
        if path in keep or any(config.get(path) != configs[0].get(path) for config in configs)
    ]
    return [{path: config.get(path) for path in found} for config in configs]
