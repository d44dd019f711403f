"""The whole spectrum of the Hessian, as a density, at moments of a training."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lightning_lazy.callbacks._base import PeriodicCallback
from lightning_lazy.callbacks._curvature import LossCurvature
from lightning_lazy.callbacks._curvature_options import (
    LossOfOutputs,
    Matrix,
    Reduction,
    minimized_loss,
)
from lightning_lazy.callbacks._probe import Split, default_forward
from lightning_lazy.callbacks._training_loss import LossFunction
from lightning_lazy.checks import check_size
from lightning_lazy.curvature.module_hessian import Statistics
from lightning_lazy.curvature.spectral_density import spectral_density

_COLUMNS = ("step", "probe", "eigenvalue", "weight")


class HessianSpectrum(PeriodicCallback):
    """Estimates the spectral density of the Hessian of the training loss.

    By stochastic Lanczos quadrature (`lightning_lazy.curvature.spectral_density`), at the start,
    periodically and at the end of training. The loss is that of `HessianTopEigenvalues`. Logs
    ``curvature/hessian_trace`` and its standard error ``curvature/hessian_trace_error``, and writes
    ``spectrum.csv`` in the run's folder (the first logger's, else the Trainer's
    ``default_root_dir``), from which `lightning_lazy.figures.spectral_density.draw` makes the
    picture. One measurement costs ``probes`` · ``steps`` Hessian-vector products.

    Args:
        every_n_steps: Updates between two measurements; ``None``: at the end of epochs.
        every_n_epochs: Epochs between two measurements.
        probes: Random vectors; their number sets the error.
        steps: Lanczos steps for each: sets the resolution.
        split: The set that the samples are taken from, ``train`` or ``val``.
        size: Number of samples; ``None``: 1000, or all if there are fewer.
        batch_size: Samples in one pass.
        matrix: ``hessian`` or ``gauss_newton``.
        loss_fn: ``loss_fn(pl_module, batch)``; by default that of ``training_step``.
        forward: For Gauss–Newton: ``forward(pl_module, batch)``.
        loss_of_outputs: For Gauss–Newton: ``loss_of_outputs(pl_module, output, batch)``.
        statistics: What BatchNorm normalises by, ``running`` averages or those of the ``batch``.
        reduction: How the loss reduces over samples, as in `HessianTopEigenvalues`.
        autocast: Whether to compute under the Trainer's mixed precision.
        name: Tells two instances apart; it also enters the file's name.

    Raises:
        InputError: As `HessianTopEigenvalues`.
    """

    def __init__(
        self,
        *,
        every_n_steps: int | None = None,
        every_n_epochs: int = 10,
        probes: int = 8,
        steps: int = 64,
        split: Split = "train",
        size: int | None = None,
        batch_size: int = 250,
        matrix: Matrix = "hessian",
        loss_fn: LossFunction | None = None,
        forward: Callable[[Any, Any], Any] = default_forward,
        loss_of_outputs: LossOfOutputs = minimized_loss,
        statistics: Statistics = "running",
        reduction: Reduction | None = None,
        autocast: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(every_n_steps, every_n_epochs, name)
        self.probes = check_size("probes", probes)
        self.steps = check_size("steps", steps)
        self.curvature = LossCurvature(
            split, size, batch_size, matrix, loss_fn, forward, loss_of_outputs, statistics,
            reduction, autocast,
        )  # fmt: skip
        self.probe = self.curvature.probe()
        self._rows: list[tuple[float, ...]] = []

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Refuse what can't be measured."""
        self.curvature.check(self, trainer, pl_module)
        super().setup(trainer, pl_module, stage)

    def measure(self, trainer: Any, pl_module: Any) -> dict[str, float]:
        """Keep the density, unless it is not one of numbers; return the trace with its error."""
        kind = f"curvature/{self.curvature.matrix}_trace"
        batches = self.curvature.batches(self, trainer, pl_module)
        with self.curvature.operator(trainer, pl_module, batches) as operator:
            density = spectral_density(operator, probes=self.probes, steps=self.steps)
        step = float(trainer.global_step)
        self._rows += [(step, *map(float, row.values())) for row in density.rows()]
        trace, error = density.moment(1)
        return {kind: trace * operator.dim, f"{kind}_error": error * operator.dim}

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Measure the trained network and write the table."""
        super().on_train_end(trainer, pl_module)
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # asked on all ranks
        if trainer.is_global_zero:
            folder.mkdir(parents=True, exist_ok=True)
            suffix = "" if self.name is None else f"-{self.name}"
            with (folder / f"spectrum{suffix}.csv").open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(_COLUMNS)
                writer.writerows((int(row[0]), int(row[1]), *row[2:]) for row in self._rows)

    def state_dict(self) -> dict[str, Any]:
        """Return the densities so far."""
        return super().state_dict() | {"rows": torch.tensor(self._rows, dtype=torch.float64)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on after them."""
        super().load_state_dict(state_dict)
        self._rows = [tuple(row) for row in state_dict["rows"].tolist()]
