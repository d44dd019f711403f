"""The empirical neural tangent kernel while training goes on."""

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lightning_lazy.callbacks._base import PeriodicCallback
from lightning_lazy.callbacks._buffers import measured_alike
from lightning_lazy.callbacks._probe import Probe, Split, default_forward, net_forward
from lightning_lazy.callbacks._start import refuse_sharded
from lightning_lazy.callbacks.linearization_gap import Target, default_target
from lightning_lazy.checks import check_choice, check_size
from lightning_lazy.curvature.contractions import Outputs
from lightning_lazy.curvature.functional import ModelFunction, differentiable
from lightning_lazy.curvature.kernel_measures import (
    alignment,
    condition,
    drift,
    label_alignment,
    spectrum,
)
from lightning_lazy.curvature.ntk import tangent_kernel
from lightning_lazy.data.sampling import contiguous_share
from lightning_lazy.errors import InputError

Model = Literal["f", "F"]


class _WholeProbe(Probe):
    """A probe set of which every rank sees all."""

    def own_share(self, samples: int, trainer: Any, whole: bool) -> range:
        return range(samples)


class NeuralTangentKernel(PeriodicCallback):
    r"""Logs what the empirical neural tangent kernel Θ of the model says, on a fixed probe set.

    .. math:: \Theta_{ip,jq} = \langle \nabla_\theta f_p(x_i), \nabla_\theta f_q(x_j) \rangle

    - ``ntk/top1`` … ``ntk/top<k>``: largest eigenvalues of Θ/n for n samples. Gradient descent on
      ½ the squared error's mean over samples is stable where the learning rate times the first is
      below 2.
    - ``ntk/trace``: trace of Θ/n.
    - ``ntk/condition``: its largest eigenvalue over the smallest above rounding, and ``ntk/rank``,
      how many are above it: unless that is all of them, the condition number is larger still.
    - ``ntk/drift``: ‖Θ − Θ₀‖/‖Θ₀‖, the change since the start; 0 is lazy.
    - ``ntk/alignment``: ⟨Θ, Θ₀⟩/(‖Θ‖ ‖Θ₀‖), the same but for the scale; 1 is lazy.
    - ``ntk/label_alignment``: the same with y yᵀ in place of Θ₀; left out without targets.

    It is computed in evaluation mode and in the module's precision, by the cheapest known way for
    the net (see `lightning_lazy.curvature.ntk`). BatchNorm's running averages count as part of the
    net, so that the drift is theirs as well. Where there are none, outputs depend on the probe's
    batches, which are then part of the definition; that costs many times more. Values are not
    numbers where outputs, or Θ, are not finite. Several devices compute rows of Θ each, with the
    running averages of the first.

    Θ₀ is kept, also in checkpoints, with f(θ₀) and y on the probe set: (n·o)² numbers, or n² if
    summed over o outputs, mostly fewer than the net has parameters, and no second computation.

    Args:
        every_n_steps: Updates between two measurements; ``None``: at the end of epochs.
        every_n_epochs: Epochs between two measurements.
        split: The set that the probe is taken from, ``val`` or ``train``.
        size: Number of probe samples, n.
        batch_size: Samples in one pass.
        model: ``f``: the net alone where the module is centred and scaled, as a
            `ScaledLightningModule` is, whose kernel drives F under the loss ℓ/α²; ``F``: the module
            itself, whose kernel is α² times that. Other modules have but one.
        outputs: ``full``: a row for every sample and output; ``sum``: summed over outputs, a row
            for every sample.
        top_k: Number of eigenvalues to log.
        per_sample: Whether to divide by n.
        forward: ``forward(pl_module, batch)`` gives the outputs, shape ``[n, o]``; it replaces
            ``model``. By default the module or its net on the batch's first element.
        target: ``target(pl_module, batch, output)`` gives y, see `LinearizationGap`.
        name: Tells two instances apart.

    Raises:
        InputError: An argument is out of range; at setup, parameters are sharded; at the start of
            training, before any update, the probe set can't be had, or outputs or targets do not
            fit; a run is resumed from a checkpoint without Θ₀.
    """

    def __init__(
        self,
        *,
        every_n_steps: int | None = None,
        every_n_epochs: int = 1,
        split: Split = "val",
        size: int = 100,
        batch_size: int = 25,
        model: Model = "f",
        outputs: Outputs = "full",
        top_k: int = 1,
        per_sample: bool = True,
        forward: Callable[[Any, Any], Any] | None = None,
        target: Target = default_target,
        name: str | None = None,
    ) -> None:
        super().__init__(every_n_steps, every_n_epochs, name)
        check_choice("model", model, get_args(Model))
        check_choice("outputs", outputs, get_args(Outputs))
        self.probe = _WholeProbe(split, check_size("size", size), batch_size)
        self.forward = forward or (net_forward if model == "f" else default_forward)
        self.target = target
        self.outputs: Outputs = outputs
        self.top_k = check_size("top_k", top_k)
        self.per_sample = per_sample
        self._start: dict[str, Tensor] | None = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Refuse strategies under which a process sees a part of the parameters only."""
        refuse_sharded(self, trainer)
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Measure at initialisation, which a resumed run must have done."""
        if trainer.global_step > 0 and self._start is None:
            raise InputError(
                f"the checkpoint holds no kernel at initialisation for {type(self).__name__}: "
                "start a new run, or load the weights without ckpt_path to count from them"
            )
        super().on_train_start(trainer, pl_module)

    def measure(self, trainer: Any, pl_module: Any) -> dict[str, float]:
        """Return what the kernel says, the same on all ranks."""
        batches = self.probe.batches(trainer)
        with measured_alike(pl_module), differentiable(pl_module):
            function = ModelFunction(pl_module, self.forward)
            now = function.current()
            with torch.no_grad():
                values = [function.at(now, batch) for batch in batches]
            pairs = zip(batches, values, strict=True)
            targets = [self.target(pl_module, batch, value) for batch, value in pairs]
            if self._start is not None and not bool(torch.cat(values).isfinite().all()):
                return dict.fromkeys(self._names(), math.nan)
            kernel = self._kernel(trainer, function, batches, values)
        y = torch.cat([t for t in targets if t is not None]) if None not in targets else None
        if self._start is None:
            kept = {"kernel": kernel, "outputs": torch.cat(values), "targets": y}
            self._start = {name: value for name, value in kept.items() if value is not None}
        return self._values(kernel, y, sum(map(len, values)))

    def _kernel(
        self, trainer: Any, function: ModelFunction, batches: list[Any], values: list[Tensor]
    ) -> Tensor:
        """Return Θ: this rank's rows, of whole batches, and those of the others."""
        now = function.current()
        if trainer.world_size == 1:
            return tangent_kernel(function.at, now, batches, outputs=self.outputs)
        own = contiguous_share(len(batches), trainer.global_rank, trainer.world_size)
        ends = [0]
        for value in values:
            ends.append(ends[-1] + (len(value) if self.outputs == "sum" else value.numel()))
        kernel = values[0].new_zeros(ends[-1], ends[-1])
        if len(own):
            mine = [batches[i] for i in own]
            rows = slice(ends[own.start], ends[own.stop])
            kernel[rows] = tangent_kernel(function.at, now, mine, batches, outputs=self.outputs)
        reduced: Tensor = trainer.strategy.reduce(kernel, reduce_op="sum")
        return reduced

    def _names(self) -> list[str]:
        start = self._start or {}
        names = [f"top{i + 1}" for i in range(min(self.top_k, len(start["kernel"])))]
        names += ["trace", "condition", "rank", "drift", "alignment"]
        names += ["label_alignment"] if "targets" in start else []
        return [f"ntk/{name}" for name in names]

    def _values(self, kernel: Tensor, y: Tensor | None, samples: int) -> dict[str, float]:
        start = (self._start or {})["kernel"].to(kernel.device)
        if not bool(kernel.isfinite().all()):
            return dict.fromkeys(self._names(), math.nan)
        eigenvalues = spectrum(kernel) / (samples if self.per_sample else 1)
        found = condition(eigenvalues, kernel.dtype)
        values = [
            *eigenvalues[: self.top_k].tolist(),
            float(eigenvalues.sum()),
            found.number,
            float(found.rank),
            drift(kernel, start),
            alignment(kernel, start),
        ]
        values += [] if y is None else [label_alignment(kernel, y)]
        return dict(zip(self._names(), values, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Return the kernel at the start, and what there was to learn."""
        return super().state_dict() | ({} if self._start is None else {"start": self._start})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count from the first start, not from the resume."""
        super().load_state_dict(state_dict)
        self._start = state_dict.get("start")
