"""Optimizers that know the output scale, and schedules of the learning rate."""

from lightning_lazy.optim.adam import ScaledAdam
from lightning_lazy.optim.learning_rates import layerwise
from lightning_lazy.optim.rmsprop import ScaledRMSprop
from lightning_lazy.optim.schedules import Constant, InverseTime, StepDecay

__all__ = ["ScaledAdam", "ScaledRMSprop", "Constant", "InverseTime", "StepDecay", "layerwise"]
