"""The verdict on scripted losses; oracle: the definitions, case by case."""

import math
from typing import Any

import pytest

from lightning_lazy import InputError
from lightning_lazy.laziness import judge_phase

FALLING = [1.0, 0.5, 0.3, 0.2, 0.2, 0.2]
HUMP = [1.0, 1.5, 4.0, 0.6, 0.2, 0.2, 0.2]


@pytest.mark.parametrize(
    ("losses", "end", "more", "verdict", "reason"),
    [
        (FALLING, 2.0, {}, "lazy", "the loss never rose and λ stayed"),
        (FALLING, 1.91, {}, "lazy", "the loss never rose and λ stayed"),
        ([1.0, 0.5, 0.5009, 0.2, 0.2], 2.0, {}, "lazy", "the loss never rose"),  # within 1e-3
        ([1.0, 0.9, 0.8], 2.0, {}, "lazy", "the loss never rose"),  # not yet at its end
        (HUMP, 1.0, {}, "catapult", "the loss rose first and λ dropped"),
        (HUMP, 2.0, {}, "catapult", "the loss rose first and λ stayed"),
        (FALLING, 1.0, {}, "catapult", "the loss never rose and λ dropped"),
        ([1.0, 0.5, 0.502, 0.2, 0.2], 1.0, {}, "catapult", "the loss rose first"),
        ([1.0, 2.0, 3.0], 2.0, {}, "divergent", "ends above where it began"),
        ([1.0, 2.0, math.inf], math.nan, {}, "divergent", "not finite"),
        ([1.0, math.nan, 0.5], 2.0, {}, "divergent", "not finite"),
        ([1.0, 1.0, 1.0 + 1e-7], 2.0, {}, "lazy", "the loss never rose"),  # by rounding alone
        ([1.0, 1.0, 1.0 + 1e-5], 2.0, {}, "divergent", "ends above where it began"),
        (FALLING, 2.2, {}, "none", "λ grew"),
        (HUMP, 3.0, {}, "none", "λ grew"),
        ([1.0, 0.5, 0.9, 0.5, 0.9, 0.5], 2.0, {}, "none", "not come to rest"),
        (FALLING, math.nan, {}, "none", "λ is not known"),
        (FALLING, 2.0, {"last_gain": 0.1}, "none", "while the steps go on: a cycle"),
        (FALLING, 2.0, {"last_gain": 1e-5}, "lazy", "the loss never rose"),
        (HUMP, 1.0, {"last_gain": 1e-5}, "catapult", "the loss rose first"),
        ([1.0, 0.9, 0.8], 2.0, {"last_gain": 0.1}, "lazy", "the loss never rose"),
        # The Hessian's drop counts where lr times it begins above 2.
        (FALLING, 1.0, {"kernel": "hessian"}, "lazy", "λ dropped as the loss did"),
        (HUMP, 1.0, {"kernel": "hessian"}, "catapult", "rose first and λ dropped as the loss did"),
        (FALLING, 1.0, {"kernel": "hessian", "lr": 1.1}, "catapult", "λ dropped"),
        (FALLING, 3.0, {"kernel": "hessian"}, "none", "λ grew"),
        # Tolerances.
        (FALLING, 1.0, {"kernel_tolerance": 0.6}, "lazy", "λ stayed"),
        (HUMP, 2.0, {"loss_tolerance": 4.0}, "lazy", "never rose"),
    ],
)
def test_the_verdict_follows_the_definitions(
    losses: list[float], end: float, more: dict[str, Any], verdict: str, reason: str
) -> None:
    phase = judge_phase(losses, 2.0, end, **({"lr": 0.9} | more))
    assert phase.verdict == verdict
    assert reason in phase.reason


def test_the_evidence_is_reported() -> None:
    phase = judge_phase(HUMP, 2.0, 0.5, lr=1.5)
    assert phase.rise == 3.0
    assert (phase.first_loss, phase.peak_loss, phase.last_loss) == (1.0, 4.0, 0.2)
    assert (phase.kernel_start, phase.kernel_end, phase.kernel_ratio) == (2.0, 0.5, 0.25)
    assert (phase.lr_times_start, phase.lr_times_end, phase.converged) == (3.0, 0.75, True)


def test_losses_that_are_no_numbers_count_neither_as_peak_nor_as_rest() -> None:
    phase = judge_phase([1.0, 2.0, math.nan, math.nan], 2.0, math.nan, lr=1.0)
    assert (phase.peak_loss, phase.converged) == (2.0, False)


def test_units_of_the_loss_do_not_matter() -> None:
    small = judge_phase([1e-3 * loss for loss in HUMP], 2.0, 1.0, lr=1.0)
    assert small.verdict == "catapult"
    assert small.rise == pytest.approx(3.0)


def test_one_loss_is_not_enough() -> None:
    with pytest.raises(InputError, match="losses must be two or more, got 1"):
        judge_phase([1.0], 2.0, 2.0, lr=1.0)
