r"""Two-layer nets of many cells, differentiated by hand in buffers that stay.

With C cells, d inputs, h units, k outputs and n samples, samples last, a step is

    z = W⁰ xᵀ               one product, (C·h, d) by (d, n), since the inputs are shared
    s = σ(z)                one pass, which keeps e^{−|z|} for σ′
    f = W¹ s                C products, (k, h) by (h, n)
    ∂L/∂W¹ = δ sᵀ           C products, δ = ∂L/∂f
    ζ = (W¹ᵀ δ) σ′(z)       C products and one pass, in the memory of s
    ∂L/∂W⁰ = ζ x            one product, (C·h, n) by (n, d)

The constants of the net (d^{-1/2}, h^{-1/2} a, β) are multiplied into the inputs and into δ.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from lightning_lazy.models import TwoLayerNet
from lightning_lazy.models.activations import ScaledSoftplus
from lightning_lazy.stacked.output_losses import output_loss
from lightning_lazy.stacked.stack import Task, Tensors, stacked

_HIDDEN, _OUTPUT = "net.hidden.weight", "net.output.weight"
_AS_OUTPUTS = 5
"""Tensors of the outputs' size: f, f(θ₀, x), and what losses need on their way."""


class TwoLayerStack:
    """Cells whose net is a `TwoLayerNet`.

    Args:
        nets: The net at initialisation of each cell; they differ in their weights only.
        alpha: α of each cell, shape ``(C,)``.
        task: What they learn.
    """

    def __init__(self, nets: Sequence[nn.Module], alpha: Tensor, task: Task) -> None:
        self.fixed: Tensors = {}
        self._nets = [cast(TwoLayerNet, net) for net in nets]
        self._task = task
        net = self._nets[0]
        self._activation = _activation(net.activation)
        self._x = task.x * (net.hidden.factor * self._activation.input_factor)
        # Products are fastest where the axis that is summed over is contiguous in both factors.
        self._x_by_samples = self._x.T.contiguous().T
        self._factor = net.output.factor * self._activation.output_factor
        self._loss = output_loss(task.loss, task.x.new_zeros(len(task.x), _outputs(net)), task.y)
        self._alpha = alpha.view(-1, 1, 1)
        self.parameters = self._start()
        self._prepare()

    @staticmethod
    def takes(net: nn.Module, task: Task) -> bool:
        """Return whether a net is as it is computed here: all weights trained, inputs flat."""
        if type(net) is not TwoLayerNet or task.x.ndim != 2:
            return False
        act = net.activation
        known = isinstance(act, nn.ReLU | nn.Identity) or (
            isinstance(act, ScaledSoftplus) and act.scale == 1
        )
        mirrored = task.centering == "symmetrize" and not net.symmetric
        return known and not mirrored and all(p.requires_grad for p in net.parameters())

    @staticmethod
    def bytes_per_cell(net: TwoLayerNet, task: Task, parameter_tensors: int) -> int:
        """Return the memory that a cell takes.

        Args:
            net: Its net.
            task: What it learns.
            parameter_tensors: Tensors of the parameters' size, parameters and gradients included.
        """
        hidden = _activation(net.activation).buffers * net.hidden.weight.shape[0]
        samples = (hidden + _AS_OUTPUTS * _outputs(net)) * len(task.x)
        parameters = sum(p.numel() for p in net.parameters())
        return (samples + parameter_tensors * parameters) * task.x.element_size()

    def gradients(self) -> Tensors:
        """Return α times the gradients of ℓ/α², in memory that the next call takes again."""
        outputs = self._centred()
        slope = self._loss.differentiate(outputs, self._factor)
        torch.bmm(slope, self._active.transpose(1, 2), out=self._gradients[_OUTPUT])
        back = torch.bmm(self.parameters[_OUTPUT].transpose(1, 2), slope, out=self._active)
        self._activation.differentiate(back, self._hidden, self._rest)
        torch.mm(
            back.view(self._rows),
            self._x_by_samples,
            out=self._gradients[_HIDDEN].view(self._weights),
        )
        return self._gradients

    def losses(self) -> Tensor:
        """Return ℓ/α² of each cell, shape ``(C,)``."""
        return self._loss.values(self._centred()) / self._alpha.flatten().square()

    def keep(self, places: Tensor) -> None:
        """Go on with the cells at some places only."""
        self._nets = [self._nets[place] for place in places.tolist()]
        self._alpha = self._alpha[places]
        self._release()
        self.parameters = {name: value[places] for name, value in self.parameters.items()}
        self._prepare()

    def _start(self) -> Tensors:
        """Return θ₀, stacked."""
        own = stacked(self._nets, ("hidden.weight", "output.weight"), self._x)
        return {f"net.{name}": value for name, value in own.items()}

    def _release(self) -> None:
        """Give the buffers back before others are made."""
        self._gradients: Tensors = {}
        self._hidden = self._active = self._rest = self._outputs = self._x.new_empty(0)

    def _prepare(self) -> None:
        """Make the buffers, and compute f(θ₀, x) in them.

        A stack of another height may be rounded differently, so f(θ₀, x) is computed anew in each:
        F is then 0 to the last bit where a cell has not moved.
        """
        cells, units, inputs = self.parameters[_HIDDEN].shape
        samples = len(self._x)
        self._rows, self._weights = (cells * units, samples), (cells * units, inputs)
        self._hidden = self._x.new_empty(cells, units, samples)
        linear = self._activation.buffers == 1
        self._active = self._hidden if linear else torch.empty_like(self._hidden)
        has_rest = self._activation.buffers == 3
        self._rest = torch.empty_like(self._hidden) if has_rest else self._x.new_empty(0)
        self._outputs = self._x.new_empty(cells, _outputs(self._nets[0]), samples)
        self._gradients = {name: torch.empty_like(p) for name, p in self.parameters.items()}
        self._reference: Tensor | None = None
        if self._task.centering != "none":
            self._reference = self._forward(self._start()).clone()

    def _forward(self, parameters: Tensors) -> Tensor:
        """Return f over the net's constant factor, shape ``(C, k, n)``, in a buffer."""
        weights = parameters[_HIDDEN].view(self._weights)
        torch.mm(weights, self._x.T, out=self._hidden.view(self._rows))
        self._activation(self._hidden, self._active, self._rest)
        return torch.bmm(parameters[_OUTPUT], self._active, out=self._outputs)

    def _centred(self) -> Tensor:
        """Return F = α (f(θ, x) − f(θ₀, x)), shape ``(C, k, n)``, in a buffer."""
        outputs = self._forward(self.parameters)
        if self._reference is not None:
            outputs.sub_(self._reference)
        return outputs.mul_(self._alpha * self._factor)


def _outputs(net: TwoLayerNet) -> int:
    return net.output.weight.shape[0]


class _Softplus:
    """σ(z) = (1/β) ln(1 + e^{βz}) as −(1/β) ln sigmoid(−βz).

    torch's `logsigmoid` computes that, for any z without overflow, in one pass that also keeps the
    exponential, from which the pass back takes the derivative.
    """

    buffers = 3

    def __init__(self, beta: float) -> None:
        self.input_factor, self.output_factor = -beta, -1 / beta

    def __call__(self, hidden: Tensor, active: Tensor, rest: Tensor) -> None:
        torch.ops.aten.log_sigmoid_forward.output(hidden, output=active, buffer=rest)

    def differentiate(self, back: Tensor, hidden: Tensor, rest: Tensor) -> None:
        torch.ops.aten.log_sigmoid_backward.grad_input(back, hidden, rest, grad_input=back)


class _ReLU:
    """σ(z) = max(z, 0), with σ′(0) = 0."""

    buffers, input_factor, output_factor = 2, 1.0, 1.0

    def __call__(self, hidden: Tensor, active: Tensor, rest: Tensor) -> None:
        torch.clamp_min(hidden, 0, out=active)

    def differentiate(self, back: Tensor, hidden: Tensor, rest: Tensor) -> None:
        torch.ops.aten.threshold_backward.grad_input(back, hidden, 0, grad_input=back)


class _Linear:
    """σ(z) = z."""

    buffers, input_factor, output_factor = 1, 1.0, 1.0

    def __call__(self, hidden: Tensor, active: Tensor, rest: Tensor) -> None:
        pass

    def differentiate(self, back: Tensor, hidden: Tensor, rest: Tensor) -> None:
        pass


def _activation(module: nn.Module) -> Any:
    """Return the activation as it is computed here."""
    if isinstance(module, ScaledSoftplus):
        return _Softplus(module.beta)
    return _ReLU() if isinstance(module, nn.ReLU) else _Linear()
