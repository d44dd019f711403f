"""What an override means for a run that goes on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from torch import nn

from lightning_lazy.checkpoints import CONFIG_KEY
from lightning_lazy.errors import InputError
from lightning_lazy.nested import leaves

_MISSING = object()
_NEEDED = ("state_dict", "optimizer_states", "loops", "callbacks")
_REFUSED = {
    "alpha": "the model",
    "centering": "the model",
    "model": "the model",
    "linearize": "the model",
    "module.alpha": "the model",
    "module.centering": "the model",
    "batch_size": "the data",
    "data": "the data",
    "seed": "the data",
    "schedule": "the schedule",
    "module.schedule_interval": "the schedule",
    "optimizer._target_": "the optimizer",
    "loss": "the loss",
    "trainer.precision": "the precision",
}


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``new`` sets differently from ``old``, by dotted path.

    Raises:
        InputError: The model, the data, the optimizer's class, the schedule, the loss or the
            precision would change.
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


def resumed_config(folder: Path, new: DictConfig) -> dict[str, Any]:
    """Return the configuration of the run in ``folder`` with the overrides of its resume on top.

    The run's own ``config.yaml`` is the base. What the new overrides mean is the difference that
    they make when the configuration is composed.

    Args:
        folder: Folder of the run.
        new: What the overrides of the first start and of the resume compose to.

    Raises:
        InputError: The model, the data, the optimizer's class, the schedule, the loss or the
            precision would change.
    """
    before = [str(text) for text in read_settings(folder / ".hydra" / "overrides.yaml", list)]
    old = compose(HydraConfig.get().job.config_name, overrides=before)
    base = read_settings(folder / "config.yaml", dict)
    return apply_changes(base, changes(plain_config(old), plain_config(new)))


def read_settings(path: Path, kind: type) -> Any:
    """Read a file of a run's settings into plain containers.

    Args:
        path: The file.
        kind: ``list`` or ``dict``, what it must hold.

    Raises:
        InputError: It holds something else, or nothing.
    """
    try:
        settings = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:  # what a damaged file raises depends on the byte that is wrong
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} can't be read ({reason}): start a new run") from error
    if not isinstance(settings, kind) or (kind is dict and not settings):
        raise InputError(
            f"{path} must hold the settings of a run, got {settings!r}: start a new run"
        )
    return settings


def record_overrides(folder: Path, task_overrides: list[str]) -> None:
    """Note what the run is now, for its next resume: of each key the last override."""
    last = {text.partition("=")[0]: text for text in task_overrides}
    last.pop("ckpt_path", None)
    OmegaConf.save(OmegaConf.create(list(last.values())), folder / ".hydra" / "overrides.yaml")


def optimizer_changes(checkpoint: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the optimizer's hyper-parameters that differ from those of a checkpoint.

    The optimizer's state holds them, too, and would bring the old ones back.

    Raises:
        InputError: The checkpoint was not written by ``train.py``, or the optimizer's state does
            not hold a hyper-parameter that is changed.
    """
    if not isinstance(checkpoint, Mapping) or CONFIG_KEY not in checkpoint:
        raise InputError(
            "the checkpoint holds no configuration: resume from one that train.py wrote"
        )
    missing = [name for name in _NEEDED if not checkpoint.get(name)]
    if missing:
        raise InputError(
            f"the checkpoint holds no {', '.join(missing)}: resume from one that train.py wrote"
        )
    old, new = leaves(checkpoint[CONFIG_KEY]["optimizer"]), leaves(config["optimizer"])
    changed = {key: value for key, value in new.items() if old.get(key, _MISSING) != value}
    group = checkpoint["optimizer_states"][0]["param_groups"][0]
    for key in changed:
        if key not in group:
            known = ", ".join(name for name in group if name != "params")
            raise InputError(f"optimizer.{key} can't be changed on resume: its state has {known}")
    return changed


def check_weights(checkpoint: Mapping[str, Any], module: nn.Module) -> None:
    """Check that a checkpoint's weights are those of a module, by their names and shapes.

    Raises:
        InputError: They belong to another model.
    """
    own = {name: tuple(value.shape) for name, value in module.named_parameters()}
    saved = {
        name: tuple(value.shape)
        for name, value in checkpoint["state_dict"].items()
        if torch.is_tensor(value)
    }
    for name, shape in own.items():
        if saved.get(name) != shape:
            raise InputError(
                f"the checkpoint is that of another model: {name} has shape {list(shape)} in this "
                f"one, got {list(saved[name]) if name in saved else 'none'}: resume from a "
                "checkpoint of this run"
            )


def check_length(checkpoint: Mapping[str, Any], plain: Mapping[str, Any]) -> None:
    """Check that a run is not to end before where its checkpoint is.

    Raises:
        InputError: It is.
    """
    progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
    done = {"max_epochs": progress["processed"], "max_steps": checkpoint["global_step"]}
    for name, count in done.items():
        if 0 < plain[name] < count:
            raise InputError(
                f"{name} must be at least {count}, which the run has done already, got "
                f"{plain[name]}: choose a larger one to go on"
            )


def plain_config(config: DictConfig) -> dict[str, Any]:
    """Return the configuration resolved, in plain containers, with the periods it implies.

    With ``batch_size: full`` one update is one pass over the data, and all periods count updates.
    Where ``data.flatten`` is left open, models of ``in_features`` inputs get flat images. A
    linearised model has no activations that could change.
    """
    config = config.copy()
    if config.batch_size == "full":
        config.max_steps = config.max_steps if config.max_steps > 0 else config.max_epochs
        config.every_n_steps = config.every_n_steps or 50
        config.checkpoint_every_n_steps = config.checkpoint_every_n_steps or 500
        config.module.schedule_interval = "step"
    if config.max_steps > 0:
        config.max_epochs = -1
    if config.data.get("flatten", True) is None:
        config.data.flatten = "in_features" in config.model
    if config.linearize and "activation_stability" in config.callbacks:
        config.callbacks.activation_stability = None
    if config.every_n_steps is not None or isinstance(
        config.trainer.get("val_check_interval"), int
    ):
        OmegaConf.update(config, "trainer.check_val_every_n_epoch", None, force_add=True)
    plain: dict[str, Any] = OmegaConf.to_container(  # type: ignore[assignment]
        config, resolve=True, throw_on_missing=True
    )
    plain["ckpt_path"] = None
    return plain
