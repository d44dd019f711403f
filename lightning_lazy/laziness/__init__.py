"""Measures of laziness: pure functions of modules and tensors."""

from lightning_lazy.laziness.activation_stability import (
    ACTIVATIONS,
    Patterns,
    Stability,
    activation_modules,
    activation_patterns,
    count_changes,
    stability,
)
from lightning_lazy.laziness.frozen_share import count_frozen
from lightning_lazy.laziness.isolation import undisturbed
from lightning_lazy.laziness.packed_bits import count_ones, pack_bits

__all__ = [
    "ACTIVATIONS",
    "Patterns",
    "Stability",
    "activation_modules",
    "activation_patterns",
    "count_changes",
    "count_frozen",
    "count_ones",
    "pack_bits",
    "stability",
    "undisturbed",
]
