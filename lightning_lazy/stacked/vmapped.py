"""Any net of many cells, by `torch.func.vmap` and autograd."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call, vmap

from lightning_lazy.curvature.functional import has_batch_norm, trained_parameters
from lightning_lazy.scaling import ScaledModel
from lightning_lazy.stacked.refusing import refusing_unstackable
from lightning_lazy.stacked.stack import Task, Tensors, stacked


class VmappedStack:
    """Cells with any net whose forward pass `torch.func.vmap` can take.

    f(θ₀, x) is computed once, but for nets with BatchNorm, whose frozen copies are stacked as well
    and run in every step, since each pass counts in their running averages.

    Args:
        nets: The net at initialisation of each cell; they differ in their weights only.
        alpha: α of each cell, shape ``(C,)``.
        task: What they learn.

    Raises:
        InputError: The net can't be vmapped.
    """

    def __init__(self, nets: Sequence[nn.Module], alpha: Tensor, task: Task) -> None:
        self._nets, self._alpha, self._task = list(nets), alpha, task
        self._model = scaled(nets[0], task).to(alpha)
        self._recomputed = task.centering == "subtract" and has_batch_norm(self._model)
        models = {id(net): scaled(net, task) for net in nets}
        own = [models[id(net)] for net in nets]
        trained, fixed = _names(self._model, self._recomputed)
        self.parameters = stacked(own, trained, alpha)
        self.fixed = stacked(own, fixed, alpha)
        self._prepare()

    @staticmethod
    def bytes_per_cell(net: nn.Module, task: Task, parameter_tensors: int) -> int:
        """Return about the memory that a cell takes: what autograd keeps of one forward pass.

        Args:
            net: Its net.
            task: What it learns.
            parameter_tensors: Tensors of the parameters' size, parameters and gradients included.
        """
        model = scaled(net, task).to(task.x.device, task.x.dtype)
        sizes: dict[int, int] = {}

        def note(value: Tensor) -> Tensor:
            storage = value.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            return value

        with torch.enable_grad(), saved_tensors_hooks(note, lambda value: value):
            task.loss(model(task.x), task.y)
        for shared in (*model.parameters(), *model.buffers(), task.x, task.y):
            sizes.pop(shared.untyped_storage().data_ptr(), None)
        trained = sum(p.nbytes for p in trained_parameters(model).values())
        whole = sum(value.nbytes for value in (*model.parameters(), *model.buffers()))
        # The gradients of what is kept are as large as it, one layer at a time.
        kept = sum(sizes.values()) + max(sizes.values(), default=0)
        return kept + parameter_tensors * trained + whole - trained

    def gradients(self) -> Tensors:
        """Return α times the gradients of ℓ/α²."""
        with torch.enable_grad():
            leaves = {name: p.detach().requires_grad_() for name, p in self.parameters.items()}
            total = (self._losses(leaves, self.fixed) / self._alpha).sum()
            with refusing_unstackable(type(self._nets[0]).__name__):
                parts = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)
        return dict(zip(leaves, parts, strict=True))

    @torch.no_grad()
    def losses(self) -> Tensor:
        """Return ℓ/α² of each cell, shape ``(C,)``."""
        fixed = {name: value.clone() for name, value in self.fixed.items()}
        return self._losses(self.parameters, fixed) / self._alpha.square()

    def keep(self, places: Tensor) -> None:
        """Go on with the cells at some places only."""
        self._nets = [self._nets[place] for place in places.tolist()]
        self._alpha = self._alpha[places]
        self.parameters = {name: value[places] for name, value in self.parameters.items()}
        self.fixed = {name: value[places] for name, value in self.fixed.items()}
        self._prepare()

    @torch.no_grad()
    def _prepare(self) -> None:
        """Compute f(θ₀, x) of all cells, in a stack of the height at hand."""
        self._reference: Tensor | None = None
        if self._task.centering != "subtract" or self._recomputed:
            return
        bare = ScaledModel(self._model.net, centering="none")
        own = (*self._model.net.named_parameters(), *self._model.net.named_buffers())
        start = stacked(self._nets, [name for name, _ in own], self._alpha)

        def output(own: Tensors) -> Tensor:
            state = {f"net.{name}": value for name, value in own.items()}
            return functional_call(bare, state, (self._task.x,))

        self._reference = self._vmapped(output, start)

    def _losses(self, trained: Tensors, fixed: Tensors) -> Tensor:
        """Return ℓ of each cell."""
        x, y = self._task.x, self._task.y

        def one(own: Tensors, rest: Tensors, alpha: Tensor, *reference: Tensor) -> Tensor:
            unscaled = functional_call(self._model, (own, rest), (x, *reference))
            return self._task.loss(alpha * unscaled, y)

        references = () if self._reference is None else (self._reference,)
        return self._vmapped(one, trained, fixed, self._alpha, *references)

    def _vmapped(self, function: Any, *arguments: Any) -> Tensor:
        with refusing_unstackable(type(self._nets[0]).__name__):
            return vmap(function)(*arguments)


def scaled(net: nn.Module, task: Task, alpha: float = 1.0) -> ScaledModel:
    """Return a copy of a net at θ₀, centred and scaled, in training mode."""
    return ScaledModel(deepcopy(net), alpha, task.centering).train()


def _names(model: ScaledModel, recomputed: bool) -> tuple[list[str], list[str]]:
    """Return the names of the trained parameters and of what else each cell has."""
    trained = list(trained_parameters(model))
    others = [*dict(model.named_parameters()), *dict(model.named_buffers())]
    fixed = [
        name
        for name in others
        if name not in trained and (recomputed or not name.startswith("reference."))
    ]
    return trained, fixed
