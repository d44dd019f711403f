"""Callbacks that work in any Lightning project."""

from lightning_lazy.callbacks.activation_stability import ActivationStability
from lightning_lazy.callbacks.divergence_guard import DivergenceGuard
from lightning_lazy.callbacks.frozen_parameters import FrozenParameters

__all__ = ["ActivationStability", "DivergenceGuard", "FrozenParameters"]
