"""How far the trained model is from its linearisation at the start."""

import math
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from lightning_lazy.callbacks._buffers import measured_alike
from lightning_lazy.callbacks._probe import Probe, Split, default_forward
from lightning_lazy.callbacks._start import SinceStartCallback
from lightning_lazy.curvature.functional import (
    ModelFunction,
    batch_statistics,
    differentiable,
    has_batch_norm,
    trained_parameters,
)
from lightning_lazy.errors import InputError
from lightning_lazy.laziness import as_outputs, gap_sums, linearization_gap

Target = Callable[[Any, Any, Tensor], Tensor | None]


def default_target(pl_module: Any, batch: Any, output: Tensor) -> Tensor | None:
    """Return the batch's second element as the module's loss encodes it, else ±1 or one-hot."""
    if not isinstance(batch, list | tuple) or len(batch) < 2 or not torch.is_tensor(batch[1]):
        return None
    encode = getattr(getattr(pl_module, "loss", None), "target_outputs", as_outputs)
    return encode(output, batch[1])


class LinearizationGap(SinceStartCallback):
    r"""Logs how far the model is from its linearisation at the start of training.

    .. math:: \bar h(w) = h(w_0) + Dh(w_0)(w - w_0)

    on a fixed probe set, in evaluation mode, at the present w; h is the model's output, F for a
    `ScaledLightningModule`. Logs

    - ``lazy/linearization_gap``: ‖h(w) − h̄(w)‖ / ‖h(w₀) − y‖, of order 1/α under lazy training
      (Chizat, Oyallon & Bach 2019, theorem 2.2); left out where there are no targets;
    - ``lazy/nonlinear_share``: ‖h(w) − h̄(w)‖ / ‖h(w) − h(w₀)‖, the share of the change that the
      linearisation does not explain: 0 is lazy.

    BatchNorm normalises by the statistics of the probe's batches, so that h depends on w alone. One
    measurement costs some three forward passes over the probe set.

    Args:
        every_n_steps: Updates between two measurements; ``None``: at the end of epochs.
        every_n_epochs: Epochs between two measurements.
        split: The set that the probe is taken from, ``val`` or ``train``.
        size: Number of probe samples; ``None``: 1000, or all if there are fewer.
        batch_size: Samples in one pass; with BatchNorm part of what is measured.
        forward: ``forward(pl_module, batch)`` gives the outputs, a tensor with the samples along
            its first axis; by default ``pl_module`` is called on the batch's first element.
        target: ``target(pl_module, batch, output)`` gives y in the shape of the outputs, or
            ``None``; by default the batch's second element, labels as the module's loss encodes
            them or else one-hot (±1 for one output).
        double: Whether to compute in double precision, which tells the gap of a very lazy net from
            rounding; ``None``: where the module's code can.
        name: Tells two instances apart.

    Raises:
        InputError: At setup, parameters are sharded; at the start of training, before any update,
            the probe set can't be had, outputs and targets do not fit, or the module can't be
            differentiated or computed in double precision.
    """

    def __init__(
        self,
        *,
        every_n_steps: int | None = None,
        every_n_epochs: int = 1,
        split: Split = "val",
        size: int | None = None,
        batch_size: int = 250,
        forward: Callable[[Any, Any], Any] = default_forward,
        target: Target = default_target,
        double: bool | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(every_n_steps, every_n_epochs, name)
        self.probe = Probe(split, size, batch_size)
        self.forward = forward
        self.target = target
        self._in_double = double

    def measure(self, trainer: Any, pl_module: Any) -> dict[str, float]:
        """Return the relative gaps over the probe sets of all ranks."""
        return self.since(self.start(trainer, pl_module), trainer, pl_module)

    def since(self, start: dict[str, Tensor], trainer: Any, pl_module: Any) -> dict[str, float]:
        """Return the relative gaps for a given w₀."""
        later = trained_parameters(pl_module).keys() - start.keys()
        if later:
            rank_zero_warn(
                f"{type(self).__name__} can't tell how far the model is from its start: "
                f"{', '.join(sorted(later)[:3])}{' …' * (len(later) > 3)} came to be trained later"
            )
            return {"lazy/nonlinear_share": math.nan}
        batches = self.probe.batches(trainer, whole=has_batch_norm(pl_module))
        with measured_alike(pl_module), batch_statistics(pl_module), differentiable(pl_module):
            if self._in_double is None:
                self._in_double = self._takes_double(pl_module, batches)
            sums = self._sums(pl_module, start, batches)
        result = linearization_gap(trainer.strategy.reduce(sums, reduce_op="sum"))
        values = {"lazy/nonlinear_share": result.nonlinear_share}
        return values if math.isnan(result.gap) else {"lazy/linearization_gap": result.gap} | values

    def _sums(self, pl_module: Any, start: dict[str, Tensor], batches: list[Any]) -> Tensor:
        dtype = torch.float64 if self._in_double else None
        function = ModelFunction(pl_module, self.forward, dtype)
        now = dict(pl_module.named_parameters())  # also those that are frozen at this moment
        return gap_sums(
            function,
            function.cast(start),
            function.cast({name: now[name] for name in start}),
            batches,
            lambda batch, output: self.target(pl_module, batch, output),
        )

    def _takes_double(self, pl_module: Any, batches: list[Any]) -> bool:
        """Try a batch in double precision; some modules fix a type in their code."""
        function = ModelFunction(pl_module, self.forward, torch.float64)
        try:
            with torch.no_grad():
                for batch in batches[:1]:
                    function.at(function.current(), batch)
        except InputError:
            raise
        except Exception as error:
            reason = _first_line(error)
            self._try(pl_module, batches)
            rank_zero_warn(
                f"{type(self).__name__} computes in {pl_module.dtype}, since the module does not "
                f"run in double precision ({reason}): gaps near rounding mean nothing; "
                "double=False accepts that without this warning"
            )
            return False
        return True

    def _try(self, pl_module: Any, batches: list[Any]) -> None:
        """Run a batch as it is, and say how to help if that fails."""
        try:
            with torch.no_grad():
                for batch in batches[:1]:
                    self.forward(pl_module, batch)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"{type(pl_module).__name__} can't be run on a batch of the {self.probe.split} set "
                f"({_first_line(error)}): pass forward=function(module, batch) to "
                f"{type(self).__name__}"
            ) from error


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
