"""Every member of every group composes, and what it describes can be built."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir

from lightning_lazy.build import build, build_module
from lightning_lazy.resolvers import register_resolvers
from lightning_lazy.resume import plain_config

ROOT = Path(__file__).parent.parent

CONF = ROOT / "conf"
GROUPS = ("model", "data", "loss", "optimizer", "schedule", "callbacks", "trainer", "logger")
MEMBERS = sorted(
    f"{group}={path.stem}" for group in GROUPS for path in (CONF / group).glob("*.yaml")
)
EXPERIMENTS = sorted(
    str(path.relative_to(CONF / "experiment").with_suffix(""))
    for path in (CONF / "experiment").rglob("*.yaml")
)
SIZES = {"in_features": 12, "in_channels": 3, "image_size": 32, "outputs": 3}


def composed(*overrides: str) -> dict[str, Any]:
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", overrides=[*overrides])
    plain = plain_config(config)
    plain["model"] |= {k: v for k, v in SIZES.items() if plain["model"].get(k, 0) is None}
    return plain


def built(plain: dict[str, Any]) -> pl.LightningModule:
    """Build the module; large nets, those of images, without memory for their weights."""
    with torch.device("meta" if "image_size" in plain["model"] else "cpu"):
        return build_module(plain)


@pytest.mark.parametrize("member", MEMBERS)
def test_a_group_member_composes_and_builds(member: str, tmp_path: Path) -> None:
    overrides = [member, "data.path=x"] if member == "data=folder" else [member]
    plain = composed(*overrides)
    module = built(plain)
    module.configure_optimizers()
    build(plain["data"])
    for node in plain["callbacks"].values():
        build(node)
    if member != "trainer=gpu":
        build(plain["trainer"], logger=False)
    for node in plain["logger"].values():
        folder = {key: str(tmp_path) for key in ("folder", "save_dir") if key in node}
        build(node | folder)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_composes_builds_and_has_a_quick_twin(experiment: str) -> None:
    plain = composed(f"experiment={experiment}")
    built(plain)
    build(plain["data"])
    assert plain["name"] == experiment
    assert f"{experiment.removesuffix('_quick')}_quick" in EXPERIMENTS
    assert f"experiment={experiment}" in (CONF / "experiment" / f"{experiment}.yaml").read_text()


def test_a_quick_experiment_changes_sizes_only() -> None:
    paper, quick = composed("experiment=kanoh/fig6"), composed("experiment=kanoh/fig6_quick")
    for group in ("loss", "optimizer", "schedule", "sweep_figure"):
        assert paper[group] == quick[group]
    assert paper["model"] | {"width": 100} == quick["model"]


def test_targets_name_the_installed_package() -> None:
    for path in CONF.rglob("*.yaml"):
        assert "_target_: callbacks" not in path.read_text(), path
