"""Sweeps by W&B's agents: what W&B makes of the files, what the agent's command does."""

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import experiments
import pandas as pd
import pytest
import yaml
from wandb import wandb_agent
from wandb_offline import read_offline_run

from lightning_lazy import read_checkpoint
from lightning_lazy.figures.frames import read_config
from lightning_lazy.figures.run_figures import draw_figures
from lightning_lazy.stacked import missing_shards, read_cells

ROOT = Path(__file__).parent.parent
FILES = {p.stem: p for p in (ROOT / "sweep.yaml", *sorted((ROOT / "conf/sweep").glob("*.yaml")))}
NUMBERS = ("lr", "alpha", "l2")


def sweep(name: str) -> dict[str, Any]:
    """A sweep as W&B reads its file."""
    config: dict[str, Any] = yaml.safe_load(FILES[name].read_text())
    return config


def draws(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All combinations of the values of the parameters, of a range both ends."""
    listed = {k: v.get("values") or [v["min"], v["max"]] for k, v in config["parameters"].items()}
    for values in itertools.product(*listed.values()):
        yield dict(zip(listed, values, strict=True))


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[wandb_agent.Agent]:
    """W&B's agent without a server: the test gives it the server's commands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep1")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    started = wandb_agent.Agent(None, None, sweep_id="sweep1")
    yield started
    for process in started._run_processes.values():
        if process.poll() is None:
            process.kill()


def start(agent: wandb_agent.Agent, config: dict[str, Any], values: dict[str, Any]) -> Any:
    """Have the agent start a run as the server would; return its process."""
    agent._sweep_command = list(config["command"])
    arguments = {key: {"value": value} for key, value in values.items()}
    order = {"type": "run", "run_id": "run1", "program": config["program"], "args": arguments}
    assert "exception" not in agent._process_command(order)
    return agent._run_processes["run1"]


def only_run(name: str) -> Path:
    (folder,) = Path("runs", name).iterdir()
    return folder


def until(condition: Callable[[], bool], process: Any) -> None:
    while not condition():
        assert process.poll() is None, "the run has ended before"
        time.sleep(0.1)


# --- the files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_numbers_are_numbers(name: str) -> None:
    # PyYAML reads 1e-4, which has no point, as text.
    for values in draws(sweep(name)):
        assert all(isinstance(values[knob], float) for knob in NUMBERS if knob in values)


@pytest.mark.parametrize("name", FILES)
def test_the_agents_command_composes_with_every_value(
    name: str, agent: wandb_agent.Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_agent, "AgentProcess", Recorded)
    config = sweep(name)
    for values in draws(config):
        command = start(agent, config, values).command
        assert command[:3] == ["/usr/bin/env", "python", "train.py"]
        plain = experiments.composed(*command[3:])
        knobs = set(NUMBERS) & set(values)
        assert {knob: plain[knob] for knob in knobs} == {knob: values[knob] for knob in knobs}
        if "stacked.shard" in values:
            assert plain["stacked"]["shard"] == values["stacked.shard"]
        assert "wandb" in plain["logger"]
    if "early_terminate" in config:
        # One value of the metric an epoch, see below: runs live long enough to be stopped twice.
        assert config["early_terminate"]["min_iter"] * 2 < plain["max_epochs"]


class Recorded:
    """Stands for a process of the agent that is never started."""

    def __init__(self, command: list[str], **_: Any) -> None:
        self.command = command

    def poll(self) -> int:
        return 0


# --- what the agent starts ------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_of_the_sweep_leaves_metrics_and_figure_with_wandb(agent: wandb_agent.Agent) -> None:
    config = sweep("sweep") | {"program": str(ROOT / "train.py")}
    config["command"] += ["max_epochs=3", "data.n_train=60", "data.n_val=30", "model.width=8"]
    process = start(agent, config, {"alpha": 10.0, "lr": 1e-5})
    assert process.wait() == 0
    folder = only_run("sweep")
    run = read_offline_run(folder)
    assert (run.sweep, run.config["alpha"], run.config["lr"]) == ("sweep1", 10.0, 1e-5)
    logged, rows = run.values(config["metric"]["name"]), pd.read_csv(folder / "metrics.csv")
    assert logged == rows["val/acc"].dropna().tolist()
    assert len(logged) == 3  # an epoch each: what min_iter of early_terminate counts
    assert run.values("train/loss") == rows["train/loss"].dropna().tolist()
    ((picture,),) = run.values("figures/learning_curve/filenames")
    drawn = folder / "figures/learning_curve.png"
    assert (run.folder / "files" / picture).read_bytes() == drawn.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("order", ["stop", "exit"])  # SIGTERM; SIGKILL
def test_a_run_that_is_ended_early_can_still_be_drawn(agent: wandb_agent.Agent, order: str) -> None:
    config = sweep("sweep") | {"program": str(ROOT / "train.py")}
    config["command"] += ["max_epochs=100000", "data.n_train=60", "data.n_val=30", "model.width=8"]
    process = start(agent, config, {"alpha": 1.0, "lr": 0.1})
    until(lambda: any(Path("runs").glob("*/*/checkpoints/last.ckpt")), process)
    assert "exception" not in agent._process_command({"type": order, "run_id": "run1"})
    process.wait(timeout=60)
    assert process.poll() <= 0  # above: the agent gives up after three such runs
    folder = only_run("sweep")
    rows = pd.read_csv(folder / "metrics.csv")
    steps = read_checkpoint(folder / "checkpoints/last.ckpt")["global_step"]
    assert rows.loc[rows["step"] <= steps, "val/acc"].count() >= 1
    assert not (folder / "summary.json").exists(), "it must not count as finished"
    (picture,) = draw_figures(folder, read_config(folder)["figures"])
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_agents_share_a_grid_by_shards(agent: wandb_agent.Agent) -> None:
    config = sweep("shards") | {"program": str(ROOT / "train.py")}
    # A small grid, on a CPU.
    config["command"] = [part for part in config["command"] if not part.startswith("trainer")]
    config["command"] += [
        "data.n_train=40", "data.n_val=60", "model.width=8", "max_steps=20",
        "stacked.axes.alpha=[0.1,10]", "stacked.axes.lr=[0.1,1]", "stacked.axes.optimizer=[sgd]",
        "++figures.paper=null",
    ]  # fmt: skip
    process = start(agent, config, {"data": "digits", "stacked.shard": "2/4"})
    assert process.wait() == 0
    folder = Path("runs/kanoh/phase_diagram/digits/2/4")
    assert read_cells("runs")["cell"].tolist() == [1]
    assert missing_shards("runs") == {"1/4": 1, "3/4": 1, "4/4": 1}
    run = read_offline_run(folder)
    assert run.config["stacked.shard"] == "2/4"
    assert run.values("val/acc") == [read_cells(folder)["val/acc"].max()]
