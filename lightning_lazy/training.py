"""From a configuration to a finished run: build, fit, report."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_only

from lightning_lazy.build import accepts, build, build_module
from lightning_lazy.checkpoints import read_checkpoint
from lightning_lazy.config_checks import (
    check_config,
    check_figures,
    check_grid_overrides,
    check_trainer,
)
from lightning_lazy.curvature.linearization import LinearizedModel
from lightning_lazy.data.memory import MemoryDataModule
from lightning_lazy.errors import InputError
from lightning_lazy.figures.run_figures import RunFigures
from lightning_lazy.laziness import undisturbed
from lightning_lazy.nested import leaves
from lightning_lazy.processes import (
    TogetherToTheEnd,
    finished_in_spite_of_aborts,
    refuse_subprocesses,
)
from lightning_lazy.reporting import is_main_process
from lightning_lazy.resume import (
    check_weights,
    optimizer_changes,
    plain_config,
    record_overrides,
    resumed_config,
)
from lightning_lazy.run_files import RunFiles


def train(config: DictConfig) -> None:
    """Train what ``config`` describes, in the folder that Hydra has chosen.

    The folder then holds ``config.yaml`` (resolved), ``metrics.csv``, ``summary.json``,
    ``checkpoints/last.ckpt`` and ``figures/*.png``. With ``ckpt_path`` the run that the checkpoint
    belongs to goes on in its own folder. In a multirun a cell that is finished is skipped.

    Args:
        config: As composed from ``conf/config.yaml``.

    Raises:
        InputError: The configuration can't be run.
    """
    check_config(config)
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    ckpt_path = config.ckpt_path
    changed, checkpoint = {}, None
    if ckpt_path is None:
        plain = plain_config(config)
    else:
        plain = resumed_config(folder, config)
        if plain.get("stacked") is None:
            checkpoint = read_checkpoint(ckpt_path)
            changed = optimizer_changes(checkpoint, plain)
    check_figures(plain)
    check_trainer(plain["trainer"])
    in_sweep = hydra.mode is RunMode.MULTIRUN
    if in_sweep:
        refuse_subprocesses(plain["trainer"])
        if plain["only_seed"] not in (None, plain["seed"]):
            print(f"left out: {folder} (seed {plain['seed']}; only_seed={plain['only_seed']})")
            return
    data = _prepared_data(plain)
    if in_sweep and _is_finished(folder, plain):
        print(f"already finished: {folder} (delete it to run it again)")
        return
    pl.seed_everything(plain["seed"], workers=True, verbose=False)
    with _default_dtype(plain["trainer"].get("precision")):
        module = build_module(plain)
    if checkpoint is not None:
        check_weights(checkpoint, module)
    _check_optimizer(module, plain)
    _check_shapes(module, data, plain["trainer"].get("precision"))
    if plain.get("stacked") is not None:
        check_grid_overrides(list(hydra.overrides.task))
        _train_grid(plain, folder, data, in_sweep)
        return
    if is_main_process():
        OmegaConf.save(OmegaConf.create(plain), folder / "config.yaml")
        if ckpt_path is not None:
            record_overrides(folder, list(hydra.overrides.task))
    files = RunFiles(
        str(folder),
        every_n_steps=plain["checkpoint_every_n_steps"],
        config=plain,
        optimizer_overrides=changed,
    )
    _fit(_trainer(plain, folder, files), module, data, ckpt_path, folder)
    _report(folder, in_sweep)


def _prepared_data(plain: dict[str, Any]) -> pl.LightningDataModule:
    """Build and load the data, and fill the sizes that the model's configuration leaves open."""
    data = build(plain["data"])
    if is_main_process():
        data.prepare_data()
    # stderr is for errors; which images there are stands in config.yaml.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    data.setup("fit")
    for key in ("in_features", "in_channels", "image_size", "outputs"):
        if key in plain["model"] and plain["model"][key] is None:
            plain["model"][key] = getattr(data, key)
    return data


def _is_finished(folder: Path, plain: dict[str, Any]) -> bool:
    summary, recorded = folder / "summary.json", folder / "config.yaml"
    if not (summary.is_file() and recorded.is_file()):
        return False
    return OmegaConf.to_container(OmegaConf.load(recorded)) == plain


def _train_grid(plain: dict[str, Any], folder: Path, data: Any, in_sweep: bool) -> None:
    """Train a grid of cells at once; it keeps the files of its folder itself.

    Raises:
        InputError: The configuration asks for what a grid can't do.
    """
    if plain["schedule"] is not None and not plain["schedule"]["_target_"].endswith(".Constant"):
        raise InputError("a grid has constant learning rates: use schedule=constant")
    if plain["batch_size"] != "full":
        raise InputError("a grid is trained on all images at once: use batch_size=full")
    for name in ("mixup", "patches"):
        if plain["data"].get(name) is not None:
            raise InputError(f"a grid sees the same images in every step: use data.{name}=null")

    def net(**knobs: Any) -> torch.nn.Module:
        made = build(plain["model"], **knobs)
        return LinearizedModel(made) if plain["linearize"] else made

    grid = build(plain["stacked"], net=net, loss=build(plain["loss"]), folder=str(folder))
    grid.config = plain
    endless = {"max_epochs": -1, "max_steps": -1, "limit_val_batches": 0}
    settings = {**plain, "trainer": {**plain["trainer"], **endless}}
    trainer = _trainer(settings, folder, None)
    if trainer.world_size > 1:  # said here, since the net's maker can't go to other processes
        raise InputError(
            f"a grid must run on one device, got {trainer.world_size}: start a process for each, "
            "with stacked.shard=1/2 and stacked.shard=2/2"
        )
    _fit(trainer, grid, data, None, folder)
    _report(folder, in_sweep)


def _trainer(plain: dict[str, Any], folder: Path, files: RunFiles | None) -> pl.Trainer:
    callbacks = [build(node) for node in plain["callbacks"].values() if node is not None]
    # What Lightning says about devices and loggers does not concern a user of train.py. (The second
    # package is imported by the callbacks and sets levels of its own.)
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    loggers = []
    for node in filter(None, plain["logger"].values()):
        own = {key: str(folder) for key in ("folder", "save_dir") if accepts(node["_target_"], key)}
        loggers.append(build({**own, **{k: v for k, v in node.items() if v is not None}}))
    for logger in loggers:
        _start_logger(logger, plain)
    figures = RunFigures(str(folder), plain["figures"])
    shows_progress = any(isinstance(one, pl.callbacks.ProgressBar) for one in callbacks)
    trainer: pl.Trainer = build(
        {
            "enable_progress_bar": shows_progress,
            "default_root_dir": str(folder),
            **plain["trainer"],
        },
        callbacks=[*([] if files is None else [files]), *callbacks, figures, TogetherToTheEnd()],
        logger=loggers,
    )
    return trainer


def _start_logger(logger: Any, plain: dict[str, Any]) -> None:
    """Log the configuration, with which loggers open their run.

    Raises:
        InputError: It can't be opened: its settings are wrong, or a service asks for a login.
    """
    try:
        logger.log_hyperparams(plain)
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{type(logger).__name__} can't be started ({reason}): change its settings in logger, "
            "or leave it out"
        ) from error


def _fit(trainer: pl.Trainer, module: Any, data: Any, ckpt_path: str | None, folder: Path) -> None:
    """Fit, and end what would otherwise run on into the next run of a multirun."""
    try:
        with warnings.catch_warnings():
            # Images are in memory: workers would only copy them.
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
            warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
            with finished_in_spite_of_aborts(folder):
                trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    finally:
        _finish_wandb(trainer)


def _finish_wandb(trainer: pl.Trainer) -> None:
    """End the W&B run, which the next run of a multirun would otherwise be written into."""
    if any(isinstance(logger, pl.loggers.WandbLogger) for logger in trainer.loggers):
        import wandb

        wandb.finish()


@contextmanager
def _default_dtype(precision: Any) -> Iterator[None]:
    """Initialise weights in double precision where the run is in double precision."""
    before = torch.get_default_dtype()
    if str(precision) in ("64", "64-true"):
        torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _check_optimizer(module: Any, plain: dict[str, Any]) -> None:
    """Say before training starts what the optimizer or the schedule does not accept."""
    try:
        module.configure_optimizers()
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        given = ", ".join(
            f"{part}.{path}={value}"
            for part in ("optimizer", "schedule")
            for path, value in leaves(plain.get(part) or {}).items()
            if path and path[0] != "_"
        )
        raise InputError(
            f"can't build the optimizer or its schedule: {error}; change one of {given}"
        ) from error


def _check_shapes(module: Any, data: Any, precision: Any) -> None:
    """Say before training starts that the model does not take the images.

    Raises:
        InputError: It does not, or its outputs are not as many as the task needs.
    """
    if not isinstance(data, MemoryDataModule):
        return
    with _default_dtype(precision), undisturbed(module), torch.no_grad():
        x, y = data.transform(data.val_set.__getitems__([0, len(data.val_set) - 1]))
        try:
            module.loss(module.net(x), y)
        except InputError:
            raise
        except (RuntimeError, ValueError, TypeError) as error:
            raise InputError(
                f"the model does not take images of shape {list(x.shape[1:])}, or its outputs do "
                f"not fit the labels ({str(error).splitlines()[0]}): change model or data (data."
                "flatten, data.resolution)"
            ) from error


@rank_zero_only
def _report(folder: Path, in_sweep: bool) -> None:
    """Print the final metrics and where everything is, read from the run's files."""
    summary = json.loads((folder / "summary.json").read_text())
    if in_sweep:
        metrics = summary["metrics"]
        accuracies = [name for name in metrics if name.startswith("val/") and name.endswith("/acc")]
        shown = [name for name in ("val/acc", *accuracies, "val/loss") if name in metrics]
        values = f", {shown[0]} {metrics[shown[0]]}" if shown else ""
        print(f"{folder}: {summary['steps']} steps{values}")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("metric", "value", title=f"after {summary['steps']} steps")
    for name, value in summary["metrics"].items():
        if name != "health/diverged":
            table.add_row(name, "not finite" if value is None else f"{value:.6g}")
    table.add_row("diverged", str(summary["diverged"]))
    table.add_row("wall time", f"{summary['wall_time_s']:.1f} s")
    console = Console()
    console.print(table)
    print(f"run folder: {folder}")
