"""Optimizers that know the output scale, and schedules of the learning rate."""

from lightning_lazy.optim.adam import ScaledAdam
from lightning_lazy.optim.rmsprop import ScaledRMSprop
from lightning_lazy.optim.schedules import constant, inverse_time, step_decay

__all__ = ["ScaledAdam", "ScaledRMSprop", "constant", "inverse_time", "step_decay"]
