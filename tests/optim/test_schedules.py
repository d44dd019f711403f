"""Schedules of the learning rate. Oracle: the closed form at every tick."""

import copy
import math
import pickle
from functools import partial

import pytest
import torch
from torch import nn

from lightning_lazy.errors import InputError
from lightning_lazy.optim import Constant, InverseTime, ScaledRMSprop, StepDecay

CASES = {
    "chizat_epochs": (partial(InverseTime, beta=1 / 3), lambda t: 1 / (1 + t / 3)),
    "chizat_steps": (
        partial(InverseTime, beta=1 / 3, ticks_per_unit=7.5),
        lambda t: 1 / (1 + t / 7.5 / 3),
    ),
    "flat": (partial(InverseTime, beta=0), lambda t: 1.0),
    "every": (partial(StepDecay, factor=0.5, every=4), lambda t: 0.5 ** (t // 4)),
    "every_real": (partial(StepDecay, factor=0.5, every=2.5), lambda t: 0.5 ** int(t / 2.5)),
    "milestones": (
        partial(StepDecay, factor=0.2, milestones=[6, 12.5, 18]),
        lambda t: 0.2 ** ((t >= 6) + (t >= 13) + (t >= 18)),
    ),
    "shares": (
        partial(StepDecay, factor=0.2, milestones=[0.3, 0.6, 0.9], total=20),
        lambda t: 0.2 ** ((t >= 6) + (t >= 12) + (t >= 18)),
    ),
    "warmup": (
        partial(StepDecay, factor=0.1, milestones=[0.5], warmup=0.25, total=18),
        lambda t: min(1, (t + 1) / 4.5) * 0.1 ** (t >= 9),
    ),
    "warmup_every": (
        partial(StepDecay, factor=0.5, every=4, warmup=3),
        lambda t: min(1, (t + 1) / 3) * 0.5 ** (t // 4),
    ),
    "no_milestones": (partial(StepDecay, factor=0.2, milestones=[]), lambda t: 1.0),
    "constant": (Constant, lambda t: 1.0),
}
by_case = pytest.mark.parametrize("case", CASES)


def _optimizer():
    params = [nn.Parameter(torch.zeros(2)) for _ in range(2)]
    return ScaledRMSprop([{"params": params[:1]}, {"params": params[1:], "lr": 3.0}], lr=0.7)


def _ticks(optimizer, scheduler, count):
    rates = []
    for _ in range(count):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return rates


@by_case
def test_every_tick(case):
    build, factor = CASES[case]
    optimizer = _optimizer()
    rates = _ticks(optimizer, build(optimizer), 30)
    for t, (first, second) in enumerate(rates):
        assert first == pytest.approx(0.7 * factor(t), rel=1e-14)
        assert second == pytest.approx(3.0 * factor(t), rel=1e-14)


@by_case
def test_saved_and_resumed_is_uninterrupted(case, tmp_path):
    build, _ = CASES[case]
    optimizer = _optimizer()
    scheduler = build(optimizer)
    _ticks(optimizer, scheduler, 11)
    state = {"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
    torch.save(state, tmp_path / "state.pt")
    expected = _ticks(optimizer, scheduler, 12)

    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed = _optimizer()
    second = build(resumed)
    resumed.load_state_dict(saved["optimizer"])
    second.load_state_dict(saved["scheduler"])
    assert _ticks(resumed, second, 12) == expected
    assert second.get_last_lr() == scheduler.get_last_lr()


@by_case
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_and_pickles(case, duplicate):
    build, _ = CASES[case]
    duplicate(build)
    optimizer = _optimizer()
    scheduler = build(optimizer)
    _ticks(optimizer, scheduler, 3)
    second = duplicate(scheduler)
    assert _ticks(second.optimizer, second, 9) == _ticks(optimizer, scheduler, 9)


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (InverseTime, {"beta": -1}, "beta must be finite and at least 0, got -1"),
        (InverseTime, {"beta": math.nan}, "beta must be finite and at least 0, got nan"),
        (InverseTime, {"beta": 1, "ticks_per_unit": 0}, "ticks_per_unit must be finite and above"),
        (StepDecay, {"factor": 0, "every": 3}, "factor must be finite and above 0, got 0"),
        (StepDecay, {"factor": 0.1, "every": 0}, "every must be finite and above 0, got 0"),
        (
            StepDecay,
            {"factor": 0.1, "every": 2, "warmup": -1},
            "warmup must be finite and at least",
        ),
        (StepDecay, {"factor": 0.1, "every": 2, "total": 0}, "total must be finite and above 0"),
        (StepDecay, {"factor": 0.1}, "needs one of milestones and every, got None and None"),
        (
            StepDecay,
            {"factor": 0.1, "every": 2, "milestones": [1]},
            r"needs one of milestones and every, got \[1\] and 2",
        ),
        (StepDecay, {"factor": 0.1, "milestones": [3, 2]}, "above 0 and ascending, got .3.0, 2.0"),
        (StepDecay, {"factor": 0.1, "milestones": [0, 2]}, "above 0 and ascending, got .0.0, 2.0"),
    ],
)
def test_bad_arguments(build, options, message):
    with pytest.raises(InputError, match=message):
        build(_optimizer(), **options)
