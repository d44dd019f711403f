"""AutoL2's decisions on hand-written sequences. Oracle: Algorithm 1 and the eleven points that
settle its ambiguities, followed by hand; period 5."""

import math
from collections.abc import Sequence
from typing import Any

import pytest

from lightning_lazy import InputError
from lightning_lazy.optim.auto_l2 import AutoL2Controller

SHORT = 1e-6
"""A refractory constant under which every measurement after a decay may decay again."""


def decisions(
    losses: Sequence[float], errors: Sequence[float] | None = None, **options: Any
) -> dict[int, tuple[str, float]]:
    """Return reason and new λ by step, for measurements at 5, 10, 15, …"""
    controller = AutoL2Controller(**options)
    found = {}
    for number, loss in enumerate(losses):
        error = 0.5 if errors is None else errors[number]
        reason = controller.update(5 * (number + 1), loss, error)
        if reason is not None:
            found[5 * (number + 1)] = (reason, controller.l2)
    return found


def test_a_falling_loss_never_decays() -> None:
    assert decisions([2, 1.5, 1.2, 1.1, 1.0, 0.9]) == {}


def test_the_first_decay_can_come_at_the_third_measurement() -> None:
    # Before the second there is no minimum to be worse than (point 6).
    assert decisions([1, 2, 3]) == {15: ("loss", pytest.approx(0.01))}
    assert decisions([1, 2]) == {}


def test_worse_once_is_not_enough() -> None:
    assert decisions([1, 2, 0.9, 2, 0.8, 2]) == {}


def test_the_error_decides_as_the_loss_does() -> None:
    assert decisions([3, 2, 1], [0.1, 0.2, 0.2]) == {15: ("error", pytest.approx(0.01))}


def test_both_can_be_the_reason() -> None:
    assert decisions([1, 2, 2], [0.1, 0.2, 0.2]) == {15: ("loss and error", pytest.approx(0.01))}


def test_loss_once_and_error_once_is_not_enough() -> None:
    # At 10 the loss is worse, at 15 the error (point 2).
    assert decisions([1, 2, 0.9, 0.8], [0.5, 0.4, 0.6, 0.3]) == {}


def test_equal_is_not_worse() -> None:
    assert decisions([1, 1, 1, 1, 1], [0.2, 0.2, 0.2, 0.2, 0.2]) == {}


def test_the_last_two_are_compared_with_what_was_before_both() -> None:
    # At 20: 1.2 and 1.4 against min(2, 1.5) = 1.5, not against 1.2 itself (point 3).
    assert decisions([2, 1.5, 1.2, 1.4]) == {}
    # At 25: 1.4 and 1.3 against 1.2.
    assert decisions([2, 1.5, 1.2, 1.4, 1.3]) == {25: ("loss", pytest.approx(0.01))}


def test_a_new_minimum_at_the_measurement_before_a_decay_is_lost() -> None:
    # The errors are worse at 10 and 15: decay at 15. The loss of 10, 0.5, is the smallest and is
    # lost: 0.9 and 0.8 are compared with 1, 0.8 and 0.85 with 0.9 (point 3).
    losses, errors = [1, 0.5, 0.9, 0.8, 0.85], [0.1, 0.2, 0.2, 0.1, 0.1]
    options = {"refractory": SHORT}
    assert decisions(losses, errors, **options) == {15: ("error", pytest.approx(0.01))}
    # Without that decay 0.5 counts.
    assert list(decisions(losses, [0.1] * 5, **options)) == [20, 25]


def test_minima_stay_at_a_decay_unless_told_otherwise() -> None:
    losses = [1, 2, 2, 2, 2]
    assert list(decisions(losses, refractory=SHORT)) == [15, 20, 25]
    # Forgotten, the minimum is again that of the measurement at the decay, 2 (point 4).
    assert list(decisions(losses, refractory=SHORT, reset_on_decay=True)) == [15]
    rising = [1, 2, 3, 4, 5, 6, 7]
    assert list(decisions(rising, refractory=SHORT, reset_on_decay=True)) == [15, 25, 35]


def test_the_refractory_time_is_that_of_the_new_coefficient() -> None:
    # Decay at 15 to 0.01: MIN_STEP = 15 + 0.1/0.01 = 25 (15 + 1 with the old one); the next
    # decay is at 30, since it must come after MIN_STEP; then 30 + 100 = 130 (point 5).
    found = decisions([1, *[2] * 30])
    assert list(found) == [15, 30, 135]
    assert [l2 for _, l2 in found.values()] == pytest.approx([1e-2, 1e-3, 1e-4])


def test_measurements_within_the_refractory_time_still_enter_the_minima() -> None:
    # 1.5 at 25 is no decay's; the smallest loss before 30 and 35 is 0.5, that of 20.
    found = decisions([1, 2, 2, 0.5, 0.4, 0.45, 0.45])
    assert list(found) == [15, 35]


def test_the_start_the_factor_and_the_refractory_constant_are_arguments() -> None:
    # 0.4 → 0.2 at 15, MIN_STEP = 15 + 2/0.2 = 25; → 0.1 at 30, MIN_STEP = 50.
    found = decisions([1, *[2] * 10], l2=0.4, factor=0.5, refractory=2.0)
    assert found == {
        step: ("loss", pytest.approx(l2)) for step, l2 in ((15, 0.2), (30, 0.1), (55, 0.05))
    }


def test_there_can_be_a_lower_bound() -> None:
    found = decisions([1, *[2] * 20], refractory=SHORT, min_l2=0.004)
    assert found == {15: ("loss", pytest.approx(0.01)), 20: ("loss", 0.004)}


def test_what_is_not_finite_is_worse_than_any_number() -> None:
    assert list(decisions([1, math.nan, math.inf])) == [15]
    controller = AutoL2Controller()
    for step, loss in enumerate([math.nan, 1.0, 1.0], start=1):
        controller.update(5 * step, loss, math.nan)
    assert (controller.min_loss, controller.min_error) == (1.0, math.inf)


def test_dynamics_of_plain_cross_entropy_are_those_of_scaled_constants() -> None:
    # Point 11: losses times 2k and λ times 2k, the refractory time the same number of updates.
    losses = [1, 2, 2, 0.5, 0.7, 0.6, *[0.8] * 40]
    scaled = decisions([20 * loss for loss in losses], l2=20 * 0.1, refractory=20 * 0.1)
    found = decisions(losses)
    assert list(scaled) == list(found)
    assert [l2 / 20 for _, l2 in scaled.values()] == pytest.approx([l2 for _, l2 in found.values()])


def test_the_state_continues() -> None:
    losses = [1, 2, 2, 1.5, 0.9, 0.95, 2, 2, *[3] * 20]
    one = AutoL2Controller()
    for cut in range(1, len(losses)):
        other = AutoL2Controller()
        other.load_state_dict(one.state_dict())
        assert other == one
        assert other.update(5 * cut, losses[cut], 0.5) == one.update(5 * cut, losses[cut], 0.5)
    assert one.l2 < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"l2": 0}, "l2 must be finite and above 0, got 0"),
        ({"l2": -0.1}, "l2 must be finite and above 0, got -0.1"),
        ({"factor": 1.0}, "factor must be below 1, got 1.0"),
        ({"factor": 0.0}, "factor must be finite and above 0"),
        ({"refractory": 0.0}, "refractory must be finite and above 0"),
        ({"min_l2": -1.0}, "min_l2 must be finite and at least 0"),
        ({"l2": 0.1, "min_l2": 0.2}, "min_l2 must be at most l2=0.1, got 0.2"),
    ],
)
def test_bad_arguments(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AutoL2Controller(**options)
