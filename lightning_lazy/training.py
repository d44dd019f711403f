"""From a configuration to a finished run: build, fit, report."""

import json
import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.utilities import rank_zero_only

from lightning_lazy.build import build, build_module, check_kind
from lightning_lazy.config_checks import (
    check_additions,
    check_config,
    check_figures,
    check_grid_overrides,
    check_trainer,
)
from lightning_lazy.curvature.linearization import LinearizedModel
from lightning_lazy.errors import InputError
from lightning_lazy.origin import Origin, is_recorded, last_checkpoint, settings
from lightning_lazy.processes import refuse_subprocesses
from lightning_lazy.reporting import is_main_process
from lightning_lazy.resume import check_length, check_weights, record_overrides
from lightning_lazy.run_files import RunFiles
from lightning_lazy.run_trainer import build_trainer, fit
from lightning_lazy.start_checks import check_optimizer, check_shapes, default_dtype


def train(config: DictConfig) -> None:
    """Train what ``config`` describes, in the folder that Hydra has chosen.

    The folder then holds ``config.yaml`` (resolved), ``metrics.csv``, ``summary.json``,
    ``checkpoints/last.ckpt`` and ``figures/*.png``. With ``ckpt_path`` the run that the checkpoint
    belongs to goes on in its own folder. In a multirun that is started again a finished cell is
    skipped, and one that was stopped goes on from its last checkpoint.

    Args:
        config: As composed from ``conf/config.yaml``.

    Raises:
        InputError: The configuration can't be run.
    """
    check_config(config)
    hydra = HydraConfig.get()
    overrides: Any = OmegaConf.to_container(hydra.overrides.task)  # interpolations as they are
    check_additions(config, overrides, hydra.runtime.choices)
    folder = Path(hydra.runtime.output_dir)
    plain, origin = settings(config, folder)
    check_figures(plain)
    check_trainer(plain["trainer"])
    in_sweep = hydra.mode is RunMode.MULTIRUN
    if in_sweep:
        refuse_subprocesses(plain["trainer"])
        if plain["only_seed"] not in (None, plain["seed"]):
            print(f"left out: {folder} (seed {plain['seed']}; only_seed={plain['only_seed']})")
            return
    data = _prepared_data(plain)
    if in_sweep and is_recorded(folder, plain):
        if (folder / "summary.json").is_file():
            print(f"already finished: {folder} (delete it to run it again)")
            return
        origin = last_checkpoint(folder, plain)
    module = _checked_module(plain, data, origin)
    if plain.get("stacked") is not None:
        check_grid_overrides(overrides)
        _train_grid(plain, folder, data)
    else:
        if origin.path is not None and not in_sweep and is_main_process():
            record_overrides(folder, overrides)
        _train_run(plain, folder, data, module, origin)
    _report(folder, in_sweep)


def _prepared_data(plain: dict[str, Any]) -> pl.LightningDataModule:
    """Build and load the data, and fill the sizes that the model's configuration leaves open."""
    data: pl.LightningDataModule = build(plain["data"])
    check_kind("data", data, pl.LightningDataModule)
    if is_main_process():
        data.prepare_data()
    # stderr is for errors; which images there are stands in config.yaml.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    data.setup("fit")
    for key in ("in_features", "in_channels", "image_size", "outputs"):
        if key in plain["model"] and plain["model"][key] is None:
            plain["model"][key] = getattr(data, key)
    return data


def _checked_module(plain: dict[str, Any], data: Any, origin: Origin) -> pl.LightningModule:
    """Build the module, and check that data, optimizer and checkpoint are for it."""
    pl.seed_everything(plain["seed"], workers=True, verbose=False)
    with default_dtype(plain["trainer"].get("precision")):
        module = build_module(plain)
    if origin.checkpoint is not None:
        check_weights(origin.checkpoint, module)
        check_length(origin.checkpoint, plain)
    check_optimizer(module, plain)
    check_shapes(module, data, plain["trainer"].get("precision"))
    return module


def _train_run(
    plain: dict[str, Any], folder: Path, data: Any, module: pl.LightningModule, origin: Origin
) -> None:
    """Train a single run."""
    if is_main_process():
        OmegaConf.save(OmegaConf.create(plain), folder / "config.yaml")
    files = RunFiles(
        str(folder),
        every_n_steps=plain["checkpoint_every_n_steps"],
        config=plain,
        optimizer_overrides=origin.changed,
    )
    fit(build_trainer(plain, folder, files), module, data, origin.path, folder)


def _train_grid(plain: dict[str, Any], folder: Path, data: Any) -> None:
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
    trainer = build_trainer(settings, folder, None)
    if trainer.world_size > 1:  # said here, since the net's maker can't go to other processes
        raise InputError(
            f"a grid must run on one device, got {trainer.world_size}: start a process for each, "
            "with stacked.shard=1/2 and stacked.shard=2/2"
        )
    fit(trainer, grid, data, None, folder)


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
