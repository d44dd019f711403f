"""Which parameters enter a net's outputs through a layer, found out while the net runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.overrides import TorchFunctionMode

from lightning_lazy.curvature.known_layers import KNOWN, Call

Known = tuple[str, float, int]
"""A parameter's name, the number in front of it, and the version of the tensor that holds both."""

_SCALINGS = {torch.mul, torch.Tensor.mul, torch.Tensor.__mul__, torch.Tensor.__rmul__}


@dataclass(frozen=True)
class Use:
    """One pass through a layer.

    Attributes:
        names: Its parameters among those asked for.
        inputs: What they multiply, shape (n, g, T, d): the gradient is Σ_t changes ⊗ inputs. A
            recorder that only looks for layers keeps that of the first sample.
        output: Where to differentiate.
        spread: Brings a derivative in the output to the shape (n, g, T, c).
        changes: That shape.
    """

    names: tuple[str, ...]
    inputs: Tensor
    output: GradientEdge
    spread: Callable[[Tensor], Tensor]
    changes: tuple[int, ...]


class Recorder(TorchFunctionMode):
    """While active, layers compute as ever, but keep their inputs and forget their parameters.

    Derivatives stop at the parameters in ``names``; where they are used in another way than by a
    known layer, they remain in the graph.

    Args:
        parameters: By name.
        names: Those to record.
        keep: Whether to keep the inputs of all samples.

    Attributes:
        uses: What was recorded, in the order of computation.
    """

    def __init__(self, parameters: Mapping[str, Tensor], names: set[str], keep: bool) -> None:
        super().__init__()
        self._keep = keep
        self.uses: list[Use] = []
        self._known: dict[int, Known] = {}
        for name in names:
            self._known[id(parameters[name])] = (name, 1.0, parameters[name]._version)
        self._kept: list[Tensor] = []  # so that no other tensor gets the id of one of these

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function of torch; if it is a layer with parameters to record, record it."""
        kwargs = kwargs or {}
        if func in KNOWN and torch.is_grad_enabled():
            call = KNOWN[func](*args, **kwargs)
            if call is not None:
                return self._record(call)
        result = func(*args, **kwargs)
        if func in _SCALINGS and len(args) == 2:
            self._note_scaling(result, *args)
        return result

    def _note_scaling(self, result: Tensor, left: Any, right: Any) -> None:
        for one, factor in ((left, right), (right, left)):
            known = self._find(one)
            if known is not None and isinstance(factor, int | float):
                self._known[id(result)] = (known[0], known[1] * factor, result._version)
                self._kept.append(result)

    def _find(self, value: Any) -> Known | None:
        known = self._known.get(id(value)) if torch.is_tensor(value) else None
        return known if known is not None and known[2] == value._version else None

    def _record(self, call: Call) -> Tensor:
        """Compute a layer and keep what its gradients are made of."""
        weight, bias = self._find(call.weight), self._find(call.bias)
        names = tuple(known[0] for known in (weight, bias) if known is not None)
        if not names:
            return call.compute(call.weight, call.bias)
        output = call.compute(_forget(call.weight, weight), _forget(call.bias, bias))
        if not output.requires_grad:
            output.requires_grad_()
            output = output.clone()  # which the net may overwrite
        with torch.no_grad():
            places = call.inputs(call.x if self._keep else call.x[:1])
            parts = []
            if weight is not None:
                parts.append(places if weight[1] == 1.0 else places * weight[1])
            if bias is not None:
                parts.append(torch.full_like(places[..., :1], bias[1]))
            shape = tuple(call.spread(output).shape)
        copied = torch.cat(parts, dim=3)  # the net may overwrite its inputs
        self.uses.append(Use(names, copied, get_gradient_edge(output), call.spread, shape))
        return output


def _forget(value: Tensor | None, known: Known | None) -> Tensor | None:
    """Return a parameter, out of the graph if it is known."""
    return value if known is None or value is None else value.detach()
