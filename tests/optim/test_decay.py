"""The schedules of a strength against their formulas."""

import math

import pytest

from lightning_lazy import InputError
from lightning_lazy.optim.decay import Decay


def test_each_kind_is_its_formula() -> None:
    # Oracle: the formulas of the docstring, by hand.
    assert [Decay()(t) for t in (0, 7)] == [1, 1]
    step = Decay("step", factor=0.1, milestones=[2, 4])
    assert [step(t) for t in (0, 1, 2, 3)] == [1, 1, 0.1, 0.1]
    assert step(4) == pytest.approx(0.01, rel=1e-15)
    assert Decay("exponential", factor=0.5)(3) == 0.125
    cosine = Decay("cosine", total=4)
    assert cosine(0) == 1
    assert cosine(1) == pytest.approx((1 + math.sqrt(0.5)) / 2, rel=1e-15)
    assert cosine(4) == cosine(9) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "linear"}, "schedule must be one of constant, step, exponential, cosine"),
        ({"kind": "step", "factor": 0.1}, "needs factor and milestones, got milestones=None"),
        ({"kind": "constant", "factor": 0.1}, "needs no further number, got factor=0.1"),
        ({"kind": "exponential", "factor": -1.0}, "factor must be finite and at least 0"),
        ({"kind": "step", "factor": 1.0, "milestones": [3, 2]}, "ascending"),
        ({"kind": "cosine", "total": 0}, "total must be finite and above 0"),
    ],
)
def test_wrong_numbers_are_said(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Decay(**arguments)
