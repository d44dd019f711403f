"""Schedules of the learning rate as closed forms of the number of ticks.

A tick is one `scheduler.step()`: an epoch or a step, as the module that calls it decides. Each
class takes the optimizer first, so that `functools.partial(InverseTime, beta=1 / 3)` is what a
module is given. The `state_dict`s hold numbers only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from lightning_lazy.checks import check_number
from lightning_lazy.errors import InputError


class InverseTime(LambdaLR):
    """η(t) = η₀ / (1 + β t), with t = ticks / `ticks_per_unit`.

    Chizat, Oyallon & Bach 2019 (published code) use η₀/(1 + t/3), t in epochs: `beta=1/3` with a
    tick an epoch, or with a tick a step and `ticks_per_unit` the steps of an epoch, which lets the
    rate fall within the epoch as well.

    Args:
        optimizer: its learning rates at this moment are the η₀ of its groups.
        beta: β, a real number, at least 0.
        ticks_per_unit: ticks that make one unit of t, above 0.

    Raises:
        InputError: a number out of range.
    """

    def __init__(self, optimizer: Optimizer, beta: float, ticks_per_unit: float = 1.0) -> None:
        rate = check_number("beta", beta, zero=True) / check_number(
            "ticks_per_unit", ticks_per_unit
        )
        super().__init__(optimizer, _InverseTime(rate))


class StepDecay(LambdaLR):
    """η(t) = η₀ · factorᵐ, m the number of milestones passed: those with t ≥ milestone.

    Lewkowycz & Gur-Ari 2020, figure 1a: factor 0.2 at 0.3T, 0.6T and 0.9T, which is
    `milestones=[0.3, 0.6, 0.9], total=T`.

    Args:
        optimizer: its learning rates at this moment are the η₀ of its groups.
        factor: above 0.
        milestones: in ticks, ascending, above 0; they need not be integers.
        every: instead of milestones, a distance in ticks: m = ⌊t/every⌋.
        warmup: ticks at the start in which the rate rises linearly: times (t + 1)/warmup up to 1.
        total: ticks that milestones, distance and warm-up are given in shares of.

    Raises:
        InputError: a number out of range, or not exactly one of `milestones` and `every`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float,
        milestones: Sequence[float] | None = None,
        every: float | None = None,
        *,
        warmup: float = 0.0,
        total: float = 1.0,
    ) -> None:
        if (milestones is None) == (every is None):
            raise InputError(
                f"StepDecay needs one of milestones and every, got {milestones!r} and {every!r}; "
                "pass one"
            )
        marks = [float(milestone) for milestone in milestones or ()]
        if not all(mark > 0 for mark in marks) or marks != sorted(marks):
            raise InputError(
                f"milestones must be above 0 and ascending, got {marks}; sort or drop some"
            )
        unit = check_number("total", total)
        decay = _StepDecay(
            check_number("factor", factor),
            [mark * unit for mark in marks],
            None if every is None else check_number("every", every) * unit,
            check_number("warmup", warmup, zero=True) * unit,
        )
        super().__init__(optimizer, decay)


class Constant(LambdaLR):
    """η(t) = η₀.

    Args:
        optimizer: its learning rates at this moment are the η₀ of its groups.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__(optimizer, _Constant())


class _InverseTime:
    def __init__(self, beta: float) -> None:
        self.beta = beta

    def __call__(self, tick: int) -> float:
        return 1 / (1 + self.beta * tick)


class _StepDecay:
    def __init__(
        self, factor: float, milestones: list[float], every: float | None, warmup: float
    ) -> None:
        self.factor = factor
        self.milestones = milestones
        self.every = every
        self.warmup = warmup

    def __call__(self, tick: int) -> float:
        rise = min(1.0, (tick + 1) / self.warmup) if self.warmup else 1.0
        if self.every is not None:
            return rise * self.factor ** math.floor(tick / self.every)
        return rise * self.factor ** sum(tick >= milestone for milestone in self.milestones)


class _Constant:
    def __call__(self, tick: int) -> float:
        return 1.0
