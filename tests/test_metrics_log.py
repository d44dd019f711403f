"""MetricsLog: append-only, exact, and cut back to what a checkpoint knows of."""

import csv
from pathlib import Path

import pytest

from lightning_lazy import InputError, MetricsLog


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def log_at(log: MetricsLog, step: int, **values: float) -> None:
    log.set_clock(lambda: (step, step / 10))
    log.log_metrics(values, step=999)


def test_values_of_one_step_share_a_row_stamped_by_the_clock(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    log_at(log, 5, loss=0.1)
    log_at(log, 5, acc=0.5)
    log_at(log, 10, loss=0.05)
    assert log.sync() == 2
    assert rows(log.path) == [
        {"step": "5", "epoch": "0.5", "loss": "0.1", "acc": "0.5"},
        {"step": "10", "epoch": "1", "loss": "0.05", "acc": ""},
    ]


def test_floats_read_back_as_the_same_floats(tmp_path: Path) -> None:
    values = {"a": 0.1 + 0.2, "b": 1e-300, "c": float("inf"), "d": float("nan"), "e": 1e20}
    log = MetricsLog(tmp_path)
    log_at(log, 1, **values)
    log.sync()
    (row,) = rows(log.path)
    assert [float(row[name]) for name in "abce"] == [values[name] for name in "abce"]
    assert row["d"] == "nan"


def test_a_new_metric_becomes_the_last_column_and_pads_the_rows_before(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    log_at(log, 1, loss=1.0)
    log_at(log, 2, new=2.0)
    log.sync()
    assert log.path.read_text() == "step,epoch,loss,new\n1,0.1,1,\n2,0.2,,2\n"


def test_continuing_after_a_kill_gives_the_file_of_an_uninterrupted_run(tmp_path: Path) -> None:
    whole, killed = MetricsLog(tmp_path / "whole"), MetricsLog(tmp_path / "killed")
    for log in (whole, killed):
        log_at(log, 1, loss=1.0)
        log_at(log, 2, loss=2.0)
        assert log.sync() == 2
    log_at(whole, 3, late=3.0)
    whole.sync()
    log_at(killed, 3, late=3.0)
    log_at(killed, 4, loss=4.0)
    with killed.path.open("a") as file:
        file.write("5,0.5,torn")
    resumed = MetricsLog(tmp_path / "killed")
    resumed.truncate(2)
    log_at(resumed, 3, late=3.0)
    assert resumed.sync() == 3
    assert resumed.path.read_bytes() == whole.path.read_bytes()


def test_a_fresh_log_replaces_the_file_of_an_older_run(tmp_path: Path) -> None:
    for _ in range(2):
        log = MetricsLog(tmp_path)
        log_at(log, 1, loss=1.0)
        log.sync()
    assert len(rows(log.path)) == 1


def test_a_file_of_another_run_is_refused(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    log_at(log, 1, loss=1.0)
    log.sync()
    with pytest.raises(InputError, match="has 1 rows, the checkpoint was made at row 7"):
        MetricsLog(tmp_path).truncate(7)
    with pytest.raises(InputError, match="is not there"):
        MetricsLog(tmp_path / "elsewhere").truncate(0)


def test_values_that_come_after_a_checkpoint_join_their_row(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    log_at(log, 1, loss=1.0)
    assert log.sync() == 1
    log_at(log, 1, late=2.0)
    log_at(log, 2, loss=3.0)
    assert log.sync() == 2
    assert log.path.read_text() == "step,epoch,loss,late\n1,0.1,1,2\n2,0.2,3,\n"


def test_values_of_the_last_row_join_it_after_a_kill(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    log_at(log, 1, loss=1 / 3)
    assert log.sync() == 1
    resumed = MetricsLog(tmp_path)
    resumed.truncate(1)
    log_at(resumed, 1, late=2.0)
    assert resumed.sync() == 1
    assert resumed.path.read_text() == "step,epoch,loss,late\n1,0.1,0.3333333333333333,2\n"
