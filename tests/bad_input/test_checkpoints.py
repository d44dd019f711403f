"""Checkpoints that can't be gone on with."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

Refused = Callable[[str, str], None]
SMALL = ("data.n_train=60", "data.n_val=30", "model.width=8", "batch_size=20", "max_epochs=1")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a finished run is kept for all tests of this file."""
    return tmp_path_factory.mktemp("finished") / "run"


@pytest.fixture
def checkpoint(train: Callable[..., str], finished: Path) -> Path:
    """The checkpoint of a finished run of one's own."""
    if not finished.is_dir():
        train(*SMALL, "hydra.run.dir=first")
        shutil.copytree("first", finished)
        shutil.rmtree("first")
    shutil.copytree(finished, "run")
    return Path("run/checkpoints/last.ckpt")


def rewrite(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def wider(content: dict[str, object]) -> None:
    weights = content["state_dict"]
    content["state_dict"] = {
        name: value.repeat(2, 1) if torch.is_tensor(value) and value.ndim == 2 else value
        for name, value in weights.items()
    }


FILES = [
    (lambda at: at.unlink(), "there is no checkpoint …last.ckpt: look in <run>/checkpoints"),
    (
        lambda at: at.write_text("hello"),
        "…last.ckpt can't be read as a checkpoint of tensors and plain containers (…): …",
    ),
    (
        lambda at: at.write_bytes(b""),
        "…last.ckpt can't be read as a checkpoint of tensors and plain containers (…): …",
    ),
    (
        lambda at: at.write_bytes(at.read_bytes()[:-500]),
        "…last.ckpt can't be read as a checkpoint of tensors and plain containers (…): …",
    ),
    (
        lambda at: torch.save({"at": Path("x")}, at),
        "…last.ckpt can't be read as a checkpoint of tensors and plain containers (…): …",
    ),
    (
        lambda at: torch.save({"state_dict": {}}, at),
        "the checkpoint holds no configuration: resume from one that train.py wrote",
    ),
    (
        lambda at: torch.save([1, 2], at),
        "the checkpoint holds no configuration: resume from one that train.py wrote",
    ),
    (
        lambda at: torch.save(torch.zeros(3), at),
        "the checkpoint holds no configuration: resume from one that train.py wrote",
    ),
    (
        lambda at: rewrite(at, wider),
        "the checkpoint is that of another model: model.net.hidden.weight has shape [8, 64] in "
        "this one, got [16, 64]: resume from a checkpoint of this run",
    ),
    (
        lambda at: rewrite(at, lambda content: content["state_dict"].clear()),
        "the checkpoint holds no state_dict: resume from one that train.py wrote",
    ),
    (
        lambda at: rewrite(at, lambda content: content.pop("state_dict")),
        "the checkpoint holds no state_dict: resume from one that train.py wrote",
    ),
    (
        lambda at: rewrite(at, lambda content: content.pop("optimizer_states")),
        "the checkpoint holds no optimizer_states: resume from one that train.py wrote",
    ),
    (
        lambda at: rewrite(at, lambda content: content.pop("loops")),
        "the checkpoint holds no loops: resume from one that train.py wrote",
    ),
    (
        lambda at: rewrite(at, lambda content: content.pop("callbacks")),
        "the checkpoint holds no callbacks: resume from one that train.py wrote",
    ),
    (
        lambda at: (at.parents[1] / "config.yaml").unlink(),
        "…run holds no config.yaml of a run: ckpt_path must be <run>/checkpoints/last.ckpt, with "
        "the run's folder as train.py left it",
    ),
    (
        lambda at: shutil.rmtree(at.parents[1] / ".hydra"),
        "…run holds no config.yaml of a run: ckpt_path must be <run>/checkpoints/last.ckpt, with "
        "the run's folder as train.py left it",
    ),
    (
        lambda at: (at.parents[1] / "config.yaml").write_text("a: [1"),
        "…config.yaml can't be read (…): start a new run",
    ),
    (
        lambda at: (at.parents[1] / "config.yaml").write_text(""),
        "…config.yaml must hold the settings of a run, got {}: start a new run",
    ),
    (
        lambda at: (at.parents[1] / ".hydra/overrides.yaml").write_text("a: ]"),
        "…overrides.yaml can't be read (…): start a new run",
    ),
    (
        lambda at: (at.parents[1] / "metrics.csv").unlink(),
        "…metrics.csv is not there: …",
    ),
    (
        lambda at: (at.parents[1] / "metrics.csv").write_text("step\n"),
        "…metrics.csv has 0 rows, the checkpoint was made at row 3: resume in the folder …",
    ),
]


@pytest.mark.parametrize(("spoil", "line"), FILES)
def test_a_checkpoint_is_refused(
    refused: Refused, checkpoint: Path, spoil: Callable[[Path], object], line: str
) -> None:
    spoil(checkpoint)
    refused(f"ckpt_path={checkpoint} max_epochs=2", line)


OVERRIDES = [
    ("alpha=3", "alpha=3 would change the model of the run that goes on (it was 1.0): start …"),
    ("model.width=9", "model.width=9 would change the model of the run …"),
    ("centering=none", "centering=none would change the model of the run …"),
    ("model=deep_linear", "…would change the model of the run …"),
    ("data.n_train=50", "data.n_train=50 would change the data of the run …"),
    ("seed=1", "… would change the data of the run …"),
    ("batch_size=10", "… would change the data of the run …"),
    ("schedule=step", "… would change the schedule of the run …"),
    ("optimizer=adam", "… would change the optimizer of the run …"),
    ("loss=squared", "… would change the loss of the run …"),
    ("trainer=float64", "trainer.precision=64-true would change the precision of the run …"),
    ("callbacks=laziness", "…holds no … for NeuralTangentKernel: start a new run, …"),
    ("lr=abc", "lr must be a number at least 0, got 'abc'; write it as lr=0.1"),
    ("l2=-1", "l2 must be finite and at least 0, got -1; change l2"),
    ("+optimizer.nonsense=1", "optimizer.nonsense can't be changed on resume: its state has …"),
    ("alhpa=1", "Could not override 'alhpa'. (see: python train.py --help)"),
    ("max_steps=2", "max_steps must be at least 3, which the run has done already, got 2: …"),
    ("max_epochs=0", "max_epochs must be an integer of at least 1, got 0; pass a larger …"),
]


@pytest.mark.parametrize(("override", "line"), OVERRIDES, ids=[case[0] for case in OVERRIDES])
def test_a_change_of_a_run_that_goes_on_is_refused(
    refused: Refused, checkpoint: Path, override: str, line: str
) -> None:
    refused(f"ckpt_path={checkpoint} max_epochs=2 {override}", line)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("nowhere.ckpt", "there is no checkpoint …nowhere.ckpt: look in <run>/checkpoints"),
        ("'[a]'", "there is no checkpoint …: look in <run>/checkpoints"),
        ("/", "there is no checkpoint /: look in <run>/checkpoints"),
    ],
)
def test_a_path_without_a_checkpoint_is_refused(refused: Refused, path: str, line: str) -> None:
    refused(f"ckpt_path={path}", line)
