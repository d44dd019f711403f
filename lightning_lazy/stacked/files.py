"""The files of a grid: what it is, the table of its finished cells, the chunk in progress."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lightning_lazy.checkpoints import read_checkpoint
from lightning_lazy.errors import InputError
from lightning_lazy.replacing import replace_file
from lightning_lazy.stacked.grid import Grid, parse_shard

if TYPE_CHECKING:
    import pandas as pd

DESCRIPTION, TABLE = "grid.json", "cells.parquet"


class GridFiles:
    """Keeps the folder of one shard of a grid so that a kill at any moment harms nothing.

    Every file is written beside the one that it replaces and renamed into its place.

    Args:
        folder: Folder of the run; made if it is not there.
        description: What the grid is, as json knows it; ``axes`` among it.
        shard: ``i/n``, the cells that this folder is for.
        config: Kept as ``config.yaml``, if any.

    Raises:
        InputError: The folder holds the results of another grid or another shard.
    """

    def __init__(
        self,
        folder: Path,
        description: Mapping[str, Any],
        shard: str,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self._rows: list[dict[str, Any]] = []
        wanted = {"shard": "{}/{}".format(*parse_shard(shard)), **description}
        if (folder / TABLE).is_file() or self._checkpoint.is_file():
            _check_same(folder, read_description(folder), wanted)
        self.write(DESCRIPTION, json.dumps(wanted, indent=2) + "\n")
        if config is not None:
            from omegaconf import OmegaConf

            self.write("config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(config))))
        if (folder / TABLE).is_file():
            self._rows = _read_table(folder).to_dict("records")  # type: ignore[assignment]

    @property
    def finished(self) -> set[int]:
        """The indices of the cells that have a row."""
        return {row["cell"] for row in self._rows}

    @property
    def table(self) -> "pd.DataFrame":
        """The rows of the finished cells, in the order of the cells."""
        import pandas as pd

        return pd.DataFrame(self._rows).sort_values("cell", ignore_index=True)

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows to the table, and forget the chunk that they are of."""
        self._rows += map(dict, rows)
        table = self.table
        _replace(self.folder / "cells.csv", lambda path: table.to_csv(path, index=False))
        _replace(self.folder / TABLE, lambda path: table.to_parquet(path, index=False))
        self._checkpoint.unlink(missing_ok=True)

    def write(self, name: str, text: str) -> None:
        """Write a file of text."""
        _replace(self.folder / name, lambda path: path.write_text(text))

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the state of the chunk in progress."""
        _replace(self._checkpoint, lambda path: torch.save(dict(state), path))

    def load(self) -> dict[str, Any] | None:
        """Return the state of a chunk that was in progress; ``None`` where there is none."""
        return read_checkpoint(self._checkpoint) if self._checkpoint.is_file() else None

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoints" / "last.ckpt"


def read_description(folder: Path) -> dict[str, Any]:
    """Return what ``grid.json`` says of a folder's grid.

    Raises:
        InputError: It is not there.
    """
    if not (folder / DESCRIPTION).is_file():
        raise InputError(f"{folder} holds no {DESCRIPTION} that says of which grid its cells are")
    return json.loads((folder / DESCRIPTION).read_text())


def read_cells(*folders: str | os.PathLike[str]) -> "pd.DataFrame":
    """Return the finished cells of a grid, a row each, in the order of the cells.

    Args:
        folders: Folders of runs, of sweeps or above them; the tables of all shards below are put
            together.

    Raises:
        InputError: There is no table, or there are tables of different grids.
    """
    import pandas as pd

    tables = [_read_table(folder) for folder in _shards(*folders)]
    merged = pd.concat([table for table in tables if len(table)], ignore_index=True)
    return merged.drop_duplicates("cell").sort_values("cell", ignore_index=True)


def missing_shards(*folders: str | os.PathLike[str]) -> dict[str, int]:
    """Return how many cells are missing, by the shards ``i/n`` that they are of.

    Args:
        folders: As for `read_cells`.

    Raises:
        InputError: As for `read_cells`.
    """
    descriptions = [read_description(folder) for folder in _shards(*folders)]
    count = max(parse_shard(one["shard"])[1] for one in descriptions)
    done = set(read_cells(*folders)["cell"])
    grid = Grid(descriptions[0]["axes"])
    shards = {
        f"{number}/{count}": grid.shard(f"{number}/{count}") for number in range(1, count + 1)
    }
    missing = {name: sum(c.index not in done for c in cells) for name, cells in shards.items()}
    return {name: number for name, number in missing.items() if number}


def group_shards(*folders: str | os.PathLike[str]) -> list[list[Path]]:
    """Return the folders with a table at or below some folders, those of one grid in one list.

    Args:
        folders: As for `read_cells`.

    Raises:
        InputError: There is no table.
    """
    found = sorted({path.parent for top in folders for path in Path(top).rglob(TABLE)})
    if not found:
        names = ", ".join(map(str, folders))
        raise InputError(f"{names}: no {TABLE} there; give the folder of a grid that has begun")
    groups: dict[str, list[Path]] = {}
    for folder in found:
        description = read_description(folder) | {"shard": None}
        groups.setdefault(json.dumps(description, sort_keys=True), []).append(folder)
    return list(groups.values())


def _shards(*folders: str | os.PathLike[str]) -> list[Path]:
    """Return the folders with a table at or below some folders, all of one grid."""
    first, *others = group_shards(*folders)
    for folder in (group[0] for group in others):
        old = read_description(first[0])
        _check_same(first[0], old, read_description(folder) | {"shard": old["shard"]}, folder)
    return first


def _check_same(
    folder: Path, old: Mapping[str, Any], new: Mapping[str, Any], other: Path | None = None
) -> None:
    """Raise an `InputError` that names what differs between two descriptions of grids."""
    different = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if not different:
        return
    key = different[0]
    what = f"shard {old[key]}" if key == "shard" else "another grid"
    where = "this run" if other is None else str(other)
    first, second = _short(old.get(key), new.get(key))
    raise InputError(
        f"{folder} holds the results of {what} ({key} is {first}, in {where} {second}): give each "
        "grid and each shard a folder of its own"
    )


def _short(*values: Any) -> list[str]:
    """Return values as texts of some 60 letters, from shortly before they differ."""
    texts = [" ".join(json.dumps(value, ensure_ascii=False).split()) for value in values]
    first = max(0, len(os.path.commonprefix(texts)) - 30) if max(map(len, texts)) > 60 else 0
    shown = [text[first : first + 60] for text in texts]
    return [
        "…" * (first > 0) + part + "…" * (len(text) > first + 60)
        for part, text in zip(shown, texts, strict=True)
    ]


def _read_table(folder: Path) -> "pd.DataFrame":
    import pandas as pd

    return pd.read_parquet(folder / TABLE)


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    """Replace a file, in a folder that is made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, write)
