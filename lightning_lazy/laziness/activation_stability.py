"""Stability of activations: which units are active for the same inputs as at initialisation."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lightning_lazy.curvature.linearization import LinearizedModel
from lightning_lazy.errors import InputError
from lightning_lazy.laziness.packed_bits import count_ones, pack_bits
from lightning_lazy.laziness.pooling_winners import pooling_winners
from lightning_lazy.scaling import FrozenReference

ACTIVATIONS: tuple[type[nn.Module], ...] = (
    nn.ReLU,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ReLU6,
    nn.ELU,
    nn.CELU,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Softplus,
    nn.Tanh,
    nn.Sigmoid,
    nn.Hardswish,
    nn.Hardtanh,
)
"""The activation modules of torch whose pre-activation has a meaningful sign."""


@dataclass(frozen=True)
class Patterns:
    """Signs of the pre-activations of a net, and winners of its poolings, on a set of images.

    Attributes:
        bits: By layer, the packed signs or winners, uint8 of shape
            ``(images, planes, ceil(units / 8))``: one plane for signs, ceil(log₂ k) for the winner
            among k inputs.
        units: By layer, the number of units.
    """

    bits: dict[str, Tensor]
    units: dict[str, int]


@dataclass(frozen=True)
class Stability:
    """The share of (unit, image) pairs whose sign, or winner, is the same in two patterns.

    Attributes:
        by_layer: The share of every layer.
        over_units: The share over all units of all layers.
        over_layers: The mean of the layers' shares.
    """

    by_layer: dict[str, float]
    over_units: float
    over_layers: float


def activation_modules(
    module: nn.Module, types: Sequence[type[nn.Module]] = ACTIVATIONS, pooling: bool = False
) -> dict[str, nn.Module]:
    """Return the activation modules inside ``module`` by name.

    Those of frozen references are left out, and those of linearised nets, which never run.

    A module counts if it is of one of ``types`` or says so by an attribute ``is_activation``, and
    with ``pooling`` also if it is an `nn.MaxPool2d`.

    Raises:
        InputError: There is none, as in nets that call functions such as ``F.relu``, or no pooling;
            or ``types`` holds other things than classes.
    """
    if not all(isinstance(kind, type) for kind in types):
        raise InputError(f"types must be classes of modules, got {list(types)}; pass nn.ReLU, say")
    frozen = tuple(
        f"{name}." if name else ""
        for name, part in module.named_modules()
        if isinstance(part, FrozenReference | LinearizedModel)
    )
    own = {
        name: part
        for name, part in module.named_modules()
        if not (frozen and name.startswith(frozen))
    }
    found = {
        name: part
        for name, part in own.items()
        if isinstance(part, tuple(types)) or getattr(part, "is_activation", False)
    }
    if not found:
        names = ", ".join(kind.__name__ for kind in types)
        raise InputError(
            f"{type(module).__name__} has no activation modules ({names}): use modules such as "
            "nn.ReLU() instead of functions such as F.relu, name your own types, or leave the "
            "callback out (train.py: callbacks=health)"
        )
    if not pooling:
        return found
    pools = {name: part for name, part in own.items() if isinstance(part, nn.MaxPool2d)}
    if not pools:
        raise InputError(
            f"{type(module).__name__} has no nn.MaxPool2d modules to find winners in: use "
            "pooling=False"
        )
    return found | pools


class _Recorder:
    """Keeps the packed patterns of modules; the second call of one module is ``name#1``."""

    def __init__(self) -> None:
        self.bits: dict[str, list[Tensor]] = {}
        self.units: dict[str, int] = {}
        self._calls: Counter[str] = Counter()

    def next_batch(self) -> None:
        """Count the calls of each module anew."""
        self._calls.clear()

    def watch(self, name: str, module: nn.Module) -> RemovableHandle:
        """Keep the signs of the inputs of ``module``, or the winners if it is a max pooling."""

        def before(_: nn.Module, inputs: Any) -> None:
            self._keep(name, (inputs[0] > 0).flatten(1).unsqueeze(1))

        def after(pool: nn.MaxPool2d, inputs: Any, output: Any) -> None:
            pooled = output[0] if pool.return_indices else output
            self._keep(name, pooling_winners(pool, inputs[0], pooled))

        if isinstance(module, nn.MaxPool2d):
            return module.register_forward_hook(after)
        return module.register_forward_pre_hook(before)

    def _keep(self, name: str, pattern: Tensor) -> None:
        number = self._calls[name]
        self._calls[name] += 1
        key = f"{name}#{number}" if number else name
        self.bits.setdefault(key, []).append(pack_bits(pattern))
        self.units[key] = pattern.shape[-1]


@torch.no_grad()
def activation_patterns(
    forward: Callable[[Any], Any], modules: dict[str, nn.Module], batches: Iterable[Any]
) -> Patterns:
    """Return the patterns of ``modules`` over batches of inputs.

    Args:
        forward: Computes the net's output on a batch; call it in evaluation mode.
        modules: Activation modules and poolings by name, see `activation_modules`.
        batches: Batches of inputs; the first axis of every pre-activation is that of the images.

    Returns:
        For every (unit, image) a bit, 1 where the pre-activation is > 0, or for a max pooling the
        bits of the winner's position, see `pooling_winners`.

    Raises:
        InputError: None of the modules was called.
    """
    recorder = _Recorder()
    with ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(recorder.watch(name, module).remove)
        for batch in batches:
            recorder.next_batch()
            forward(batch)
    if not recorder.bits:
        raise InputError(
            f"none of the activation modules {', '.join(modules)} ran in the forward pass: pass "
            "a forward function that runs the net"
        )
    for name, parts in recorder.bits.items():
        if len({part.shape[1:] for part in parts}) > 1:
            raise InputError(
                f"layer {name} has other units in some batches of the probe set, as where "
                "sequences differ in length or samples are not along the first axis: choose a "
                "batch_size that takes the probe set in one batch"
            )
    bits = {name: torch.cat(parts) for name, parts in recorder.bits.items()}
    # One that was called with no samples is as one that was not called.
    return Patterns({name: rows for name, rows in bits.items() if len(rows)}, recorder.units)


def count_changes(first: Patterns, second: Patterns) -> dict[str, tuple[int, int]]:
    """Return by layer the numbers of (unit, image) pairs that differ and of all pairs.

    Raises:
        InputError: The patterns are of other layers or of other numbers of images or units.
    """
    sizes = [{name: bits.shape for name, bits in one.bits.items()} for one in (first, second)]
    if sizes[0] != sizes[1]:
        raise InputError(
            "patterns must be of the same layers and images, got others than at initialisation: "
            "measure with the settings (size, types, pooling) of the first start"
        )
    counts = {}
    for name, bits in first.bits.items():
        planes = (bits ^ second.bits[name]).unbind(1)
        changed = count_ones(reduce(torch.bitwise_or, planes))
        counts[name] = (changed, len(bits) * first.units[name])
    return counts


def stability(changes: dict[str, tuple[int, int]]) -> Stability:
    r"""Return the shares of pairs whose signs agree.

    .. math:: S = \frac{1}{N\,|\mathrm{images}|} \sum_{u,x} 1[z_u(x) > 0 \iff z^0_u(x) > 0]

    For ReLU this is the stability of activations of Chizat, Oyallon & Bach 2019 (§3.2, figure 3a);
    for softplus the consistency of hidden signs of Kanoh & Sugiyama 2021 (§3, figure 7). The units
    of a max pooling are its outputs, whose winner takes the place of the sign.

    Args:
        changes: By layer the numbers of changed and of all pairs, as from `count_changes`.
    """
    by_layer = {name: 1 - changed / total for name, (changed, total) in changes.items()}
    changed = sum(changed for changed, _ in changes.values())
    total = sum(total for _, total in changes.values())
    return Stability(by_layer, 1 - changed / total, sum(by_layer.values()) / len(by_layer))
