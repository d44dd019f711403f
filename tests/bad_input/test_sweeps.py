"""Sweeps: each line of Hydra that says which cell failed is followed by one that says why."""

from collections.abc import Callable

import pytest

CASES = [
    (
        "-m alpha=-1,-2",
        "alpha must be finite and above 0, got -1; change alpha",
    ),
    (
        "-m seed=0,1 trainer.devices=2 +trainer.strategy=ddp",
        "trainer.strategy=ddp on several devices can't run inside a multirun, since it starts "
        "train.py again for every device: use trainer.strategy=ddp_spawn, or one run at a time",
    ),
    (
        "-m seed=0,1 trainer.devices=2 +trainer.strategy=5",
        "trainer.strategy=5 on several devices can't run inside a multirun, since it starts "
        "train.py again for every device: use trainer.strategy=ddp_spawn, or one run at a time",
    ),
    (
        "-m only_seed=abc seed=0,1",
        "only_seed must be an integer of at least 0, got 'abc'; pass a larger only_seed",
    ),
    (
        "-m sweep_figure=abc alpha=1",
        "sweep_figure must be settings with the _target_ that they build or null, got 'abc': see "
        "the examples in conf",
    ),
    (
        "-m alhpa=1,2",
        "Could not override 'alhpa'. (see: python train.py --help)",
    ),
    (
        "-m model=two_layer,null",
        "can't start -m model=two_layer,null: Config group override must be a string or a list."
        " Got NoneType (see: python train.py --help)",
    ),
    (
        "-m 'alpha=range('",
        "can't read the override 'alpha=range(', put quotes around its value: no viable "
        "alternative at input 'range(' (see: python train.py --help)",
    ),
    (
        "-m 'alpha=range(1,2,0)'",
        "can't start -m alpha=range(1,2,0): range() arg 3 must not be zero (see: python "
        "train.py --help)",
    ),
    (
        "-m hydra/launcher=nothing alpha=1",
        "In 'hydra/config': Could not find 'hydra/launcher/nothing': choose one of …",
    ),
    (
        "-m hydra.launcher.n_jobs=0 alpha=1",
        "Could not override 'hydra.launcher.n_jobs'. (see: python train.py --help)",
    ),
    (
        "experiment=lewkowycz/s8_quick data.path=nowhere",
        "expected a folder with train/ and test/ (or val/) in it, got 'nowhere': set path to one "
        "that holds <split>/<class>/<image>",
    ),
]


@pytest.mark.parametrize(("overrides", "line"), CASES, ids=[case[0] for case in CASES])
def test_a_sweep_is_refused(refused: Callable[[str, str], None], overrides: str, line: str) -> None:
    refused(overrides, line)


def test_slurm_is_asked_for_where_there_is_none(
    refused: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")  # no srun: on a cluster jobs would be started
    refused(
        "-m hydra/launcher=slurm seed=0,1",
        'can\'t start -m hydra/launcher=slurm seed=0,1: Could not detect "srun", are you indeed '
        "on a slurm cluster? (see: python train.py --help)",
    )
