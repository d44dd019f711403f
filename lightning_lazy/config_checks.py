"""What is wrong with a configuration, said before anything is built from it."""

import re
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lightning_lazy.build import check_call
from lightning_lazy.checks import check_number, check_period, check_size
from lightning_lazy.errors import InputError

_BUILT = ("model", "data", "loss", "optimizer", "module", "trainer")
_BUILT_IF_GIVEN = ("schedule", "stacked", "sweep_figure")
_COLLECTIONS = ("callbacks", "logger", "figures")
_KNOBS = (
    "alpha", "lr", "l2", "seed", "only_seed", "batch_size", "max_epochs", "max_steps", "centering",
    "linearize", "every_n_steps", "checkpoint_every_n_steps", "name", "ckpt_path",
)  # fmt: skip
_CELLS = ("lr", "alpha", "optimizer")


def check_config(config: DictConfig) -> None:
    """Check the form of a configuration, and the knobs that no constructor checks.

    Raises:
        InputError: A part is missing or of another form, or a knob is out of range.
    """
    for name in (*_KNOBS, *_BUILT, *_COLLECTIONS):
        if name not in config:
            raise InputError(f"the configuration must have {name}, got none: leave out ~{name}")
    for name in (*_BUILT, *_BUILT_IF_GIVEN):
        _check_built(name, config.get(name), needed=name in _BUILT)
    for name in _COLLECTIONS:
        if not isinstance(config[name], DictConfig):
            raise InputError(
                f"{name} must be a group of named parts, got {config[name]!r}: see the examples "
                "in conf"
            )
        for key, part in config[name].items():
            _check_built(f"{name}.{key}", part, needed=False)
    if config.logger.get("csv") is None:
        raise InputError(
            "logger.csv must be there, since summary and figures are made of its metrics.csv, got "
            "none: leave it as it is"
        )
    _check_knobs(config)


def check_grid_overrides(overrides: Sequence[str]) -> None:
    """Refuse overrides of what the axes of a grid decide about each cell.

    Args:
        overrides: The overrides of a run that trains a grid.

    Raises:
        InputError: One of them would have no effect.
    """
    for text in overrides:
        name, _, value = text.partition("=")
        if name in _CELLS:
            raise InputError(
                f"{text} has no effect on a grid, whose axes say it for each cell: use "
                f"stacked.axes.{name}={value}"
            )


def check_additions(config: DictConfig, overrides: Sequence[str], groups: Iterable[str]) -> None:
    """Refuse a key that an override adds where nothing reads it, such as a misspelt knob.

    Args:
        config: What the overrides compose to, interpolations as they are.
        overrides: The overrides of the run.
        groups: Names of the groups that it is composed of.

    Raises:
        InputError: Such a key is added.
    """
    known = {*_KNOBS, *_BUILT, *_BUILT_IF_GIVEN, *_COLLECTIONS, *groups}
    for text in overrides:
        if not text.startswith("+") or text.startswith("++"):
            continue
        name = re.split("[=.@]", text[1:])[0]
        if name not in known and not _is_read(config, name):
            raise InputError(
                f"{text} has no effect, since nothing reads {name}: check its spelling (see: "
                "python train.py --help)"
            )


def _is_read(config: DictConfig, name: str) -> bool:
    """Return whether an interpolation somewhere in a configuration starts with a key."""
    return re.search(rf"\$\{{{re.escape(name)}\W", OmegaConf.to_yaml(config)) is not None


def check_figures(plain: dict[str, Any]) -> None:
    """Check that what draws at the end of a run or of a sweep can be called.

    Args:
        plain: The resolved configuration.

    Raises:
        InputError: A function is not there or does not take its arguments.
    """
    for node in (*plain["figures"].values(), plain.get("sweep_figure")):
        if node is not None:
            check_call(node, "folder")


def check_trainer(node: dict[str, Any]) -> None:
    """Check the Trainer's arguments that it takes without a word and trips over later.

    Raises:
        InputError: One is out of range.
    """
    for name in ("callbacks", "logger"):
        if name in node:
            raise InputError(
                f"trainer.{name} comes from the group {name}, got {node[name]!r}: use {name}=… or "
                f"+{name}.mine._target_=…"
            )
    for name in ("max_epochs", "max_steps"):
        if isinstance(node.get(name), int) and node[name] == 0:
            raise InputError(
                f"trainer.{name} must be at least 1, or -1 for no limit, got {node[name]!r}: use "
                f"{name}=1"
            )
    if isinstance(node.get("fast_dev_run"), int) and node["fast_dev_run"] > 0:
        raise InputError(
            "trainer.fast_dev_run must be false, since it leaves out the files of a run, got "
            f"{node['fast_dev_run']!r}: use max_steps=1"
        )
    if node.get("check_val_every_n_epoch") is not None:
        check_size("trainer.check_val_every_n_epoch", node["check_val_every_n_epoch"])
    if "accumulate_grad_batches" in node:
        check_size("trainer.accumulate_grad_batches", node["accumulate_grad_batches"])
    if node.get("gradient_clip_val") is not None:
        check_number("trainer.gradient_clip_val", node["gradient_clip_val"], zero=True)
    for name in ("limit_train_batches", "val_check_interval"):
        if node.get(name) is not None:
            check_number(f"trainer.{name}", node[name])


def _check_built(name: str, node: Any, *, needed: bool) -> None:
    """Check that a part names what it is built from, or is null where it may be."""
    if node is None and not needed:
        return
    if not isinstance(node, DictConfig) or not isinstance(node.get("_target_"), str):
        null = "" if needed else " or null"
        raise InputError(
            f"{name} must be settings with the _target_ that they build{null}, got {node!r}: see "
            "the examples in conf"
        )


def _check_knobs(config: DictConfig) -> None:
    check_number("lr", config.lr, zero=True)
    for name in ("max_epochs", "max_steps"):
        if isinstance(config[name], bool) or config[name] != -1:
            check_size(name, config[name])
    if config.max_epochs == config.max_steps == -1:
        raise InputError("max_epochs or max_steps must be above 0: the run would never end")
    for name in ("seed", "only_seed"):
        if config[name] is None and name == "only_seed":
            continue
        if check_size(name, config[name], minimum=0) >= 2**32:
            raise InputError(
                f"{name} must be below 2**32, got {config[name]}; choose a smaller one"
            )
    check_period("every_n_steps", config.every_n_steps)
    check_period("checkpoint_every_n_steps", config.checkpoint_every_n_steps)
    if not isinstance(config.linearize, bool):
        raise InputError(f"linearize must be true or false, got {config.linearize!r}; pick one")
    name = config.name
    if isinstance(name, bool) or not isinstance(name, str | Real) or not str(name).strip():
        raise InputError(f"name must be a word such as default, got {name!r}; change name")
