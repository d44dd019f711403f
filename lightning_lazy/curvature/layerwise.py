"""How parameters enter a net's outputs through its layers, found out while it runs."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from lightning_lazy.curvature.contractions import (
    Factors,
    Jacobian,
    Outputs,
    keeps_factors,
)
from lightning_lazy.curvature.functional import Parameters

Output = Callable[[Any], Tensor]
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
    layer this class knows, they remain in the graph.

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
        layer = _LAYERS.get(func)
        if layer is not None and torch.is_grad_enabled():
            return layer(self, *args, **kwargs)
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

    def record(
        self,
        compute: Callable[[Tensor | None, Tensor | None], Tensor],
        x: Tensor,
        *,
        inputs: Callable[[Tensor], Tensor],
        spread: Callable[[Tensor], Tensor],
        weight: Tensor | None,
        bias: Tensor | None,
    ) -> Tensor:
        """Compute a layer and keep what its gradients are made of.

        Args:
            compute: Gives the output for a weight and a bias.
            x: The layer's inputs.
            inputs: Brings them to what the weight multiplies, shape (n, g, T, d).
            spread: Brings the output to the shape (n, g, T, c).
            weight: The layer's weight.
            bias: Its bias.
        """
        owners = self._find(weight), self._find(bias)
        names = tuple(owner[0] for owner in owners if owner is not None)
        if not names:
            return compute(weight, bias)
        pair = (
            value if owner is None or value is None else value.detach()
            for value, owner in zip((weight, bias), owners, strict=True)
        )
        output = compute(*pair)
        if not output.requires_grad:
            output.requires_grad_()
            output = output.clone()  # which the net may overwrite
        with torch.no_grad():
            places = inputs(x if self._keep else x[:1])
            parts = []
            if owners[0] is not None:
                parts.append(places if owners[0][1] == 1.0 else places * owners[0][1])
            if owners[1] is not None:
                parts.append(torch.full_like(places[..., :1], owners[1][1]))
            shape = tuple(spread(output).shape)
        edge = get_gradient_edge(output)
        copied = torch.cat(parts, dim=3)  # the net may overwrite its inputs
        self.uses.append(Use(names, copied, edge, spread, shape))
        return output


def _linear(
    recorder: Recorder, input: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    def places(x: Tensor) -> Tensor:
        return x.reshape(len(x), 1, math.prod(x.shape[1:-1]), x.shape[-1])

    if input.dim() < 2 or weight.dim() != 2:
        return F.linear(input, weight, bias)
    return recorder.record(
        lambda w, b: F.linear(input, w, b),  # type: ignore[arg-type]
        input,
        inputs=places,
        spread=places,
        weight=weight,
        bias=bias,
    )


def _convolution(  # noqa: PLR0917
    convolve: Callable[..., Tensor],
    recorder: Recorder,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    options = (stride, padding, dilation, groups)
    axes = weight.dim() - 2
    if isinstance(padding, str) or input.dim() != weight.dim():
        return convolve(input, weight, bias, *options)

    def by_groups(channels: Tensor) -> Tensor:
        n, c, places = channels.shape
        return channels.reshape(n, groups, c // groups, places).mT

    def places(x: Tensor) -> Tensor:
        x = x if axes == 2 else x.unsqueeze(2)
        move, pad, step = (
            _on_two_axes(value, axes, fill)
            for value, fill in zip(options[:3], (1, 0, 1), strict=True)
        )
        size = (1,) * (2 - axes) + tuple(weight.shape[2:])
        columns = F.unfold(x, size, dilation=step, padding=pad, stride=move)
        return by_groups(columns)

    def spread(change: Tensor) -> Tensor:
        return by_groups(change.flatten(2))

    return recorder.record(
        lambda w, b: convolve(input, w, b, *options),
        input,
        inputs=places,
        spread=spread,
        weight=weight,
        bias=bias,
    )


def _on_two_axes(value: Any, axes: int, fill: int) -> tuple[int, ...]:
    """Return a convolution's option for height and width; ``fill`` where there is no height."""
    values = tuple(value) if isinstance(value, list | tuple) else (value,)
    return (fill,) * (2 - axes) + (values * axes if len(values) == 1 else values)


def _conv1d(recorder: Recorder, *args: Any, **kwargs: Any) -> Tensor:
    return _convolution(F.conv1d, recorder, *args, **kwargs)


def _conv2d(recorder: Recorder, *args: Any, **kwargs: Any) -> Tensor:
    return _convolution(F.conv2d, recorder, *args, **kwargs)


def _normalised(  # noqa: PLR0917
    recorder: Recorder, x: Tensor, weight: Tensor | None, bias: Tensor | None, first: int, last: int
) -> Tensor:
    """Record x ↦ x·weight + bias, where the parameters lie along the axes ``first`` to ``last``."""
    tail = (1,) * (x.dim() - 1 - last)

    def compute(w: Tensor | None, b: Tensor | None) -> Tensor:
        scaled = x if w is None else x * w.reshape(*w.shape, *tail)
        return scaled if b is None else scaled + b.reshape(*b.shape, *tail)

    def spread(change: Tensor) -> Tensor:
        channels = change.movedim(tuple(range(first, last + 1)), tuple(range(1, last - first + 2)))
        groups = math.prod(channels.shape[1 : last - first + 2])
        return channels.reshape(len(change), groups, -1, 1)

    return recorder.record(compute, x, inputs=spread, spread=spread, weight=weight, bias=bias)


def _batch_norm(  # noqa: PLR0917
    recorder: Recorder,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    x = F.batch_norm(input, running_mean, running_var, None, None, training, momentum, eps)
    return _normalised(recorder, x, weight, bias, 1, 1)


def _group_norm(  # noqa: PLR0917
    recorder: Recorder,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    x = F.group_norm(input, num_groups, None, None, eps)
    return _normalised(recorder, x, weight, bias, 1, 1)


def _layer_norm(  # noqa: PLR0917
    recorder: Recorder,
    input: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    x = F.layer_norm(input, normalized_shape, None, None, eps)
    first = input.dim() - len(normalized_shape)
    if first < 1:
        return F.layer_norm(input, normalized_shape, weight, bias, eps)
    return _normalised(recorder, x, weight, bias, first, input.dim() - 1)


_LAYERS: dict[Any, Callable[..., Tensor]] = {
    F.linear: _linear,
    F.conv1d: _conv1d,
    F.conv2d: _conv2d,
    F.batch_norm: _batch_norm,
    F.group_norm: _group_norm,
    F.layer_norm: _layer_norm,
}


@dataclass(frozen=True)
class Layer:
    """A layer whose weight gradients are products.

    Attributes:
        names: Its parameters.
        inputs: Shape (g, T, d) of what they multiply, for a sample.
        changes: Shape (g, T, c) of what it puts out.
        factors: Whether the factors are kept, not their products.
        kept: Numbers kept for a sample.
    """

    names: tuple[str, ...]
    inputs: tuple[int, ...]
    changes: tuple[int, ...]
    factors: bool
    kept: int

    def room(self, samples: int, o: int, like: Tensor) -> Jacobian | Factors:
        """Return where to keep what the kernel needs of so many samples with o outputs each."""
        if not self.factors:
            return Jacobian(like.new_empty(samples, o, self.kept // o))
        inputs = like.new_empty(samples, *self.inputs)
        return Factors(inputs, like.new_empty(samples, *self.changes, o))


def find_layers(
    function: Output, parameters: Parameters, batch: Any, outputs: Outputs
) -> list[Layer]:
    """Return the layers through which alone parameters enter h on a batch.

    Parameters that enter in other ways as well, or through a layer that sees another axis than that
    of the samples first, are in none of them; nor are those of layers behind which samples mix.

    Args:
        function: ``function(batch)`` gives h at ``parameters``, shape ``[n, o]``.
        parameters: By name; leaves that require gradients.
        batch: Inputs.
        outputs: Whether the kernel is summed over outputs.
    """
    names = set(parameters)
    while names:
        recorder = Recorder(parameters, names, keep=False)
        try:
            with recorder:
                values = function(batch)
            known = _sound(recorder.uses, values, {n: parameters[n] for n in names})
            if known == names:
                known = _alone(recorder.uses, values)
        except Exception:  # what a net's code does with parameters out of the graph is open
            return []
        if known == names:
            return [_layer(use, values.shape[1], outputs) for use in recorder.uses]
        names = known
    return []


def keep_layers(
    function: Output,
    parameters: Parameters,
    batch: Any,
    layers: list[Layer],
    *,
    kept: list[Jacobian | Factors],
    samples: slice,
) -> bool:
    """Keep what the kernels of layers need of a batch.

    Args:
        function: ``function(batch)`` gives h at ``parameters``, shape ``[n, o]``.
        parameters: By name; leaves that require gradients.
        batch: Inputs.
        layers: As `find_layers` found them on another batch.
        kept: Where to keep it, for each of them.
        samples: Which samples these are.

    Returns:
        Whether the layers are on this batch as they were found.
    """
    names = {name for layer in layers for name in layer.names}
    recorder = Recorder(parameters, names, keep=True)
    with recorder:
        values = function(batch)
    uses = {use.names: use for use in recorder.uses}
    if _sound(recorder.uses, values, {n: parameters[n] for n in names}) != names:
        return False
    for layer in layers:
        use = uses.get(layer.names)
        found = use and (tuple(use.inputs.shape[1:]), use.changes[1:])
        if found != (layer.inputs, layer.changes):
            return False
    own = [uses[layer.names] for layer in layers]
    for p in range(values.shape[1]):
        for use, room, changes in zip(own, kept, _changes(values[:, p].sum(), own), strict=True):
            room.put(samples, p, use.inputs, changes)
    return True


def _layer(use: Use, o: int, outputs: Outputs) -> Layer:
    g, places, d = use.inputs.shape[1:]
    c = use.changes[3]
    factors = keeps_factors((g, places, d), (g, places, c), o, outputs)
    kept = g * places * (d + o * c) if factors else o * g * c * d
    return Layer(use.names, (g, places, d), (g, places, c), factors, kept)


def _sound(uses: list[Use], values: Tensor, parameters: Parameters) -> set[str]:
    """Return the parameters that one layer used, with samples first, and nothing else did."""
    counts = Counter(name for use in uses for name in use.names)
    fits = {name for use in uses if use.changes[0] == len(values) for name in use.names}
    elsewhere = _leaves(values)
    return {
        name
        for name, p in parameters.items()
        if counts[name] == 1 and name in fits and id(p) not in elsewhere
    }


def _leaves(values: Tensor) -> set[int]:
    """Return the ids of the leaves that derivatives of ``values`` reach."""
    found: set[int] = set()
    seen: set[Node] = set()
    open_ends = [values.grad_fn]
    while open_ends:
        node = open_ends.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        open_ends += [after for after, _ in node.next_functions]
    return found


def _alone(uses: list[Use], values: Tensor) -> set[str]:
    """Return the parameters of layers whose outputs for a sample change those of it alone.

    For each bit of the samples' numbers, outputs of those that have it set must have derivatives of
    exactly zero in what belongs to the others, and the other way round: any two differ in a bit.
    """
    numbers = torch.arange(len(values), device=values.device)
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(values.shape, generator=generator, dtype=torch.float64).to(values)
    names = {name for use in uses for name in use.names}
    for bit in range((len(values) - 1).bit_length()):
        for side in (0, 1):
            chosen = (numbers >> bit) & 1 == side
            changes = _changes((values[chosen] * weights[chosen]).sum(), uses)
            for use, change in zip(uses, changes, strict=True):
                if not bool((change[~chosen] == 0).all()):
                    names -= set(use.names)
    return names


def _changes(value: Tensor, uses: list[Use]) -> Iterator[Tensor]:
    """Yield the derivatives of a number in what layers put out, shape (n, g, T, c) each."""
    edges = [use.output for use in uses]
    found = torch.autograd.grad(value, edges, retain_graph=True, allow_unused=True)
    for use, change in zip(uses, found, strict=True):
        missing = change is None
        yield use.inputs.new_zeros(use.changes) if missing else use.spread(change.detach())
