"""What all wrong inputs share: a run of ``train.py`` that must be refused in one line."""

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import lightning.pytorch  # noqa: F401  its log writes to the stderr that there is on import
import pytest
from torch.optim.optimizer import register_optimizer_step_pre_hook

Train = Callable[..., str]
# Hydra says which cell of a sweep has failed, and a sweep without cells has no figure.
_OF_SWEEPS = ("Error executing job with overrides: ", "no figure: ")


@pytest.fixture
def updates() -> Iterator[list[int]]:
    """Grows by one with every update of any optimizer of torch's."""
    counted: list[int] = []
    handle = register_optimizer_step_pre_hook(lambda *_: counted.append(1))
    yield counted
    handle.remove()


@pytest.fixture
def refused(
    train: Train, updates: list[int], capsys: pytest.CaptureFixture[str]
) -> Callable[[str, str], None]:
    """Run ``train.py`` with overrides that it must refuse.

    It must exit with a code that is not 0, print the expected line and nothing else on stderr, make
    no update and leave no checkpoint and no row of metrics. In the expected line ``…`` stands for
    any text.
    """

    def run(overrides: str, expected: str) -> None:
        before, made = traces(), len(updates)
        with pytest.raises(SystemExit) as exit_info:
            train(*shlex.split(overrides))
        line = exit_info.value.code
        assert isinstance(line, str), "a text goes to stderr, and the exit code is 1"
        printed = capsys.readouterr().err.splitlines()
        if "-m" in overrides.split() or "experiment=" in overrides:
            printed = [text for text in printed if not text.startswith(_OF_SWEEPS)]
        assert [*printed, *line.splitlines()] == [line]
        pattern = ".*".join(re.escape(part) for part in f"error: {expected}".split("…"))
        assert re.fullmatch(pattern, line), line
        assert len(updates) == made
        assert traces() == before

    return run


def traces() -> dict[Path, bytes]:
    """What training leaves below the working directory: checkpoints, and tables with rows."""
    tables = [path for name in ("metrics.csv", "cells.csv") for path in Path().rglob(name)]
    rows = [path for path in tables if len(path.read_text().splitlines()) > 1]
    return {path: path.read_bytes() for path in [*rows, *Path().rglob("*.ckpt")]}
