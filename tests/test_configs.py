"""Every member of every group composes, and what it describes can be built."""

from pathlib import Path
from typing import Any

import experiments
import pytest
import pytorch_lightning as pl
import torch

from lightning_lazy.build import build, build_module

CONF = experiments.CONF
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
    plain = experiments.composed(*overrides)
    plain["model"] |= {k: v for k, v in SIZES.items() if plain["model"].get(k, 0) is None}
    return plain


def built(plain: dict[str, Any]) -> pl.LightningModule:
    """Build the module; large nets, those of images, without memory for their weights."""
    with torch.device("meta" if "image_size" in plain["model"] else "cpu"):
        return build_module(plain)


@pytest.mark.parametrize("member", MEMBERS)
def test_a_group_member_composes_and_builds(member: str, tmp_path: Path) -> None:
    needs_path = member in ("data=folder", "data=imagenet")
    overrides = [member, "data.path=x"] if needs_path else [member]
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


@pytest.mark.parametrize(
    ("length", "interval", "total"),
    [
        (["max_epochs=200"], "epoch", 200),
        (["max_steps=500"], "step", 500),
        (["batch_size=full", "max_epochs=300"], "step", 300),
    ],
)
def test_a_schedule_in_shares_of_the_run_reaches_its_milestones(
    length: list[str], interval: str, total: int
) -> None:
    # Lewkowycz & Gur-Ari 2020, figure 1a: factors of 0.2 at 0.3, 0.6 and 0.9 of the run.
    plain = composed("schedule=step_fractions", "lr=0.2", *length)
    module = built(plain)
    configured = module.configure_optimizers()["lr_scheduler"]
    assert configured["interval"] == interval
    rate = configured["scheduler"].lr_lambdas[0]
    for share, factor in ((0.3, 0.2), (0.6, 0.04), (0.9, 0.008)):
        assert rate(round(share * total) - 1) == pytest.approx(5 * factor)
        assert rate(round(share * total)) == pytest.approx(factor)


def test_the_schedule_of_imagenet_is_that_of_ninety_epochs() -> None:
    # Warm-up over five epochs, then 1, 0.1, 0.01 and 0.001 from epochs 0, 30, 60 and 80 on.
    schedule = built(composed("schedule=imagenet", "max_epochs=90")).configure_optimizers()
    rate = schedule["lr_scheduler"]["scheduler"].lr_lambdas[0]
    expected = {0: 0.2, 3: 0.8, 4: 1, 29: 1, 30: 0.1, 59: 0.1, 60: 0.01, 80: 0.001}
    assert {epoch: rate(epoch) for epoch in expected} == pytest.approx(expected)


def test_a_quick_experiment_changes_sizes_only() -> None:
    paper, quick = composed("experiment=kanoh/fig6"), composed("experiment=kanoh/fig6_quick")
    for group in ("loss", "optimizer", "schedule", "sweep_figure"):
        assert paper[group] == quick[group]
    assert paper["model"] | {"width": 100} == quick["model"]


def test_targets_name_the_installed_package() -> None:
    for path in CONF.rglob("*.yaml"):
        assert "_target_: callbacks" not in path.read_text(), path
