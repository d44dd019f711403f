"""Oracles: the loader iterated by hand; an uninterrupted run; one process for two."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_lazy.data import ImageDataModule

pytest.importorskip("sklearn")
pytestmark = [
    # The images lie in memory, where workers only slow down.
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


class Recorder(pl.LightningModule):
    """A linear net that keeps what it was fed."""

    def __init__(self, features: int = 64) -> None:
        super().__init__()
        self.net = torch.nn.Linear(features, 10)
        self.seen: list[tuple[Tensor, Tensor]] = []
        self.validated: list[Tensor] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        self.seen.append((x, y))
        return torch.nn.functional.cross_entropy(self.net(x), y)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.validated.append(batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveAndStop(pl.Callback):
    """Saves after `at` steps, in the hook named, then stops the run."""

    def __init__(self, hook: str, at: int, path: Path) -> None:
        self.at, self.path = at, path
        setattr(self, hook, self.save)

    def save(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == self.at:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


def trainer(**kwargs: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    arguments: dict[str, Any] = {"accelerator": "cpu", "enable_model_summary": False} | quiet
    return pl.Trainer(**(arguments | kwargs))


@pytest.mark.parametrize(
    ("precision", "dtype"), [("32-true", torch.float32), ("64-true", torch.float64)]
)
@pytest.mark.parametrize("batch_size", [100, "full"])
def test_fit_gets_the_loaders_batches_in_the_modules_dtype(
    precision: Any, dtype: torch.dtype, batch_size: Any
) -> None:
    arguments: dict[str, Any] = {
        "n_train": 250,
        "batch_size": batch_size,
        "augment": batch_size == 100,
    }
    data, module = ImageDataModule(**arguments), Recorder()
    trainer(max_epochs=2, precision=precision).fit(module, datamodule=data)
    alone = ImageDataModule(**arguments)
    alone.setup()
    expected = []
    loader = alone.train_dataloader()
    for epoch in range(2):
        if batch_size == 100:
            loader.set_epoch(epoch)
        expected += [
            alone.transform(batch, dtype)
            if batch_size == 100
            else alone.transform(alone.train_set.__getitems__(range(250)), dtype)
            for batch in loader
        ]
    assert len(module.seen) == len(expected) == (6 if batch_size == 100 else 2)
    for (x, y), (expected_x, expected_y) in zip(module.seen, expected, strict=True):
        assert x.dtype == dtype
        assert torch.equal(x, expected_x)
        assert torch.equal(y, expected_y)
    assert len(torch.cat(module.validated)) >= 2 * 360


def test_a_full_batch_run_is_one_epoch_with_one_batch_object() -> None:
    data, module = ImageDataModule(batch_size="full", n_train=100), Recorder()
    run = trainer(max_steps=20)
    run.fit(module, datamodule=data)
    assert run.global_step == len(module.seen) == 20
    assert run.current_epoch == 1
    assert all(x is module.seen[0][0] for x, _ in module.seen)


# Between two batches, where our checkpoints are taken, and after a step, where Lightning's are.
@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_train_batch_end"])
@pytest.mark.parametrize(("batch_size", "at"), [(100, 1), (100, 3), (100, 5), ("full", 4)])
def test_a_run_that_is_resumed_sees_the_batches_it_would_have_seen(
    tmp_path: Path, batch_size: Any, at: int, hook: str
) -> None:
    length: dict[str, Any] = {"max_epochs": 3} if batch_size == 100 else {"max_steps": 9}
    arguments: dict[str, Any] = {"n_train": 250, "batch_size": batch_size, "augment": True}
    whole = Recorder()
    trainer(**length).fit(whole, datamodule=ImageDataModule(**arguments))

    checkpoint = tmp_path / "stopped.ckpt"
    first = Recorder()
    with pytest.raises(SystemExit):
        trainer(callbacks=[SaveAndStop(hook, at, checkpoint)], **length).fit(
            first, datamodule=ImageDataModule(**arguments)
        )
    second = Recorder()
    trainer(**length).fit(
        second, datamodule=ImageDataModule(**arguments), ckpt_path=checkpoint, weights_only=True
    )
    seen = first.seen + second.seen
    assert len(first.seen) == at
    assert len(seen) == len(whole.seen) == 9
    for (x, y), (expected_x, expected_y) in zip(seen, whole.seen, strict=True):
        assert torch.equal(x, expected_x)
        assert torch.equal(y, expected_y)


@pytest.mark.filterwarnings("ignore:You requested to overfit")
def test_overfit_batches_serves_the_same_clean_batches() -> None:
    data, module = ImageDataModule(batch_size=100, augment=True), Recorder()
    trainer(max_epochs=2, overfit_batches=2).fit(module, datamodule=data)
    labels = [y.tolist() for _, y in module.seen]
    assert labels[:2] == labels[2:]
    assert labels[0] == data.train_set.labels[:100].tolist()


def test_test_and_validate_work_without_fit() -> None:
    data, module = ImageDataModule(), Recorder()
    module.test_step = module.validation_step
    run = trainer()
    run.validate(module, datamodule=data, verbose=False)
    run.test(module, datamodule=data, verbose=False)
    assert sum(map(len, module.validated)) == 2 * 360


DDP = """
import json, sys, warnings
import pytorch_lightning as pl
import torch
from lightning_lazy.data import ImageSet, Transform
from lightning_lazy.data.memory import MemoryDataModule

class Numbers(MemoryDataModule):
    def __init__(self, batch_size):
        super().__init__()
        self.batch_size, self.eval_batch_size, self.seed = batch_size, 4, 0
        self.augment, self.drop_last = False, False
        self.num_workers, self.pin_memory = 0, False
    def setup(self, stage):
        images = torch.zeros(27, 1, 2, 2, dtype=torch.uint8)
        self.train_set = ImageSet(images, torch.arange(27))
        self.val_set = ImageSet(images[:11], torch.arange(11))
        self.preprocess = Transform()

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net, self.seen = torch.nn.Linear(4, 1), {"train": [], "val": []}
    def training_step(self, batch, _):
        self.seen["train"].append(batch[1].tolist())
        return self.net(batch[0]).sum()
    def validation_step(self, batch, _):
        self.seen["val"].append(batch[1].tolist())
    def on_train_end(self):
        name = f"{self.trainer.datamodule.batch_size}-{self.global_rank}.json"
        with open(f"{sys.argv[1]}/{name}", "w") as file:
            json.dump(self.seen, file)
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)

if __name__ == "__main__":
    for size in (4, "full"):
        pl.Trainer(
            max_epochs=1, accelerator="cpu", devices=2, strategy="ddp_fork", logger=False,
            enable_checkpointing=False, enable_progress_bar=False, num_sanity_val_steps=0,
            enable_model_summary=False,
        ).fit(Net(), datamodule=Numbers(size))
"""


@pytest.mark.ddp
def test_two_processes_share_the_data_once(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(DDP)
    command = [sys.executable, str(script), str(tmp_path)]
    subprocess.run(command, check=True, timeout=240, capture_output=True)
    for size in ("4", "full"):
        ranks = [json.loads((tmp_path / f"{size}-{rank}.json").read_text()) for rank in range(2)]
        validated = [index for rank in ranks for batch in rank["val"] for index in batch]
        assert validated == list(range(11))
        assert [len(rank["val"]) for rank in ranks] == [2, 2]
        trained = [index for rank in ranks for batch in rank["train"] for index in batch]
        if size == "full":
            assert trained == list(range(27))
        else:
            assert [[len(batch) for batch in rank["train"]] for rank in ranks] == [[4, 4, 4, 2]] * 2
            assert sorted(set(trained)) == list(range(27))
            assert len(trained) == 28  # one image twice, so that both ranks take four steps
