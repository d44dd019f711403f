"""From a cell that has left the stack to its row in the table."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lightning_lazy.curvature.functional import (
    Parameters,
    differentiable,
    has_batch_norm,
    trained_parameters,
)
from lightning_lazy.curvature.hessian import HessianOperator
from lightning_lazy.curvature.lanczos import lanczos
from lightning_lazy.errors import InputError
from lightning_lazy.laziness import (
    Patterns,
    activation_modules,
    activation_patterns,
    count_changes,
    in_place_modules,
    parameter_distance,
    stability,
)
from lightning_lazy.losses import num_correct
from lightning_lazy.scaling import ScaledModel
from lightning_lazy.stacked.chunk import Trained
from lightning_lazy.stacked.grid import Knobs
from lightning_lazy.stacked.stack import Batch, Task
from lightning_lazy.stacked.vmapped import scaled

Hessian = Literal["none", "start", "both"]
StartNet = Callable[[int, Knobs], nn.Module]
_TOP1 = "curvature/hessian_top1"


class _Start(NamedTuple):
    """A net at θ₀, as cells that begin with it need it."""

    model: ScaledModel  # at any θ of such a cell, one after another
    parameters: Parameters
    references: list[Tensor | None]  # f(θ₀, x) of the training set and of the test batches
    modules: dict[str, nn.Module]
    patterns: Patterns | None


class Examiner:
    """Measures trained cells one by one, by the definitions of single runs.

    Args:
        task: What the cells have learned.
        test: Batches (x, y) of images that they have not seen; maybe none.
        start_net: ``start_net(seed, knobs)`` gives the net at initialisation of `Cell.start`.
        hessian: Whether λ_max, the largest eigenvalue of the Hessian of the minimised loss without
            the L2 term over the training set, is measured at the ``start``, at ``both`` ends, or
            at ``none``.
    """

    def __init__(
        self,
        task: Task,
        test: Sequence[Batch],
        start_net: StartNet,
        hessian: Hessian = "none",
    ) -> None:
        self.task, self.test, self.hessian = task, list(test), hessian
        self._start_net = start_net
        self._start = lru_cache(maxsize=4)(self._make_start)
        self._at_start = lru_cache(maxsize=4096)(self._measure_start)

    @torch.no_grad()
    def row(self, trained: Trained) -> dict[str, Any]:
        """Return the row of a cell, a value a column."""
        cell = trained.cell
        loss_start, top_start = self._at_start(*cell.start, cell.alpha)
        start = self._start(*cell.start)
        _load(start.model, cell.alpha, trained.parameters | trained.fixed)
        measured = self._test(start)  # before a pass in training mode counts in running averages
        loss, acc = self._train(start)
        first = loss_start + _penalty(cell.l2, start.parameters)
        last = loss + _penalty(cell.l2, trained.parameters)
        top = math.nan
        if self.hessian == "both" and math.isfinite(last):
            top = self._top_eigenvalue(start)
        return {
            **cell.columns,
            "train/loss_start": loss_start,
            "train/loss": loss,
            "train/acc": acc,
            **measured,
            "lazy/param_distance": parameter_distance(trained.parameters, start.parameters).overall,
            f"{_TOP1}_start": top_start,
            _TOP1: top,
            "diverged": trained.stopped or not last <= first,
            **trained.record,
        }

    def _make_start(self, seed: int, knobs: Knobs) -> _Start:
        task = self.task
        model = scaled(self._start_net(seed, knobs), task).to(task.x.device, task.x.dtype)
        for part in in_place_modules(model).values():
            part.inplace = False  # the batches are needed again
        batches = [task.x, *(x for x, _ in self.test)]
        references: list[Tensor | None] = [None] * len(batches)
        if model.reference is not None and not has_batch_norm(model):
            references = [model.reference(x) for x in batches]
        parameters = {n: p.detach().clone() for n, p in trained_parameters(model).items()}
        start = _Start(model, parameters, references, {}, None)
        try:
            start = start._replace(modules=activation_modules(model) if self.test else {})
            return start._replace(patterns=self._outputs(start)[1])
        except InputError:  # there are none, as in a linear net, or none runs, as in a linearised
            return start._replace(modules={})

    def _measure_start(self, seed: int, knobs: Knobs, alpha: float) -> tuple[float, float]:
        """Return ℓ/α² and, if wanted, λ_max at θ₀."""
        start = self._start(seed, knobs)
        state = dict(start.model.named_buffers())
        _load(start.model, alpha, start.parameters)
        buffers = {name: value.clone() for name, value in state.items()}
        loss, _ = self._train(start)
        top = math.nan if self.hessian == "none" else self._top_eigenvalue(start)
        _load(start.model, alpha, buffers)
        return loss, top

    def _train(self, start: _Start) -> tuple[float, float]:
        """Return ℓ/α² and accuracy on the training set."""
        task, model = self.task, start.model.train()
        output = model(task.x, start.references[0])
        loss = float(task.loss(output, task.y) / model.alpha**2)
        if not _has_classes(output, task.y):
            return loss, math.nan
        return loss, float(num_correct(output, task.y).double().mean())

    def _test(self, start: _Start) -> dict[str, float]:
        """Return loss and accuracy on the test images, and the share of signs as at θ₀."""
        loss = acc = consistency = math.nan
        outputs, patterns = self._outputs(start)
        if outputs:
            total = sum(len(y) for _, y in self.test)
            pairs = [(out, y) for out, (_, y) in zip(outputs, self.test, strict=True)]
            loss = sum(self._summed_loss(*pair) for pair in pairs) / total / start.model.alpha**2
            if _has_classes(*pairs[0]):
                acc = sum(int(num_correct(*pair).sum()) for pair in pairs) / total
        if patterns is not None and start.patterns is not None:
            consistency = stability(count_changes(start.patterns, patterns)).over_units
        return {"val/loss": loss, "val/acc": acc, "lazy/sign_consistency": consistency}

    def _outputs(self, start: _Start) -> tuple[list[Tensor], Patterns | None]:
        """Return the outputs on the test batches, and the signs of the activations."""
        outputs: list[Tensor] = []
        batches = [(x, f0) for (x, _), f0 in zip(self.test, start.references[1:], strict=True)]

        def forward(batch: tuple[Tensor, Tensor | None]) -> None:
            outputs.append(start.model(*batch))

        start.model.eval()
        if start.modules:
            return outputs, activation_patterns(forward, start.modules, batches)
        for batch in batches:
            forward(batch)
        return outputs, None

    def _summed_loss(self, output: Tensor, y: Tensor) -> float:
        per_sample = getattr(self.task.loss, "per_sample", None)
        if per_sample is None:
            return float(self.task.loss(output, y)) * len(y)
        return float(per_sample(output, y).double().sum())

    def _top_eigenvalue(self, start: _Start) -> float:
        task, model = self.task, start.model

        def loss(parameters: Parameters, batch: Batch) -> Tensor:
            output = functional_call(model, parameters, (batch[0], start.references[0]))
            return task.loss(output, batch[1]) / model.alpha**2

        with differentiable(model), torch.enable_grad():
            parameters = {n: p.detach() for n, p in trained_parameters(model).items()}
            operator = HessianOperator(loss, parameters, [(task.x, task.y)])
            return float(lanczos(operator, 1).values[0])


def _load(model: ScaledModel, alpha: float, values: Parameters) -> None:
    """Give a model an output scale, and parameters and buffers by name."""
    model.alpha = alpha
    own = dict(model.named_parameters()) | dict(model.named_buffers())
    for name, value in values.items():
        own[name].copy_(value)


def _penalty(l2: float, parameters: Parameters) -> float:
    """Return ½·l2·‖θ‖²."""
    if l2 == 0:
        return 0.0
    return 0.5 * l2 * sum(float(p.square().sum()) for p in parameters.values())


def _has_classes(output: Tensor, target: Tensor) -> bool:
    """Return whether there is an accuracy: not where a single output is fitted to numbers."""
    return output.shape[1] > 1 or not target.is_floating_point()
