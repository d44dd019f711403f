"""What an override means for a run that goes on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from lightning_lazy.errors import InputError
from lightning_lazy.reporting import is_main_process

_MISSING = object()
_REFUSED = {
    "alpha": "the model",
    "centering": "the model",
    "model": "the model",
    "module.alpha": "the model",
    "module.centering": "the model",
    "batch_size": "the data",
    "data": "the data",
    "seed": "the data",
    "schedule": "the schedule",
    "module.schedule_interval": "the schedule",
    "optimizer._target_": "the optimizer",
}


def leaves(node: Any, path: str = "") -> dict[str, Any]:
    """Return the values of nested mappings by dotted path; lists count as values."""
    if not isinstance(node, Mapping) or not node:
        return {path: node}
    found: dict[str, Any] = {}
    for key, child in node.items():
        found |= leaves(child, f"{path}.{key}" if path else str(key))
    return found


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``new`` sets differently from ``old``, by dotted path.

    Raises:
        InputError: The model, the data, the optimizer's class or the schedule would change.
    """
    before, after = leaves(old), leaves(new)
    changed = {path: value for path, value in after.items() if before.get(path, _MISSING) != value}
    changed |= {path: _MISSING for path in before if path not in after}
    for path in changed:
        for prefix, what in _REFUSED.items():
            if path == prefix or path.startswith(prefix + "."):
                raise InputError(
                    f"{path}={after.get(path)} would change {what} of the run that goes on "
                    f"(it was {before.get(path)}): start a new run, without ckpt_path"
                )
    return changed


def apply_changes(base: dict[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with the values of ``changed`` set, or removed where they are gone."""
    config = OmegaConf.create(base)
    for path, value in changed.items():
        if value is _MISSING:
            parent, _, key = path.rpartition(".")
            node = OmegaConf.select(config, parent) if parent else config
            if node is not None and key in node:
                del node[key]
        else:
            OmegaConf.update(config, path, value, merge=False)
    return OmegaConf.to_container(config)  # type: ignore[return-value]


def resumed_config(folder: Path, task_overrides: list[str], new: DictConfig) -> dict[str, Any]:
    """Return the configuration of the run in ``folder`` with the overrides of its resume on top.

    The run's own ``config.yaml`` is the base. What the new overrides mean is the difference that
    they make when the configuration is composed; the run's record is brought up to date.

    Args:
        folder: Folder of the run.
        task_overrides: Overrides of the first start and of the resume.
        new: The configuration that they compose to.
    """
    record = folder / ".hydra" / "overrides.yaml"
    before = [str(text) for text in OmegaConf.load(record) if "ckpt_path=" not in str(text)]
    old = compose(HydraConfig.get().job.config_name, overrides=before)
    changed = changes(plain_config(old), plain_config(new))
    base: dict[str, Any] = OmegaConf.to_container(  # type: ignore[assignment]
        OmegaConf.load(folder / "config.yaml")
    )
    kept = [text for text in task_overrides if not text.startswith("ckpt_path=")]
    if is_main_process():
        OmegaConf.save(OmegaConf.create(kept), record)
    config = apply_changes(base, changed)
    config["optimizer_overrides"] = {
        path.removeprefix("optimizer."): value
        for path, value in changed.items()
        if path.startswith("optimizer.")
    }
    return config


def plain_config(config: DictConfig) -> dict[str, Any]:
    """Return the configuration resolved, in plain containers, with the periods it implies.

    With ``batch_size: full`` one update is one pass over the data, and all periods count updates.
    """
    config = config.copy()
    if config.batch_size == "full":
        config.max_steps = config.max_steps if config.max_steps > 0 else config.max_epochs
        config.every_n_steps = config.every_n_steps or 50
        config.checkpoint_every_n_steps = config.checkpoint_every_n_steps or 500
        config.module.schedule_interval = "step"
    if config.max_steps > 0:
        config.max_epochs = -1
    if config.every_n_steps is not None:
        OmegaConf.update(config, "trainer.check_val_every_n_epoch", None, force_add=True)
    plain: dict[str, Any] = OmegaConf.to_container(  # type: ignore[assignment]
        config, resolve=True, throw_on_missing=True
    )
    plain["ckpt_path"] = None
    return plain
