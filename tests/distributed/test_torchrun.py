"""torchrun says how many processes there are, the Trainer how many it expects."""

from collections.abc import Callable

import pytest
import pytorch_lightning as pl
from trainers import QUIET

from lightning_lazy import InputError
from lightning_lazy.processes import check_launch, devices_of_torchrun

STARTED = "torchrun has started 2 processes, the Trainer expects 1: use trainer=ddp"


@pytest.fixture
def _torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torchrun tells the first of two processes."""
    told = {
        "TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": "0",
        "LOCAL_RANK": "0", "GROUP_RANK": "0",
    }  # fmt: skip
    for name, value in told.items():
        monkeypatch.setenv(name, value)


def test_without_torchrun_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert devices_of_torchrun({"devices": "auto"}) == {"devices": "auto"}
    check_launch(pl.Trainer(**QUIET))


def test_several_machines_need_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    trainer = pl.Trainer(**QUIET | {"num_nodes": 2, "devices": 1, "strategy": "ddp"})
    with pytest.raises(InputError, match=r"^trainer.num_nodes=2 needs torchrun or srun, "):
        check_launch(trainer)
    monkeypatch.setenv("NODE_RANK", "1")  # as a launcher of one's own would
    check_launch(trainer)


@pytest.mark.usefixtures("_torchrun")
def test_all_devices_are_as_many_as_torchrun_has_started() -> None:
    assert devices_of_torchrun({"devices": "auto"}) == {"devices": 2}
    assert devices_of_torchrun({"strategy": "ddp"}) == {"strategy": "ddp", "devices": 2}
    assert devices_of_torchrun({"devices": 4}) == {"devices": 4}
    check_launch(pl.Trainer(**QUIET | {"devices": 2, "strategy": "ddp"}))


@pytest.mark.usefixtures("_torchrun")
@pytest.mark.parametrize("arguments", [{}, {"devices": 2, "num_nodes": 2, "strategy": "ddp"}])
def test_another_number_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(InputError, match="torchrun has started 2 processes, the Trainer expects"):
        check_launch(pl.Trainer(**QUIET | arguments))


@pytest.mark.usefixtures("_torchrun")
def test_a_run_on_one_device_gets_one_line_before_training(
    train: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=STARTED):
        train("data.n_train=20", "data.n_val=10", "model.width=4")
    assert "Traceback" not in capsys.readouterr().err
