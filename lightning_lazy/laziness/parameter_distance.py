"""How far the parameters have moved from where they started."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ParameterDistance:
    """Relative distances ‖θ − θ₀‖/‖θ₀‖ in the Euclidean norm.

    Attributes:
        overall: Over all parameters; infinite where θ₀ = 0 and θ is not.
        by_layer: By module, over its own parameters; modules that start at zero have none.
    """

    overall: float
    by_layer: dict[str, float]


@torch.no_grad()
def parameter_distance(now: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> ParameterDistance:
    r"""Return how far ``now`` is from ``start``, relative to the length of ``start``.

    .. math:: \|\theta - \theta_0\| / \|\theta_0\|

    Under lazy training it falls like 1/α (Chizat, Oyallon & Bach 2019, theorem 2.2). Sums are taken
    in double precision.

    Args:
        now: θ by name, such as ``layer.weight``.
        start: θ₀ by the same names.
    """
    squares = {
        name: (_square(now[name].double() - first.double()), _square(first.double()))
        for name, first in start.items()
    }
    layers: dict[str, tuple[float, float]] = {}
    for name, (moved, length) in squares.items():
        layer = name.rpartition(".")[0] or name
        before = layers.get(layer, (0.0, 0.0))
        layers[layer] = (before[0] + moved, before[1] + length)
    total = [sum(pair[i] for pair in layers.values()) for i in (0, 1)]
    by_layer = {name: _ratio(*pair) for name, pair in layers.items() if pair[1] > 0}
    return ParameterDistance(_ratio(*total), by_layer)


def _square(value: Tensor) -> float:
    return float(value.square().sum())


def _ratio(moved: float, length: float) -> float:
    if length == 0:
        return math.inf if moved > 0 else 0.0
    return math.sqrt(moved / length)
