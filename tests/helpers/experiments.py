"""Experiments as they are composed, and what their sweeps leave behind."""

from pathlib import Path
from typing import Any

import pandas as pd
from hydra import compose, initialize_config_dir

from lightning_lazy.resolvers import register_resolvers
from lightning_lazy.resume import plain_config

CONF = Path(__file__).parents[2] / "conf"


def composed(*overrides: str) -> dict[str, Any]:
    """The configuration that ``train.py`` makes of overrides, as plain containers."""
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return plain_config(compose("config", overrides=list(overrides)))


def sweep(name: str) -> tuple[Path, pd.DataFrame]:
    """The folder of the only sweep of an experiment such as ``huang/fig1``, and its cells."""
    (folder,) = Path("runs", name).iterdir()
    return folder, pd.read_csv(folder / "cells.csv")
