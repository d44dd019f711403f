"""Where a run starts: anew, at the checkpoint that it is given, or where a sweep was stopped."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from lightning_lazy.checkpoints import LAST, read_checkpoint
from lightning_lazy.resume import optimizer_changes, plain_config, resumed_config


class Origin(NamedTuple):
    """Where a run goes on from.

    Attributes:
        path: The checkpoint; ``None``: the run is a new one, or a grid, which knows by itself.
        checkpoint: What is in it.
        changed: Hyper-parameters of the optimizer that are others from now on.
    """

    path: str | None = None
    checkpoint: Any = None
    changed: Mapping[str, Any] = {}


def settings(config: DictConfig, folder: Path) -> tuple[dict[str, Any], Origin]:
    """Return the resolved configuration, and where a run that is given ``ckpt_path`` goes on."""
    path = config.ckpt_path or None
    if path is None:
        return plain_config(config), Origin()
    plain = resumed_config(folder, config)
    if plain.get("stacked") is not None:
        return plain, Origin()
    checkpoint = read_checkpoint(path)
    return plain, Origin(path, checkpoint, optimizer_changes(checkpoint, plain))


def is_recorded(folder: Path, plain: dict[str, Any]) -> bool:
    """Return whether the folder is that of an earlier start of the same run."""
    recorded = folder / "config.yaml"
    return recorded.is_file() and OmegaConf.to_container(OmegaConf.load(recorded)) == plain


def last_checkpoint(folder: Path, plain: dict[str, Any]) -> Origin:
    """Return where a cell that was stopped goes on from."""
    path = folder / "checkpoints" / LAST
    if plain.get("stacked") is not None or not path.is_file():
        return Origin()
    return Origin(str(path), read_checkpoint(path))
