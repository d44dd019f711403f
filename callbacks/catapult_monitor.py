"""Says whether a run was lazy, a catapult or divergent: the phase of its learning rate."""

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, get_args

import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from lightning_lazy.callbacks._base import PeriodicCallback
from lightning_lazy.callbacks._buffers import measured_alike
from lightning_lazy.callbacks._loss_history import LossHistory
from lightning_lazy.callbacks._probe import Probe, Split, net_forward
from lightning_lazy.callbacks._report import store_report
from lightning_lazy.callbacks._start import refuse_manual, refuse_sharded
from lightning_lazy.callbacks._training_loss import LossFunction
from lightning_lazy.callbacks.hessian_top_eigenvalues import HessianTopEigenvalues
from lightning_lazy.checks import check_choice, check_number
from lightning_lazy.curvature.functional import ModelFunction, differentiable
from lightning_lazy.curvature.kernel_top import largest_eigenvalue
from lightning_lazy.errors import InputError
from lightning_lazy.laziness.phase import Kernel, Phase, judge_phase
from lightning_lazy.reporting import batches_per_epoch

CODES = {"lazy": 0, "catapult": 1, "divergent": 2, "none": -1}
"""The number that stands for each verdict where only numbers are logged."""


class CatapultMonitor(PeriodicCallback):
    """Says at the end of training which phase it was in: lazy, catapult, divergent or none.

    For any module with automatic optimisation. `lightning_lazy.laziness.judge_phase` makes the
    verdict (Huang, Du, Xu & Liu 2020) of the losses that ``training_step`` returned, averaged over
    ranks, and of λ, the top eigenvalue of the tangent kernel Θ/n on a probe of the training set, at
    the start and at the end. The phases are those of gradient descent: where a batch is not the
    whole training set, the losses are means over passes through it, which do not show what rises
    and falls within the first one.

    Logs λ as ``ntk/top1`` (``curvature/hessian_top1`` for the Hessian) and, at the end,
    ``curvature/lr_times_start`` (η λ₀, η the largest learning rate at the start) and
    ``curvature/phase``, 0 for lazy, 1 catapult, 2 divergent, −1 none. The verdict with all its
    evidence is printed and written to ``phase.json`` in the run's folder (the first logger's, else
    the Trainer's ``default_root_dir``).

    Args:
        kernel: ``ntk``, the kernel of the outputs before centring and scaling; or, as a rough
            substitute, ``hessian``, that of the training loss, whose drop counts only where
            ηλ₀ > 2.
        every_n_steps: Updates between two measurements of λ on the way; ``None``: none, λ is
            measured at the start and at the end.
        split: The set that the probe is taken from, ``train`` or ``val``.
        size: Number of probe samples; ``None``: 1000, or all if there are fewer.
        batch_size: Samples in one pass.
        forward: ``forward(pl_module, batch)`` gives the outputs whose kernel is measured; by
            default ``pl_module`` is called on the batch's first element.
        loss_fn: For the Hessian, see `HessianTopEigenvalues`.
        loss_tolerance: Rise of the loss, in units of the first, that counts as none.
        kernel_tolerance: Relative change of λ that counts as none.
        name: Tells two instances apart; it also enters the file's name.

    Attributes:
        phase: The verdict, after training in this process.

    Raises:
        InputError: An argument is out of range; at setup, the module optimises by itself or
            parameters are sharded; at the start of training, the probe set can't be had, or a run
            is resumed from a checkpoint without its start.
    """

    phase: Phase | None = None

    def __init__(
        self,
        kernel: Kernel = "ntk",
        *,
        every_n_steps: int | None = None,
        split: Split = "train",
        size: int | None = None,
        batch_size: int = 250,
        forward: Callable[[Any, Any], Any] = net_forward,
        loss_fn: LossFunction | None = None,
        loss_tolerance: float = 1e-3,
        kernel_tolerance: float = 0.05,
        name: str | None = None,
    ) -> None:
        super().__init__(every_n_steps=every_n_steps, name=name)
        check_choice("kernel", kernel, get_args(Kernel))
        self.kernel: Kernel = kernel
        self.probe = Probe(split, size, batch_size)
        self.forward = forward
        self.loss_tolerance = check_number("loss_tolerance", loss_tolerance)
        self.kernel_tolerance = check_number("kernel_tolerance", kernel_tolerance)
        self._hessian = HessianTopEigenvalues(
            split=split, size=size, batch_size=batch_size, loss_fn=loss_fn
        )
        self._history = LossHistory()
        self._gain: Tensor | None = None
        self._kernel_start = self._lr = math.nan
        self._ended = False

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Refuse what can't be judged."""
        refuse_sharded(self, trainer)
        refuse_manual(self, pl_module, "judges the loss that training_step returns")
        if self.kernel == "hessian":
            self._hessian.setup(trainer, pl_module, stage)
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Note η and λ₀."""
        self._ended = False
        if trainer.global_step == 0:
            rates = [group["lr"] for one in trainer.optimizers for group in one.param_groups]
            self._lr = float(max(rates))
        elif math.isnan(self._lr):
            raise InputError(
                f"the checkpoint holds no start of training for {type(self).__name__}: start a new "
                "run, or load the weights without ckpt_path to count from them"
            )
        super().on_train_start(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take in the loss of this batch; measure λ if that is due."""
        self._history.add(trainer, outputs)
        self._gain = _gain(trainer.optimizers) if batches_per_epoch(trainer) == 1 else None
        if self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0:
            self._measure_once(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Nothing is measured by epochs."""

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Measure λ and give the verdict."""
        self._measured_at, self._ended = -1, True  # λ of this step may have been logged, no verdict
        self._measure_once(trainer, pl_module)

    def measure(self, trainer: Any, pl_module: Any) -> dict[str, float]:
        """Return λ; at the end judge, print and store."""
        name = "ntk/top1" if self.kernel == "ntk" else "curvature/hessian_top1"
        top = self._top(trainer, pl_module)
        if math.isnan(self._kernel_start) and trainer.global_step == 0:
            self._kernel_start = top
        if not self._ended:
            return {name: top}
        losses = self._history.by_pass(trainer)
        if len(losses) < 2:
            rank_zero_warn("CatapultMonitor needs two passes through the data: no verdict")
            return {name: top}
        self.phase = self._judge(losses, top)
        text = describe(self.phase, trainer.global_step)
        store_report(trainer, "phase", self.name, text, asdict(self.phase))
        return {
            name: top,
            "curvature/lr_times_start": self.phase.lr_times_start,
            "curvature/phase": float(CODES[self.phase.verdict]),
        }

    def _top(self, trainer: Any, pl_module: Any) -> float:
        """Return λ, not a number where the parameters are not all finite."""
        if self.kernel == "hessian":
            values = self._hessian.measure(trainer, pl_module)
            return values["curvature/hessian_top1"]
        batches = self.probe.batches(trainer)

        def reduce(value: Tensor) -> Tensor:
            reduced: Tensor = trainer.strategy.reduce(value, reduce_op="sum")
            return reduced

        with measured_alike(pl_module), differentiable(pl_module):
            function = ModelFunction(pl_module, self.forward)
            return largest_eigenvalue(function.at, function.current(), batches, reduce=reduce)

    def _judge(self, losses: list[float], top: float) -> Phase:
        return judge_phase(
            losses,
            self._kernel_start,
            top,
            self._lr,
            kernel=self.kernel,
            last_gain=None if self._gain is None else float(self._gain),
            loss_tolerance=self.loss_tolerance,
            kernel_tolerance=self.kernel_tolerance,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the start, and the losses so far."""
        self._history.flush()
        return super().state_dict() | {
            "losses": torch.tensor(self._history.losses, dtype=torch.float64),
            "gain": self._gain,
            "kernel_start": self._kernel_start,
            "lr": self._lr,
            "hessian": self._hessian.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue as if nothing had happened."""
        super().load_state_dict(state_dict)
        self._history.losses, self._gain = state_dict["losses"].tolist(), state_dict["gain"]
        self._kernel_start, self._lr = state_dict["kernel_start"], state_dict["lr"]
        self._hessian.load_state_dict(state_dict["hessian"])


def describe(phase: Phase, step: int) -> str:
    """Return a verdict as a small table."""
    kernel = "tangent kernel" if phase.kernel == "ntk" else "Hessian"
    start, end = f"{phase.kernel_start:.4g}", f"{phase.kernel_end:.4g}"
    return "\n".join(
        (
            f"phase after {step} steps: {phase.verdict.upper()} ({phase.reason})",
            f"  loss      {phase.first_loss:.4g}, peak {phase.peak_loss:.4g}, "
            f"last {phase.last_loss:.4g}; largest rise {phase.rise:.3g} of the first",
            f"  λ         {start} → {end}, ratio {phase.kernel_ratio:.4g}, of the {kernel}",
            f"  lr·λ      {phase.lr_times_start:.4g} → {phase.lr_times_end:.4g}; a quadratic loss "
            "rises above 2",
        )
    )


def _gain(optimizers: Any) -> Tensor | None:
    """Return η‖∇L‖² at the last update, each group with its own η."""
    parts = [
        group["lr"] * parameter.grad.detach().double().square().sum()
        for one in optimizers
        for group in one.param_groups
        for parameter in group["params"]
        if parameter.grad is not None
    ]
    return torch.stack(parts).sum() if parts else None
