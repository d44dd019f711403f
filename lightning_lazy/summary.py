"""The summary of a run: final metrics, verdicts on its health, and where it ran."""

import csv
import math
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def summarize(metrics_file: Path) -> dict[str, Any]:
    """Return the last value of every metric of a run, with its verdicts on health.

    ``diverged`` is that of `DivergenceGuard`, ``frozen_share`` that of `FrozenParameters`;
    ``None`` where these callbacks did not run. A metric that is not finite is ``None``, since json
    knows no such numbers.
    """
    metrics: dict[str, float] = {}
    with metrics_file.open(newline="") as file:
        for row in csv.DictReader(file):
            metrics |= {name: float(text) for name, text in row.items() if text}
    diverged = metrics.get("health/diverged")
    return {
        "steps": int(metrics.pop("step", 0)),
        "epochs": metrics.pop("epoch", 0.0),
        "metrics": {k: v if math.isfinite(v) else None for k, v in metrics.items()},
        "diverged": None if diverged is None else bool(diverged),
        "frozen_share": metrics.get("health/frozen_share"),
    }


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Return the device's name, the versions of the main packages and the git revision."""
    return {
        "device": _device_name(device),
        "versions": _versions(),
        "git_revision": _git_revision(),
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({platform.machine()}, {torch.get_num_threads()} threads)"


def _versions() -> dict[str, str]:
    return {
        "lightning_lazy": version("lightning-lazy"),
        "torch": torch.__version__,
        "pytorch_lightning": version("pytorch-lightning"),
        "python": platform.python_version(),
    }


def _git_revision() -> str | None:
    """Return the revision of the tree that this code is in, if it is in one, and if it is clean."""
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
