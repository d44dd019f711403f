"""Did this network learn features, or did it train lazily?"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from torch import nn

from lightning_lazy.callbacks._probe import Split, default_forward, net_forward
from lightning_lazy.callbacks._report import store_report
from lightning_lazy.callbacks._start import SinceStartCallback
from lightning_lazy.callbacks.activation_stability import ActivationStability
from lightning_lazy.callbacks.linearization_gap import LinearizationGap, Target, default_target
from lightning_lazy.errors import InputError
from lightning_lazy.laziness import (
    ACTIVATIONS,
    Verdict,
    activation_modules,
    judge,
    parameter_distance,
)

_MEANING = {
    "activation_stability": "units active for the same inputs as at the start",
    "nonlinear_share": "change of the outputs that is beyond the linearisation",
    "kernel_drift": "change of the tangent kernel, relative to its start",
    "linearization_gap": "distance from the linearisation / from the targets at the start",
    "param_distance": "|θ − θ₀| / |θ₀|",
}
_UNTRUSTED_SHARE = 0.5
_FROM_OTHERS = {"ntk/drift": "kernel_drift", "health/frozen_share": "frozen_share"}


class LazinessReport(SinceStartCallback):
    """Says at the end of training whether the network was lazy, intermediate or active.

    For any network in any project. On a fixed probe set it measures the stability of activations
    (where there are activation modules), the distance of the parameters and the gap to the
    linearisation at the start, and takes the drift of the tangent kernel and the share of frozen
    parameters where other callbacks have logged ``ntk/drift`` and ``health/frozen_share``.
    `lightning_lazy.laziness.judge` makes the verdict of them and justifies its limits. The numbers
    are logged under the names of the single callbacks; the verdict is printed and written to
    ``laziness.json`` in the run's folder (the first logger's, else the Trainer's
    ``default_root_dir``). It costs what a few evaluations of the probe set cost, at the start and
    at the end.

    Args:
        split: The set that the probe is taken from, ``val`` or ``train``; ``None``: the validation
            set, or the training set where there is none.
        size: Number of probe samples; ``None``: 1000, or all if there are fewer.
        batch_size: Samples in one pass.
        types: Types of modules that count as activations, see `ActivationStability`.
        forward: ``forward(pl_module, batch)`` gives the outputs, a tensor with the samples along
            its first axis; by default ``pl_module`` is called on the batch's first element.
        target: ``target(pl_module, batch, output)``, see `LinearizationGap`.
        double: Whether to compute the gap in double precision, see `LinearizationGap`.
        name: Tells two instances apart; it also enters the file's name.

    Attributes:
        verdict: The verdict, after training in this process.

    Raises:
        InputError: At setup, parameters are sharded; at the start of training, before any update,
            the probe set can't be had, or outputs and targets do not fit.
    """

    verdict: Verdict | None = None

    def __init__(
        self,
        *,
        split: Split | None = None,
        size: int | None = None,
        batch_size: int = 250,
        types: Sequence[type[nn.Module]] = ACTIVATIONS,
        forward: Callable[[Any, Any], Any] = default_forward,
        target: Target = default_target,
        double: bool | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        probe: dict[str, Any] = {"split": split, "size": size, "batch_size": batch_size}
        self._stability = ActivationStability(
            **probe,
            types=types,
            forward=net_forward if forward is default_forward else forward,
            per_layer=False,
        )
        self._gap = LinearizationGap(**probe, forward=forward, target=target, double=double)
        self._has_activations = True

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Find out what can be measured."""
        super().setup(trainer, pl_module, stage)
        try:
            activation_modules(pl_module, self._stability.types)
        except InputError:
            self._has_activations = False
        else:
            self._stability.setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Keep the start; try every measurement, so that what can't be had is said now."""
        self._gap.since(self.start(trainer, pl_module), trainer, pl_module)
        if self._has_activations:
            self._stability.prepare(trainer, pl_module)
        self._values(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Nothing is measured on the way."""

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Nothing is measured on the way."""

    def measure(self, trainer: Any, pl_module: Any) -> dict[str, float]:
        """Judge, print and store; return the numbers."""
        values = self._values(trainer, pl_module)
        evidence = {name.rpartition("/")[2]: value for name, value in values.items()}
        for key, name in _FROM_OTHERS.items():
            if key in trainer.callback_metrics:
                evidence[name] = float(trainer.callback_metrics[key])
        self.verdict = judge(evidence)
        text = describe(self.verdict, trainer.global_step)
        store_report(trainer, "laziness", self.name, text, asdict(self.verdict))
        return values

    def _values(self, trainer: Any, pl_module: Any) -> dict[str, float]:
        start = self.start(trainer, pl_module)
        distance = parameter_distance(dict(pl_module.named_parameters()), start)
        values = {"lazy/param_distance": distance.overall}
        if self._has_activations:
            measured = self._stability.measure(trainer, pl_module)
            values[self._stability.metric] = measured[self._stability.metric]
        return values | self._gap.since(start, trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return what belongs to the start of training."""
        return super().state_dict() | {"stability": self._stability.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Judge from the first start, not from the resume."""
        super().load_state_dict(state_dict)
        self._stability.load_state_dict(state_dict["stability"])


def describe(verdict: Verdict, step: int) -> str:
    """Return a verdict as a small table."""
    lines = [f"laziness after {step} steps: {verdict.verdict.upper()}"]
    for name, meaning in _MEANING.items():
        if name in verdict.evidence:
            vote = verdict.votes.get(name, "")
            lines.append(f"  {name:<21}{verdict.evidence[name]:<11.4g}{vote:<14}{meaning}")
    if "activation_stability" not in verdict.evidence:
        lines.append("  activation_stability: no activation modules (nn.ReLU(), not F.relu)")
    frozen = verdict.evidence.get("frozen_share", 0.0)
    if frozen > _UNTRUSTED_SHARE:
        lines.append(
            f"  caution: updates of {frozen:.0%} of the parameters are lost to rounding: the net "
            "stands still for want of precision (precision=64-true)"
        )
    return "\n".join(lines)
