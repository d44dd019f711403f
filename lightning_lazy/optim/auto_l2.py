"""The decisions of AutoL2: when the coefficient of L2 decays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from lightning_lazy.checks import check_number
from lightning_lazy.errors import InputError

Reason = Literal["loss", "error", "loss and error"]
_STATE = ("l2", "min_loss", "min_error", "last_loss", "last_error", "min_step")


@dataclass
class AutoL2Controller:
    """Algorithm 1 of Lewkowycz & Gur-Ari 2020 (SM E), without a network.

    It is told loss and error every k updates. λ decays where the last two losses both exceed the
    smallest loss before them, or the last two errors the smallest error before them, and where the
    refractory time after the last decay is over:

        λ ← factor · λ,    next decay at t > t_decay + refractory/λ.

    The smallest values are those of the measurements up to t − 2k. At a decay they stay as they
    are, and the values at t − k never enter them, as in the algorithm as printed. A value that is
    not a number counts as infinite.

    Args:
        l2: λ, above 0.
        factor: What a decay multiplies λ by, between 0 and 1.
        refractory: λ times the number of updates without a decay after a decay, above 0.
        reset_on_decay: Whether the smallest values are forgotten at a decay.
        min_l2: λ does not fall below this.

    Attributes:
        min_loss: Smallest loss up to t − 2k.
        min_error: Smallest error up to t − 2k.
        last_loss: Loss at t − k.
        last_error: Error at t − k.
        min_step: The last update at which λ must not decay.

    Raises:
        InputError: A number is out of range.
    """

    l2: float = 0.1
    factor: float = 0.1
    refractory: float = 0.1
    reset_on_decay: bool = False
    min_l2: float = 0.0
    min_loss: float = math.inf
    min_error: float = math.inf
    last_loss: float = math.inf
    last_error: float = math.inf
    min_step: float = 0.0

    def __post_init__(self) -> None:
        self.l2 = check_number("l2", self.l2)
        self.refractory = check_number("refractory", self.refractory)
        self.min_l2 = check_number("min_l2", self.min_l2, zero=True)
        if not check_number("factor", self.factor) < 1:
            raise InputError(f"factor must be below 1, got {self.factor}; the paper's is 0.1")
        if self.min_l2 > self.l2:
            raise InputError(
                f"min_l2 must be at most l2={self.l2:g}, got {self.min_l2:g}; lower min_l2"
            )

    def update(self, step: int, loss: float, error: float) -> Reason | None:
        """Take in a measurement.

        Args:
            step: t, the number of updates done.
            loss: Training loss without the L2 term, after update t.
            error: Training error, after update t.

        Returns:
            Why λ has decayed; ``None`` where it has not.
        """
        loss, error = (math.inf if math.isnan(value) else value for value in (loss, error))
        reason = self._reason(loss, error)
        if reason is not None and step > self.min_step and self.l2 > self.min_l2:
            self.l2 = max(self.factor * self.l2, self.min_l2)
            self.min_step = step + self.refractory / self.l2
            if self.reset_on_decay:
                self.min_loss = self.min_error = math.inf
        else:
            reason = None
            self.min_loss = min(self.min_loss, self.last_loss)
            self.min_error = min(self.min_error, self.last_error)
        self.last_loss, self.last_error = loss, error
        return reason

    def _reason(self, loss: float, error: float) -> Reason | None:
        """Return which of the two was worse than its minimum twice in a row."""
        by_loss = min(loss, self.last_loss) > self.min_loss
        by_error = min(error, self.last_error) > self.min_error
        if by_loss and by_error:
            return "loss and error"
        return "loss" if by_loss else "error" if by_error else None

    def state_dict(self) -> dict[str, float]:
        """Return λ and what is remembered."""
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Go on from there; the constants stay those that this controller was made with."""
        for name in _STATE:
            setattr(self, name, state_dict[name])
