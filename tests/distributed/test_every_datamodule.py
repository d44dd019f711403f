"""The shards of every datamodule make its sets, without a sample twice or one missing."""

from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor

from lightning_lazy import data

SIZES: dict[str, Any] = {"n_train": 23, "n_val": 11, "eval_batch_size": 3}
TABLE: dict[str, dict[str, Any]] = {
    "ImageDataModule": {"dataset": "digits", **SIZES},
    "PatternsDataModule": {"dimension": 4, "p0": 0.2, **SIZES},
    "PointsDataModule": {"points": "blobs", **SIZES},
    "StreamedImageDataModule": {"size": 4, "resize": 4, "augment": False, **SIZES},
    "TeacherStudentDataModule": {"in_features": 5, **SIZES},
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of two classes of images, no two of which are equal."""
    root = tmp_path_factory.mktemp("images")
    for split, count in (("train", 12), ("test", 6)):
        for label, kind in enumerate("ab"):
            (root / split / kind).mkdir(parents=True)
            for number in range(count):
                colour = (10 * number, 120 * label, 40)
                Image.new("RGB", (4, 4), colour).save(root / split / kind / f"{number:02}.png")
    return str(root)


def datamodule(name: str, images: str, rank: int, devices: int, batch_size: Any) -> Any:
    """A datamodule as one of several processes has it."""
    own = {"path": images} if name == "StreamedImageDataModule" else {}
    made = getattr(data, name)(**TABLE[name], **own, batch_size=batch_size)
    made.setup("fit")
    made.trainer = SimpleNamespace(
        global_rank=rank,
        world_size=devices,
        max_steps=1,
        lightning_module=None,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
    return made


def samples(one: Any, loader: Any) -> Tensor:
    """The inputs that a loader gives, one a row."""
    pairs = [batch if isinstance(batch, tuple | list) else None for batch in loader]
    made = [one.on_after_batch_transfer(batch, 0)[0] for batch in pairs]
    return torch.cat([x.flatten(1) for x in made])


def whole(one: Any, images: Any) -> Tensor:
    """The inputs of a set, one a row, in its order."""
    return one.transform(images.__getitems__(list(range(len(images)))))[0].flatten(1)


def test_the_table_has_every_datamodule() -> None:
    public = [getattr(data, name) for name in data.__all__]
    modules = [
        one.__name__
        for one in public
        if isinstance(one, type) and issubclass(one, pl.LightningDataModule)
    ]
    assert sorted(TABLE) == sorted(modules)


@pytest.mark.parametrize("devices", [1, 2, 4])
@pytest.mark.parametrize("name", sorted(TABLE))
def test_validation_shards_are_the_set_in_its_order(name: str, devices: int, images: str) -> None:
    ranks = [datamodule(name, images, rank, devices, 4) for rank in range(devices)]
    loaders = [one.val_dataloader() for one in ranks]
    first = ranks[0]
    sets = [first.val_set] if first.val_sets is None else list(first.val_sets.values())
    for number, one_set in enumerate(sets):
        own = [loader[number] if isinstance(loader, list) else loader for loader in loaders]
        shards = [samples(one, loader) for one, loader in zip(ranks, own, strict=True)]
        assert max(map(len, shards)) - min(map(len, shards)) <= 1
        assert torch.equal(torch.cat(shards), whole(first, one_set))


@pytest.mark.parametrize("devices", [1, 2, 4])
@pytest.mark.parametrize("name", sorted(TABLE))
def test_training_shards_are_the_set(name: str, devices: int, images: str) -> None:
    # StreamedImageDataModule has no full batch: nothing of it lies in memory.
    batch_sizes = [4] if name == "StreamedImageDataModule" else [4, "full"]
    for batch_size in batch_sizes:
        ranks = [datamodule(name, images, rank, devices, batch_size) for rank in range(devices)]
        shards = [samples(one, one.train_dataloader()) for one in ranks]
        union, expected = torch.cat(shards), whole(ranks[0], ranks[0].train_set)
        if batch_size == "full":
            assert torch.equal(union, expected)
            continue
        # All take as many samples, so that up to devices - 1 come twice in the last step.
        assert len({len(shard) for shard in shards}) == 1
        assert len(expected) <= len(union) < len(expected) + devices
        assert torch.equal(union.unique(dim=0), expected.unique(dim=0))
