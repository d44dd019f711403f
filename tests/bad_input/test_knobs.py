"""The knobs of a run: out of range, or of another type."""

from collections.abc import Callable

import pytest

CASES = [
    (
        "alpha=0",
        "alpha must be finite and above 0, got 0; change alpha",
    ),
    (
        "alpha=-1",
        "alpha must be finite and above 0, got -1; change alpha",
    ),
    (
        "alpha=-inf",
        "alpha must be finite and above 0, got -inf; change alpha",
    ),
    (
        "alpha=1e400",
        "alpha must be finite and above 0, got inf; change alpha",
    ),
    (
        "alpha=",
        "alpha must be a number above 0, got ''; write it as alpha=0.1",
    ),
    (
        "'alpha=[1,2]'",
        "alpha must be a number above 0, got [1, 2]; write it as alpha=0.1",
    ),
    (
        "alpha=true",
        "alpha must be a number above 0, got True; write it as alpha=0.1",
    ),
    (
        "alpha=big",
        "alpha must be a number above 0, got 'big'; write it as alpha=0.1",
    ),
    (
        "alpha=1e200",
        "alpha must be between 1e-150 and 1e150, got 1e+200; change alpha",
    ),
    (
        "alpha=1e25",
        "alpha=1e+25 can't be squared in torch.float32: choose alpha between 1e-18 and 1e18, or "
        "up to 1e±150 in double precision (trainer=float64)",
    ),
    (
        "lr=nan",
        "lr must be finite and at least 0, got nan; change lr",
    ),
    (
        "lr=null",
        "lr must be a number at least 0, got None; write it as lr=0.1",
    ),
    (
        "'lr=[0.1]'",
        "lr must be a number at least 0, got [0.1]; write it as lr=0.1",
    ),
    (
        "lr=true",
        "lr must be a number at least 0, got True; write it as lr=0.1",
    ),
    (
        "l2=inf",
        "l2 must be finite and at least 0, got inf; change l2",
    ),
    (
        "l2=abc",
        "l2 must be a number at least 0, got 'abc'; write it as l2=0.1",
    ),
    (
        "seed=-1",
        "seed must be an integer of at least 0, got -1; pass a larger seed",
    ),
    (
        "seed=1.5",
        "seed must be an integer of at least 0, got 1.5; pass a larger seed",
    ),
    (
        "seed=null",
        "seed must be an integer of at least 0, got None; pass a larger seed",
    ),
    (
        "seed=4294967296",
        "seed must be below 2**32, got 4294967296; choose a smaller one",
    ),
    (
        "only_seed=abc",
        "only_seed must be an integer of at least 0, got 'abc'; pass a larger only_seed",
    ),
    (
        "only_seed=-1",
        "only_seed must be an integer of at least 0, got -1; pass a larger only_seed",
    ),
    (
        "batch_size=-4",
        "expected batch_size to be a whole number of at least 1 or full, got -4",
    ),
    (
        "batch_size=1.5",
        "expected batch_size to be a whole number of at least 1 or full, got 1.5",
    ),
    (
        "batch_size=null",
        "expected batch_size to be a whole number of at least 1 or full, got None",
    ),
    (
        "batch_size=true",
        "expected batch_size to be a whole number of at least 1 or full, got True",
    ),
    (
        "max_epochs=-1",
        "max_epochs or max_steps must be above 0: the run would never end",
    ),
    (
        "max_epochs=1.5",
        "max_epochs must be an integer of at least 1, got 1.5; pass a larger max_epochs",
    ),
    (
        "max_epochs=true",
        "max_epochs must be an integer of at least 1, got True; pass a larger max_epochs",
    ),
    (
        "'max_epochs=[1]'",
        "max_epochs must be an integer of at least 1, got [1]; pass a larger max_epochs",
    ),
    (
        "max_steps=-2",
        "max_steps must be an integer of at least 1, got -2; pass a larger max_steps",
    ),
    (
        "max_steps=inf",
        "max_steps must be an integer of at least 1, got inf; pass a larger max_steps",
    ),
    (
        "centering=middle",
        "centering must be one of subtract, symmetrize, none, got 'middle'; pick one",
    ),
    (
        "centering=null",
        "centering must be one of subtract, symmetrize, none, got None; pick one",
    ),
    (
        "linearize=maybe",
        "linearize must be true or false, got 'maybe'; pick one",
    ),
    (
        "linearize=2",
        "linearize must be true or false, got 2; pick one",
    ),
    (
        "every_n_steps=1.5",
        "every_n_steps must be an integer of at least 1, got 1.5; pass a larger every_n_steps",
    ),
    (
        "every_n_steps=abc",
        "every_n_steps must be an integer of at least 1, got 'abc'; pass a larger every_n_steps",
    ),
    (
        "checkpoint_every_n_steps=abc",
        "checkpoint_every_n_steps must be an integer of at least 1, got 'abc'; pass a larger "
        "checkpoint_every_n_steps",
    ),
    (
        "name=null",
        "name must be a word such as default, got None; change name",
    ),
    (
        "'name=[a]'",
        "name must be a word such as default, got ['a']; change name",
    ),
    (
        "module.reference_cache=maybe",
        "reference_cache must be true or false, got 'maybe'; change reference_cache",
    ),
    (
        "module.log_every_n_steps=0",
        "log_every_n_steps must be an integer of at least 1, got 0; pass a larger "
        "log_every_n_steps",
    ),
    (
        "module.alpha=0",
        "alpha must be finite and above 0, got 0; change alpha",
    ),
]


@pytest.mark.parametrize(("overrides", "line"), CASES, ids=[case[0] for case in CASES])
def test_a_knob_is_refused(refused: Callable[[str, str], None], overrides: str, line: str) -> None:
    refused(overrides, line)
