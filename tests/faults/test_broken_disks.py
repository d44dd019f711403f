"""Full disks, folders that can't be written, damaged checkpoints: one line, and nothing is lost."""

import contextlib
import io
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from full_disk import FullDisk, full_disk, limit_files
from heeding_modes import heeding_modes
from trainers import QUIET

from lightning_lazy import (
    InputError,
    MetricsLog,
    RunFiles,
    ScaledLightningModule,
    load_checkpoint,
    read_checkpoint,
)
from lightning_lazy.command_line import tidy_errors
from lightning_lazy.data import ImageDataModule
from lightning_lazy.losses import CrossEntropyLoss
from lightning_lazy.models import TwoLayerNet
from lightning_lazy.replacing import append_text, beside, put_in_place, replace_file

Train = Callable[..., str]
# Nine updates; checkpoints of steps 2, 4, 6, 8, and 9 at the end.
SMALL = (
    "data.n_train=60", "batch_size=20", "max_epochs=3", "model.width=16",
    "checkpoint_every_n_steps=2", "every_n_steps=1",
)  # fmt: skip
ROOM = 6000  # bytes: above a run's metrics, far below its checkpoints


@pytest.fixture(autouse=True)
def _room_again() -> Iterator[None]:
    yield
    limit_files(None)


def fit(folder: Path, *callbacks: pl.Callback, steps: int = 6, **arguments: Any) -> pl.Trainer:
    """Train a small net by hand with a checkpoint every second update."""
    torch.manual_seed(0)
    module = ScaledLightningModule(
        TwoLayerNet(64, 16, 10), CrossEntropyLoss(), partial(torch.optim.SGD, lr=0.1)
    )
    data = ImageDataModule("digits", n_train=60, n_val=20, batch_size=20)
    settings = QUIET | {"logger": MetricsLog(folder), "max_steps": steps, "log_every_n_steps": 1}
    files = RunFiles(str(folder), every_n_steps=2)
    trainer = pl.Trainer(**settings, callbacks=[files, *callbacks])
    trainer.fit(module, datamodule=data, weights_only=True, **arguments)
    return trainer


def step_of(path: Path) -> int:
    return read_checkpoint(path)["global_step"]


def as_bytes(path: Path) -> bytes:
    """What is read from a checkpoint, written anew."""
    buffer = io.BytesIO()
    torch.save(read_checkpoint(path), buffer)
    return buffer.getvalue()


def same_weights(one: Path, other: Path) -> bool:
    states = [load_checkpoint(path).state_dict() for path in (one, other)]
    return all(
        torch.equal(value, states[1][name])
        for name, value in states[0].items()
        if torch.is_tensor(value)
    )


def only_run(name: str) -> Path:
    (folder,) = Path("runs", name).iterdir()
    return folder


# --- full disks -----------------------------------------------------------------------------------


def test_a_run_whose_disk_gets_full_says_so_and_goes_on_from_its_last_checkpoint(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    full = ("+callbacks.full._target_=full_disk.FullDisk", "+callbacks.full.step=5")
    with pytest.raises(SystemExit, match=r"can't write .*last.ckpt \(File too large\)") as ended:
        train(*SMALL, "name=full", *full, f"+callbacks.full.size={ROOM}")
    assert "\n" not in str(ended.value.code)
    assert "Traceback" not in capsys.readouterr().err
    limit_files(None)
    checkpoints = only_run("full") / "checkpoints"
    assert sorted(path.name for path in checkpoints.iterdir()) == ["last.ckpt", "previous.ckpt"]
    assert step_of(checkpoints / "last.ckpt") == 4
    assert step_of(checkpoints / "previous.ckpt") == 2
    assert not (only_run("full") / "summary.json").exists()

    train(f"ckpt_path={checkpoints}/last.ckpt", "callbacks.full.step=-1")
    train(*SMALL, "name=whole")
    full_run, whole = only_run("full"), only_run("whole")
    assert (full_run / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    assert same_weights(*(run / "checkpoints/last.ckpt" for run in (full_run, whole)))


def test_rows_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    clock = iter(range(1, 9))
    log.set_clock(lambda: (next(clock), 0.0))
    log.log_metrics({"loss": 1 / 3})
    log.log_metrics({"loss": 2 / 3})
    assert log.sync() == 2
    before = log.path.read_bytes()
    log.log_metrics({"loss": 1 / 7})
    with full_disk(len(before) + 5), pytest.raises(InputError, match=r"can't write .*metrics.csv"):
        log.sync()
    assert log.path.read_bytes() == before
    assert log.sync() == 3  # there is room again
    log.log_metrics({"loss": 1 / 9, "acc": 0.5})
    before = log.path.read_bytes()
    with full_disk(len(before) + 5), pytest.raises(InputError, match=r"can't write .*metrics.csv"):
        log.sync()
    assert log.path.read_bytes() == before
    assert log.sync() == 4
    lines = log.path.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("step,epoch,loss,acc", f"4,0,{1 / 9!r},0.5")
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_text_is_appended_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n")
    with full_disk(7), pytest.raises(InputError, match="File too large"):
        append_text(path, "1,2\n")
    assert path.read_text() == "a,b\n"


def test_what_torch_says_of_a_full_disk_is_understood(tmp_path: Path) -> None:
    """Torch raises a `RuntimeError` about positions in its archive."""
    path = tmp_path / "last.ckpt"
    torch.save({"good": 1}, path)
    state = {"weights": torch.zeros(10_000)}
    with full_disk(ROOM), pytest.raises(InputError, match=r"can't write .*last.ckpt"):
        replace_file(path, partial(torch.save, state))
    assert read_checkpoint(path) == {"good": 1}
    assert not beside(path).exists()


def test_other_errors_pass(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="^a defect$"):
        replace_file(tmp_path / "x", fail)


def test_a_full_disk_is_told_in_one_line_where_the_error_names_no_file(tmp_path: Path) -> None:
    line = r"^error: File too large: make room on the disk$"
    with pytest.raises(SystemExit, match=line), tidy_errors(), full_disk(10):
        (tmp_path / "figure.png").write_bytes(bytes(20))


# --- folders that can't be written ----------------------------------------------------------------


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A folder for a process that may not write where a folder's mode forbids it."""
    with heeding_modes():
        yield tmp_path
    for path in tmp_path.rglob("*"):
        if path.is_dir():
            path.chmod(0o777)


class LockAt(pl.Callback):
    """Takes the right to write a folder away at an update."""

    def __init__(self, folder: Path, step: int) -> None:
        self.folder, self.step = folder, step

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            self.folder.chmod(0o555)


class Updates(pl.Callback):
    """Counts updates."""

    count = 0

    def on_train_batch_end(self, *_: Any) -> None:
        self.count += 1


@pytest.mark.parametrize("inner", ["", "checkpoints"])
def test_a_read_only_folder_is_refused_before_training(locked: Path, inner: str) -> None:
    run = locked / "run"
    (run / inner).mkdir(parents=True)
    (run / inner).chmod(0o555)
    updates = Updates()
    with pytest.raises(InputError, match=r"can't write .* \(Permission denied\)"):
        fit(run, updates)
    assert updates.count == 0


def test_a_folder_that_gets_read_only_keeps_its_checkpoints(locked: Path) -> None:
    """Lightning passes over a refused permission in silence: it must not look like success."""
    run, updates = locked / "run", Updates()
    lock = LockAt(run / "checkpoints", 5)
    with pytest.raises(InputError, match=r"can't write .*last.ckpt \([Pp]ermission denied\)"):
        fit(run, lock, updates, steps=9)
    assert updates.count == 6  # the checkpoint of step 6 is the first that fails
    assert step_of(run / "checkpoints/last.ckpt") == 4
    assert step_of(run / "checkpoints/previous.ckpt") == 2


def test_metrics_that_can_not_be_written_are_refused_before_training(
    train: Train, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    line = r"can't write /.*file/log/metrics\.csv \(Not a directory\)"
    with pytest.raises(SystemExit, match=line):
        train(*SMALL, f"logger.csv.folder={tmp_path}/file/log")
    assert not (only_run("default") / "checkpoints/last.ckpt").exists()


def test_a_path_below_a_file_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    updates = Updates()
    with pytest.raises(InputError, match=r"can't write .*file/run.*\(Not a directory\)"):
        fit(tmp_path / "file/run", updates)
    assert updates.count == 0


# --- damaged checkpoints --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    fit(folder)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run: checkpoints of steps 6 and 4."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def zeros_at_the_end(content: bytes) -> bytes:
    """What some file systems leave after a power cut."""
    return content[: len(content) // 2] + bytes(len(content) - len(content) // 2)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "1 byte": lambda content: content[:1],
    "100 bytes": lambda content: content[:100],
    "half": lambda content: content[: len(content) // 2],
    "without 100 bytes": lambda content: content[:-100],
    "without 1 byte": lambda content: content[:-1],
    "garbage": lambda content: random.Random(0).randbytes(len(content)),
    "text": lambda content: b"step,epoch\n1,2\n",
    "zeros": lambda content: bytes(len(content)),
    "zeros at the end": zeros_at_the_end,
    "a pickle": lambda content: b"\x80\x02}q\x00.",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_told_and_the_one_before_it_offered(run: Path, damage: str) -> None:
    last, previous = (run / "checkpoints" / name for name in ("last.ckpt", "previous.ckpt"))
    last.write_bytes(DAMAGES[damage](last.read_bytes()))
    offered = rf"last.ckpt can't be read as .*; the one before it is {re.escape(str(previous))}"
    with pytest.raises(InputError, match=offered) as error:
        read_checkpoint(last)
    assert "\n" not in str(error.value)
    assert step_of(previous) == 4
    previous.unlink()
    with pytest.raises(InputError, match="there is none before it"):
        read_checkpoint(last)


def test_no_changed_byte_is_read_as_another_number(run: Path) -> None:
    """``torch.load`` alone takes changed weights for good ones."""
    last = run / "checkpoints/last.ckpt"
    whole, content = as_bytes(last), last.read_bytes()
    chance, refused = random.Random(0), 0
    for _ in range(60):
        changed = bytearray(content)
        changed[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        last.write_bytes(changed)
        try:
            assert as_bytes(last) == whole  # padding, or a field that nobody reads
        except InputError:
            refused += 1
    assert refused > 20


def test_a_run_by_hand_does_not_go_on_from_changed_weights(run: Path) -> None:
    last = run / "checkpoints/last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    assert torch.load(last, weights_only=True)["global_step"] == 6  # torch is content with it
    with pytest.raises(InputError, match=r"checksum of .* is wrong.*the one before it is"):
        fit(run, ckpt_path=last, steps=8)


def test_a_last_checkpoint_that_is_gone_offers_the_one_before_it(run: Path) -> None:
    (run / "checkpoints/last.ckpt").unlink()
    with pytest.raises(InputError, match=r"there is no checkpoint .*; the one before it is "):
        read_checkpoint(run / "checkpoints/last.ckpt")


def test_a_run_goes_on_from_the_checkpoint_before_the_damaged_one(train: Train) -> None:
    train(*SMALL, "name=damaged")
    train(*SMALL, "name=whole")
    damaged, whole = only_run("damaged"), only_run("whole")
    last = damaged / "checkpoints/last.ckpt"
    last.write_bytes(last.read_bytes()[:3000])
    with pytest.raises(SystemExit, match="the one before it is") as ended:
        train(f"ckpt_path={last}")
    (previous,) = re.findall(r"the one before it is (\S+):", str(ended.value.code))
    train(f"ckpt_path={previous}")
    assert (damaged / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    assert same_weights(last, whole / "checkpoints/last.ckpt")


def test_a_damaged_checkpoint_never_takes_the_place_of_the_good_one_before_it(run: Path) -> None:
    last, previous = (run / "checkpoints" / name for name in ("last.ckpt", "previous.ckpt"))
    last.write_bytes(b"damaged")
    fit(run, ckpt_path=previous)  # writes one checkpoint, at its end
    assert (step_of(last), step_of(previous)) == (6, 4)
    fit(run, ckpt_path=last, steps=7)
    assert (step_of(last), step_of(previous)) == (7, 6)


def test_a_run_that_starts_anew_forgets_the_checkpoints_of_an_older_one(run: Path) -> None:
    fit(run, steps=1)
    assert step_of(run / "checkpoints/last.ckpt") == 1
    assert not (run / "checkpoints/previous.ckpt").exists()


class Killed(BaseException):
    """Stands for a kill: nothing handles it."""


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_kill_between_any_two_steps_leaves_a_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    last, previous = tmp_path / "last.ckpt", tmp_path / "previous.ckpt"
    left = 0

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed
            return call(*arguments, **named)

        return run

    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError("no hard links here")

    if not hard_links:
        monkeypatch.setattr(os, "link", refused)
    for name in ("replace", "unlink", "fsync", "link"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    moment = 0
    while True:
        moment += 1
        last.write_text("2")
        previous.write_text("1")
        beside(last).write_text("3")
        left = moment
        with contextlib.suppress(Killed):
            put_in_place(last, keep_as=previous)
            break  # it ended before the kill
        left = 0
        assert last.is_file() or not hard_links
        good = (last if last.is_file() else previous).read_text()
        assert good in ("2", "3")
        beside(last).write_text("4")
        put_in_place(last, keep_as=previous)
        assert (last.read_text(), previous.read_text()) == ("4", good)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "previous.ckpt"]
    assert moment > 5
    assert (last.read_text(), previous.read_text()) == ("3", "2")


def test_the_callback_that_fills_the_disk_does(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="File too large"):
        fit(tmp_path, FullDisk(1, ROOM))
