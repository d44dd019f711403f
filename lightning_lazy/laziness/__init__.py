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
from lightning_lazy.laziness.isolation import in_place_modules, mixes_samples, undisturbed
from lightning_lazy.laziness.linearization_gap import (
    LinearizationGap,
    as_outputs,
    gap_sums,
    linearization_gap,
)
from lightning_lazy.laziness.packed_bits import count_ones, pack_bits
from lightning_lazy.laziness.parameter_distance import ParameterDistance, parameter_distance
from lightning_lazy.laziness.phase import Phase, judge_phase
from lightning_lazy.laziness.pooling_winners import pooling_winners
from lightning_lazy.laziness.verdict import Verdict, judge

__all__ = [
    "ACTIVATIONS",
    "LinearizationGap",
    "ParameterDistance",
    "Patterns",
    "Phase",
    "Stability",
    "Verdict",
    "activation_modules",
    "activation_patterns",
    "as_outputs",
    "count_changes",
    "count_frozen",
    "count_ones",
    "gap_sums",
    "in_place_modules",
    "judge",
    "judge_phase",
    "linearization_gap",
    "mixes_samples",
    "pack_bits",
    "parameter_distance",
    "pooling_winners",
    "stability",
    "undisturbed",
]
