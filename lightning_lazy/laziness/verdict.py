"""From measures of laziness to one word."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Word = Literal["lazy", "intermediate", "active", "unknown"]

LIMITS: dict[str, tuple[float, float]] = {
    "activation_stability": (0.99, 0.9),
    "nonlinear_share": (0.1, 0.5),
    "kernel_drift": (0.1, 0.5),
}
"""For each measure the last value that is lazy, and the first that is active."""


@dataclass(frozen=True)
class Verdict:
    """Whether a net trained lazily, and why.

    Attributes:
        verdict: ``lazy``, ``intermediate`` or ``active``; ``unknown`` where a number is not one, as
            after a divergence, where none votes, or where no parameter has moved.
        votes: What each measure says by itself.
        evidence: All numbers, those that do not vote included.
    """

    verdict: Word
    votes: dict[str, Word]
    evidence: dict[str, float]


def judge(evidence: Mapping[str, float]) -> Verdict:
    """Return the verdict that measures of laziness support.

    ``lazy`` and ``active`` are claims that every measure at hand must support; all else is
    ``intermediate``. The limits, and why they stand there:

    - ``nonlinear_share``, ‖h − h̄‖/‖h − h(w₀)‖: up to 0.1 is lazy, since the linearisation then
      explains 99% of the squared change of the outputs; from 0.5 on active, since a quarter or more
      of it is beyond any linear model.
    - ``activation_stability``: patterns that have nothing to do with those at initialisation agree
      in about half of the places. 0.99 and above is lazy: at most 2% of the way there, which is
      where Chizat, Oyallon & Bach 2019 (figure 3a) find the plateau of the linearised model. 0.9
      and below, a fifth of the way and more, is active.
    - ``kernel_drift``, ‖Θ − Θ₀‖/‖Θ₀‖, if known: as ``nonlinear_share``; a kernel that stays within
      a tenth is that of a linear model.

    The distance of the parameters does not vote. Wide nets learn features with a small relative
    motion of many weights, and scale-invariant layers can move without any effect.

    Args:
        evidence: Numbers by name; those that `LIMITS` knows vote.

    Examples:
        >>> judge({"activation_stability": 0.999, "nonlinear_share": 0.02}).verdict
        'lazy'
        >>> judge({"activation_stability": 0.999, "nonlinear_share": 0.3}).verdict
        'intermediate'
    """
    votes = {
        name: _vote(value, *LIMITS[name]) for name, value in evidence.items() if name in LIMITS
    }
    moved = evidence.get("param_distance", 1.0) > 0
    return Verdict(_together(set(votes.values())) if moved else "unknown", votes, dict(evidence))


def _together(words: set[Word]) -> Word:
    if not words or "unknown" in words:
        return "unknown"
    return words.pop() if len(words) == 1 else "intermediate"


def _vote(value: float, lazy: float, active: float) -> Word:
    if math.isnan(value):
        return "unknown"
    if lazy > active:  # the measure falls as the net moves
        value, lazy, active = -value, -lazy, -active
    if value <= lazy:
        return "lazy"
    return "intermediate" if value < active else "active"
