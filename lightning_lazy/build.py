"""From configuration to objects: the one place where ``_target_`` is followed."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from hydra.errors import HydraException
from hydra.utils import get_object, instantiate
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import OmegaConf
from torch import nn

from lightning_lazy.argument_types import check_types, find, parameters
from lightning_lazy.curvature.linearization import LinearizedModel
from lightning_lazy.errors import InputError

_RESERVED = ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")
SAFE_PREFIXES = ("lightning_lazy.", "torch.nn.", "torch.optim.", "torchvision.models.")


def build(node: Mapping[str, Any], allowed: Sequence[str] | None = None, **arguments: Any) -> Any:
    """Build the object that a configuration node describes.

    Args:
        node: Plain containers with ``_target_``, as ``hydra.utils.instantiate`` takes them.
        allowed: Prefixes of module names that may be built from; ``None``: any, for a
            configuration that the user wrote.
        arguments: Further arguments of the outermost target.

    Raises:
        InputError: A target is not there, not allowed, or does not accept its arguments.
    """
    if allowed is not None:
        _check_targets(node, tuple(allowed))
    find(node.get("_target_"))
    try:
        built = instantiate(OmegaConf.create(dict(node)), _convert_="all", **arguments)
    except HydraException as error:
        cause = error.__cause__
        if isinstance(cause, InputError):
            raise InputError(str(cause)) from error
        check_types(node)  # a wrong type says more than what came of it
        raise InputError(
            f"can't build {node.get('_target_')}: {_reason(cause or error)}"
        ) from error
    check_types(node)
    return built


def check_kind(name: str, built: object, kind: type) -> None:
    """Check that what was built for a part of the configuration is of the kind that it must be.

    Raises:
        InputError: It is not, as with another ``_target_`` or with ``_partial_``.
    """
    if not isinstance(built, kind):
        package = kind.__module__.partition(".")[0]
        raise InputError(
            f"{name} must build a {kind.__name__} of {package}, got a "
            f"{type(built).__module__}.{type(built).__name__}: change {name}._target_ or leave out "
            f"{name}._partial_"
        )


def _reason(error: BaseException) -> str:
    """Return an error's first line, with its kind where the line may not say enough."""
    line = next((line for line in str(error).splitlines() if line.strip()), "")
    told = isinstance(error, TypeError | ValueError | HydraException | MisconfigurationException)
    return line if told and line else f"{type(error).__name__}: {line}"


def build_module(
    config: Mapping[str, Any], allowed: Sequence[str] | None = None
) -> pl.LightningModule:
    """Build the LightningModule of a run's resolved configuration.

    Its keys ``model``, ``loss``, ``optimizer`` and ``schedule`` are built into the arguments of
    ``module``; with ``linearize`` the net is the linearisation of the model.
    """
    parts = {"net": config["model"]}
    for name in ("loss", "optimizer", "schedule"):
        if config.get(name) is not None:
            parts[name] = config[name]
    built = {name: build(part, allowed) for name, part in parts.items()}
    check_kind("model", built["net"], nn.Module)
    if config.get("linearize"):
        built["net"] = LinearizedModel(built["net"])
    module = build(config["module"], allowed, **built)
    check_kind("module", module, pl.LightningModule)
    return module


def _check_targets(node: Any, allowed: tuple[str, ...]) -> None:
    """Refuse any target outside of ``allowed``, judged by where the object is really defined."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            _check_target(str(node["_target_"]), allowed)
        for child in node.values():
            _check_targets(child, allowed)
    elif isinstance(node, list | tuple):
        for child in node:
            _check_targets(child, allowed)


def _check_target(target: str, allowed: tuple[str, ...]) -> None:
    refusal = InputError(
        f"the checkpoint asks to build {target}, which is not in {', '.join(allowed)}: if you "
        "trust the file, pass trusted=[...] with the module's prefix"
    )
    if not target.startswith(allowed):
        raise refusal
    try:
        found = get_object(target)
    except (ImportError, ValueError) as error:
        raise InputError(f"the checkpoint asks to build {target}, which is not there") from error
    home = f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}"
    if not callable(found) or not home.startswith(allowed):
        raise refusal


def accepts(target: str, argument: str) -> bool:
    """Return whether the constructor that ``target`` names has a parameter ``argument``."""
    return argument in parameters(target)


def check_call(node: Mapping[str, Any], *given: str) -> None:
    """Check that a target is there and takes the arguments of its node, without calling it.

    Args:
        node: Plain containers with ``_target_``.
        given: Names of further arguments.

    Raises:
        InputError: It does not.
    """
    target = find(node.get("_target_"))
    own = {key: value for key, value in node.items() if key not in _RESERVED}
    try:
        inspect.signature(target).bind(**own, **dict.fromkeys(given))
    except TypeError as error:
        raise InputError(f"can't call {node['_target_']}: {error}; change its arguments") from error
    check_types(node)
