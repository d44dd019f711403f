"""Stability of activations: which units are active for the same inputs as at initialisation."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_lazy.errors import InputError
from lightning_lazy.laziness.packed_bits import count_ones, pack_bits
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
    """Signs of the pre-activations of a net on a set of images.

    Attributes:
        bits: By layer, the packed signs, uint8 of shape ``(images, ceil(units / 8))``.
        units: By layer, the number of units.
    """

    bits: dict[str, Tensor]
    units: dict[str, int]


@dataclass(frozen=True)
class Stability:
    """The share of (unit, image) pairs whose sign is the same in two patterns.

    Attributes:
        by_layer: The share of every layer.
        over_units: The share over all units of all layers.
        over_layers: The mean of the layers' shares.
    """

    by_layer: dict[str, float]
    over_units: float
    over_layers: float


def activation_modules(
    module: nn.Module, types: Sequence[type[nn.Module]] = ACTIVATIONS
) -> dict[str, nn.Module]:
    """Return the activation modules inside ``module`` by name, frozen references left out.

    A module counts if it is of one of ``types`` or says so by an attribute ``is_activation``.

    Raises:
        InputError: There is none, as in nets that call functions such as ``F.relu``.
    """
    frozen = tuple(
        name + "." for name, part in module.named_modules() if isinstance(part, FrozenReference)
    )
    found = {
        name: part
        for name, part in module.named_modules()
        if (isinstance(part, tuple(types)) or getattr(part, "is_activation", False))
        and not (frozen and name.startswith(frozen))
    }
    if not found:
        names = ", ".join(kind.__name__ for kind in types)
        raise InputError(
            f"{type(module).__name__} has no activation modules ({names}): use modules such as "
            "nn.ReLU() instead of functions such as F.relu, name your own types, or leave the "
            "callback out (train.py: callbacks=health)"
        )
    return found


@contextmanager
def _recording(modules: dict[str, nn.Module], into: dict[str, list[Tensor]]) -> Iterator[None]:
    """Record packed signs of the modules' inputs; the second call of one module is ``name#1``."""
    calls: dict[str, int] = {}

    def hook_for(name: str) -> Callable[[nn.Module, Any], None]:
        def hook(_: nn.Module, inputs: Any) -> None:
            number = calls[name] = calls.get(name, -1) + 1
            key = name if number == 0 else f"{name}#{number}"
            into.setdefault(key, []).append((inputs[0].detach() > 0).flatten(1))

        return hook

    handles = [m.register_forward_pre_hook(hook_for(name)) for name, m in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def activation_patterns(
    forward: Callable[[Any], Any], modules: dict[str, nn.Module], batches: Iterable[Any]
) -> Patterns:
    """Return the signs of the pre-activations of ``modules`` over batches of inputs.

    Args:
        forward: Computes the net's output on a batch; call it in evaluation mode.
        modules: The activation modules by name, see `activation_modules`.
        batches: Batches of inputs; the first axis of every pre-activation is that of the images.

    Returns:
        The patterns, a bit for every (unit, image): 1 where the pre-activation is > 0.

    Raises:
        InputError: None of the modules was called.
    """
    bits: dict[str, list[Tensor]] = {}
    units: dict[str, int] = {}
    for batch in batches:
        signs: dict[str, list[Tensor]] = {}
        with _recording(modules, signs):
            forward(batch)
        for name, (sign,) in signs.items():
            bits.setdefault(name, []).append(pack_bits(sign))
            units[name] = sign.shape[1]
    if not bits:
        raise InputError(
            f"none of the activation modules {', '.join(modules)} ran in the forward pass: pass "
            "a forward function that runs the net"
        )
    return Patterns({name: torch.cat(parts) for name, parts in bits.items()}, units)


def count_changes(first: Patterns, second: Patterns) -> dict[str, tuple[int, int]]:
    """Return by layer the numbers of pairs whose signs differ and of all pairs."""
    counts = {}
    for name, bits in first.bits.items():
        changed = count_ones(bits ^ second.bits[name])
        counts[name] = (changed, len(bits) * first.units[name])
    return counts


def stability(changes: dict[str, tuple[int, int]]) -> Stability:
    r"""Return the shares of pairs whose signs agree.

    .. math:: S = \frac{1}{N\,|\mathrm{images}|} \sum_{u,x} 1[z_u(x) > 0 \iff z^0_u(x) > 0]

    For ReLU this is the stability of activations of Chizat, Oyallon & Bach 2019 (§3.2, figure 3a);
    for softplus the consistency of hidden signs of Kanoh & Sugiyama 2021 (§3, figure 7).

    Args:
        changes: By layer the numbers of changed and of all pairs, as from `count_changes`.
    """
    by_layer = {name: 1 - changed / total for name, (changed, total) in changes.items()}
    changed = sum(changed for changed, _ in changes.values())
    total = sum(total for _, total in changes.values())
    return Stability(by_layer, 1 - changed / total, sum(by_layer.values()) / len(by_layer))
