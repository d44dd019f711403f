"""Whatever a knob is set to, a run begins or is refused in one line."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.optim.optimizer import register_optimizer_step_pre_hook

SMALL = ("data.n_train=60", "data.n_val=30", "model.width=8", "max_steps=2")
KNOBS = (
    "alpha", "lr", "l2", "seed", "only_seed", "batch_size", "max_epochs", "max_steps", "centering",
    "linearize", "every_n_steps", "checkpoint_every_n_steps", "name", "model", "model.width",
    "model.activation", "model.beta", "model.symmetric", "model.tau", "model.outputs", "data",
    "data.n_train", "data.classes", "data.binary", "data.resolution", "data.normalize",
    "data.augment", "data.padding", "data.mixup", "data.patches", "data.seed", "loss",
    "+loss.factor", "optimizer", "optimizer.lr", "optimizer.momentum", "optimizer._target_",
    "schedule", "+schedule.x",
    "callbacks.activation_stability", "callbacks.activation_stability.size",
    "callbacks.activation_stability.metric", "callbacks.divergence_guard.factor",
    "trainer.precision", "trainer.devices", "trainer.max_epochs", "trainer.val_check_interval",
    "+trainer.strategy", "+trainer.gradient_clip_val", "+trainer.accumulate_grad_batches",
    "logger.csv", "figures", "figures.learning_curve", "sweep_figure", "module", "+nonsense",
)  # fmt: skip
VALUES = (
    "nan", "inf", "-inf", "1e400", "1e-320", "-1", "0", "1.5", "2", f"{10**30}", "true", "null", "",
    "''", "' '", "[]", "[1,2]", "[[a]]", "{}", "{a:1}", "{_target_:os.getcwd}", "ünï", "'ünï'",
    "x" * 3000, "${alpha}", "${nothing}", "${", "a=b", "a,b", "a:b", "'1\n2'", "*", "../x",
)  # fmt: skip
OVERRIDES = st.tuples(st.sampled_from(KNOBS), st.sampled_from(VALUES)).map("=".join)


class BeganError(Exception):
    """Raised in place of the first update."""


@pytest.fixture
def stopped_at_the_first_update() -> Iterator[None]:
    def begin(*_: object) -> None:
        raise BeganError

    handle = register_optimizer_step_pre_hook(begin)
    yield
    handle.remove()


@pytest.mark.usefixtures("stopped_at_the_first_update")
@settings(
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(overrides=st.lists(OVERRIDES, min_size=1, max_size=2))
def test_a_run_begins_or_is_refused_in_one_line(
    train: Callable[..., str], capsys: pytest.CaptureFixture[str], overrides: list[str]
) -> None:
    shutil.rmtree("runs", ignore_errors=True)
    with pytest.raises((BeganError, SystemExit)) as outcome:
        train(*SMALL, *overrides)
    if outcome.type is BeganError:
        assert list(Path("runs").rglob("config.yaml"))
        return
    line = outcome.value.code
    assert isinstance(line, str)
    assert line.startswith("error: ")
    assert len(line.splitlines()) == 1
    assert capsys.readouterr().err == ""
