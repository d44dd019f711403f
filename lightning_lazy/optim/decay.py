"""How a strength falls with time: a closed form of the number of ticks."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

from lightning_lazy.checks import check_choice, check_number
from lightning_lazy.errors import InputError

DecayKind = Literal["constant", "step", "exponential", "cosine"]
_NEEDS: dict[str, tuple[str, ...]] = {
    "constant": (),
    "step": ("factor", "milestones"),
    "exponential": ("factor",),
    "cosine": ("total",),
}


class Decay:
    r"""A factor s(t) with s(0) = 1, t in ticks: epochs or updates, as its user decides.

    - ``constant``: 1.
    - ``step``: factorᵐ, m the number of milestones passed: those with t ≥ milestone.
    - ``exponential``: factorᵗ.
    - ``cosine``: ½ (1 + cos(π t/total)), and 0 from t = total on.

    Args:
        kind: Which of these.
        factor: Of a milestone, or of a tick; at least 0.
        milestones: In ticks, ascending, above 0.
        total: Ticks until 0.

    Raises:
        InputError: A number is out of range, misses, or does not belong to this kind.
    """

    def __init__(
        self,
        kind: DecayKind = "constant",
        *,
        factor: float | None = None,
        milestones: Sequence[float] | None = None,
        total: float | None = None,
    ) -> None:
        check_choice("schedule", kind, get_args(DecayKind))
        given = {"factor": factor, "milestones": milestones, "total": total}
        for name, value in given.items():
            if (value is not None) != (name in _NEEDS[kind]):
                needs = " and ".join(_NEEDS[kind]) or "no further number"
                raise InputError(
                    f"the schedule {kind} needs {needs}, got {name}={value!r}; change {name} or "
                    "the schedule"
                )
        self.kind = kind
        self.factor = 1.0 if factor is None else check_number("factor", factor, zero=True)
        self.milestones = [float(one) for one in milestones or ()]
        if any(one <= 0 for one in self.milestones) or self.milestones != sorted(self.milestones):
            raise InputError(
                f"milestones must be above 0 and ascending, got {self.milestones}; sort or drop "
                "some"
            )
        self.total = math.inf if total is None else check_number("total", total)

    def __call__(self, tick: float) -> float:
        """Return s(t)."""
        if self.kind == "step":
            return self.factor ** sum(tick >= milestone for milestone in self.milestones)
        if self.kind == "exponential":
            return self.factor**tick
        if self.kind == "cosine":
            return 0.5 * (1 + math.cos(math.pi * min(tick / self.total, 1.0)))
        return 1.0
