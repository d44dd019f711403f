"""The cells of grids as figures need them: one table, its panels, means over seeds."""

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from lightning_lazy.errors import InputError
from lightning_lazy.figures.frames import read_config
from lightning_lazy.figures.kanoh.names import DATA, OPTIMIZERS
from lightning_lazy.nested import leaves
from lightning_lazy.stacked import missing_shards, read_cells
from lightning_lazy.stacked.files import group_shards, read_description

Folders = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
UNTRUSTED_SHARE = 0.5
"""Cells with more parameters frozen throughout than this are marked."""
MOST_PANELS = 8
_SCORES = ("val/acc", "val/loss", "train/loss")
_OWN = ("stacked.shard", "name", "data.root")
"""Differences between configurations that do not make grids different."""


class Diagram(NamedTuple):
    """The finished cells of one grid or several.

    Attributes:
        cells: A row a cell, with the columns of the grids' tables and ``data``, the data set;
            ``grid``, what tells the grids apart; ``eps``, ε; ``untrusted``, whether most of the
            updates were lost to rounding; ``sharpness``, λ_max at the start plus l2.
        knobs: Names of the axes, but for ``optimizer`` and ``seed``.
    """

    cells: pd.DataFrame
    knobs: list[str]


def listed(folders: Folders) -> list[Path]:
    """Return folders as a list; pictures go to the first one.

    Raises:
        InputError: There is none.
    """
    paths = [folders] if isinstance(folders, str | os.PathLike) else list(folders)
    if not paths:
        raise InputError("there must be a folder to draw from, got none: give that of a grid")
    return [Path(path) for path in paths]


def read_diagram(folders: Folders) -> Diagram:
    """Return the finished cells at or below some folders; print which shards miss how many.

    Of a folder that is itself that of a shard, only what this shard misses is said: others stand
    elsewhere.

    Args:
        folders: Folder or folders of grids, of shards of them, or above them.

    Raises:
        InputError: There is no table.
    """
    groups = group_shards(*listed(folders))
    configs = [_config(group[0]) for group in groups]
    tables, knobs = [], dict[str, None]()
    for name, config, group in zip(_names(configs), configs, groups, strict=True):
        description = read_description(group[0])
        alone = description["shard"] if [group[0]] == listed(folders) else None
        _report_missing(group, name if len(groups) > 1 else "", alone)
        knobs |= dict.fromkeys(description["axes"])
        own = {"data": _data(config), "grid": name, "eps": description["eps"]}
        tables.append(read_cells(*group).assign(**own))
    cells = pd.concat(tables, ignore_index=True)
    cells["untrusted"] = cells["frozen_throughout"] > UNTRUSTED_SHARE
    cells["sharpness"] = cells["curvature/hessian_top1_start"] + cells["l2"]
    return Diagram(cells, [name for name in knobs if name not in ("optimizer", "seed")])


def with_panels(diagram: Diagram, x: str, y: str) -> pd.DataFrame:
    """Return the cells with a column ``panel``: the grid, and the values of all other axes.

    Args:
        diagram: As `read_diagram` gives it.
        x: Axis of the grids that is drawn horizontally.
        y: Axis that is drawn vertically.

    Raises:
        InputError: x or y is no axis, they are the same, or other axes make too many panels.
    """
    for name, value in (("x", x), ("y", y)):
        if value not in diagram.knobs:
            known = ", ".join(diagram.knobs)
            raise InputError(f"{name} must be an axis of the grid ({known}), got {value!r}")
    if x == y:
        raise InputError(f"x and y must be two axes of the grid, got {x!r} for both: change one")
    cells = diagram.cells.copy()
    others = [k for k in diagram.knobs if k not in (x, y) and cells[k].nunique() > 1]
    cells["panel"] = cells["grid"]
    for name in others:
        cells["panel"] += f", {name} = " + cells[name].map(short)
    if (count := cells["panel"].nunique()) > MOST_PANELS:
        raise InputError(
            f"a figure over x={x} and y={y} must have at most {MOST_PANELS} panels, got {count}, "
            f"one for each {', '.join(['grid', *others])}: give the others one value, or make them "
            "x or y"
        )
    return cells


def over_seeds(cells: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """Return a row for each panel, optimizer, x and y.

    A point counts as diverged, or as untrusted, where at least half of its seeds are; what was
    measured at its end is the mean over the seeds that have not diverged. ``score`` is what a good
    learning rate makes large: the test accuracy, without classes minus the test loss, without test
    data minus the training loss; NaN in points that diverged or are untrusted.

    Args:
        cells: As `with_panels` gives them.
        x: Axis that is drawn horizontally.
        y: Axis that is drawn vertically.
    """
    keys = list(dict.fromkeys(["data", "panel", "optimizer", x, y]))
    skip = [*keys, "diverged", "untrusted", "grid"]
    numbers = [str(name) for name in cells.select_dtypes("number") if name not in skip]
    kept = cells.copy()
    known = ("alpha", "lr", "l2", "eps", "sharpness", "curvature/hessian_top1_start")
    measured = [name for name in numbers if name not in known]
    kept[measured] = kept[measured].astype(float).where(~kept["diverged"].astype(bool), axis=0)
    groups = kept.groupby(keys, sort=False)
    means = groups[numbers].mean()
    for mark in ("diverged", "untrusted"):
        means[mark] = groups[mark].mean() >= 0.5
    means = means.reset_index()
    column = scored_by(means)
    score = means[column] if column == "val/acc" else -means[column]
    means["score"] = score.where(~means["diverged"] & ~means["untrusted"])
    return means


def scored_by(points: pd.DataFrame) -> str:
    """Return the column that scores are made of: the test accuracy if there is one, or a loss."""
    return next((name for name in _SCORES if points[name].notna().any()), _SCORES[-1])


def panels_of(points: pd.DataFrame) -> list[str]:
    """Return the panels that there are, in their order."""
    return list(dict.fromkeys(points["panel"]))


def optimizers_of(points: pd.DataFrame) -> list[str]:
    """Return the optimizers that there are, in the order of figures."""
    return [name for name in OPTIMIZERS if name in set(points["optimizer"])]


def some_rates(points: pd.DataFrame, most: int) -> list[float]:
    """Return at most so many learning rates, evenly spread, powers of ten if there are enough."""
    rates = sorted(points["lr"].unique().tolist())
    tens = [rate for rate in rates if abs(math.log10(rate) - round(math.log10(rate))) < 1e-9]
    rates = tens if len(tens) > 2 else rates
    return rates[:: -(-len(rates) // most)]


def short(value: Any) -> str:
    """Return a value of an axis as text.

    >>> short(1e6), short(1e-8), short(0.25), short("relu")
    ('1e6', '1e-8', '0.25', 'relu')
    """
    if not isinstance(value, int | float):
        return str(value)
    return re.sub(r"e([+-])0*", lambda found: "e" + found[1].strip("+"), f"{value:.4g}")


def _report_missing(group: Sequence[Path], name: str, alone: str | None) -> None:
    """Print how many cells of which shards are missing; of ``alone`` only, if it is given."""
    for shard, count in missing_shards(*group).items():
        if alone in (None, shard):
            print(f"missing: {name}{', ' if name else ''}shard {shard}: {count} cells")


def _config(folder: Path) -> dict[str, Any]:
    return leaves(read_config(folder)) if (folder / "config.yaml").is_file() else {}


def _data(config: dict[str, Any]) -> str:
    """Return the name of a data set; of data without one, that of their class."""
    return str(config.get("data.dataset") or config.get("data._target_", "data").split(".")[-1])


def _names(configs: Sequence[dict[str, Any]]) -> list[str]:
    """Return what tells grids apart: the data set, and where needed other values that differ."""
    data = [DATA.get(_data(config), _data(config)) for config in configs]
    paths = [
        path
        for path in dict.fromkeys(path for config in configs for path in config)
        if path not in (*_OWN, "data.dataset")
        and any(config.get(path) != configs[0].get(path) for config in configs)
    ]
    names: list[str] = []
    for name, config in zip(data, configs, strict=True):
        if data.count(name) > 1:
            name += "".join(f", {path} = {short(config.get(path))}" for path in paths)  # noqa: PLW2901
        same = sum(one.split(" (")[0] == name for one in names)
        names.append(f"{name} ({same + 1})" if same else name)
    return names
