"""Whether a network is about to train lazily, seen from its start."""

from collections.abc import Callable
from typing import Any

import torch

from lightning_lazy.callbacks._base import PeriodicCallback
from lightning_lazy.callbacks._buffers import measured_alike
from lightning_lazy.callbacks._probe import Probe, Split, default_forward
from lightning_lazy.callbacks.linearization_gap import Target, default_target
from lightning_lazy.curvature.functional import (
    ModelFunction,
    batch_statistics,
    differentiable,
    has_batch_norm,
)
from lightning_lazy.curvature.relative_scale import relative_scale
from lightning_lazy.errors import InputError


class RelativeScale(PeriodicCallback):
    r"""Logs the inverse relative scale of the model at the start and at the end of training.

    .. math:: \kappa_h(w) = \|h(w) - y\| \, \|D^2 h(w)\| / \|Dh(w)\|^2

    (Chizat, Oyallon & Bach 2019, equation 1): training by the squared loss is lazy where κ ≪ 1. h
    is the model's output on a fixed probe set, F for a `ScaledLightningModule`. Logs
    ``lazy/kappa`` and its error bar ``lazy/kappa_spread``: by how much the estimates of ‖D²h‖ from
    different starts differ, relative to the largest, which is taken; all are bounds from below.

    It is the costliest measure of laziness here, some thousand forward passes over the probe set:
    keep that small. See `lightning_lazy.curvature.relative_scale`.

    Args:
        split: The set that the probe is taken from, ``val`` or ``train``.
        size: Number of probe samples.
        batch_size: Samples in one pass; with BatchNorm part of what is measured.
        forward: ``forward(pl_module, batch)`` gives the outputs, a tensor with the samples along
            its first axis; by default ``pl_module`` is called on the batch's first element.
        target: ``target(pl_module, batch, output)`` gives y in the shape of the outputs, see
            `LinearizationGap`.
        starts: Random starts for ‖D²h‖; two-layer nets, with a local maximum for every hidden unit,
            need more than others.
        iterations: Largest number of passes over the probe set for each norm and start.
        tolerance: Residual, relative to the norm, at which an iteration stops.
        name: Tells two instances apart.

    Raises:
        InputError: At the start of training, before any update, the probe set can't be had or there
            are no targets.
    """

    def __init__(
        self,
        *,
        split: Split = "val",
        size: int = 100,
        batch_size: int = 100,
        forward: Callable[[Any, Any], Any] = default_forward,
        target: Target = default_target,
        starts: int = 4,
        iterations: int = 100,
        tolerance: float = 0.03,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.probe = Probe(split, size, batch_size)
        self.forward = forward
        self.target = target
        self.options: dict[str, Any] = {
            "starts": starts,
            "iterations": iterations,
            "tolerance": tolerance,
        }

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Nothing is measured on the way."""

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Nothing is measured on the way."""

    def measure(self, trainer: Any, pl_module: Any) -> dict[str, float]:
        """Return κ over the probe sets of all ranks."""
        batches = self.probe.batches(trainer, whole=has_batch_norm(pl_module))
        function = ModelFunction(pl_module, self.forward)
        with measured_alike(pl_module), batch_statistics(pl_module), differentiable(pl_module):
            now = function.current()
            targets = [self._target(pl_module, batch, function.at(now, batch)) for batch in batches]
            result = relative_scale(
                function.at,
                now,
                batches,
                targets,
                reduce=lambda part: trainer.strategy.reduce(part, reduce_op="sum"),
                **self.options,
            )
        spread = 1 - min(result.second_values) / result.second if result.second else 0.0
        return {"lazy/kappa": result.kappa, "lazy/kappa_spread": spread}

    def _target(self, pl_module: Any, batch: Any, output: torch.Tensor) -> torch.Tensor:
        y = self.target(pl_module, batch, output)
        if y is None:
            raise InputError(
                "RelativeScale needs targets, which the batches do not hold as their second "
                "element: pass target=function(module, batch, output)"
            )
        return y
