"""Images in files. Oracles: torchvision's crops and scalings; an uninterrupted pass; one rank."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from trainers import QUIET

from lightning_lazy.callbacks._probe import Probe
from lightning_lazy.data.counter import make_keys, random_words
from lightning_lazy.data.dataset import IndexedBatch
from lightning_lazy.data.image_files import centre_crop, random_box
from lightning_lazy.data.streamed_images import StreamedImageDataModule
from lightning_lazy.errors import InputError

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("torchvision")

SIZES = ((50, 40), (31, 64), (90, 20), (24, 24), (20, 20), (33, 47))
PER_CLASS = 5


def smooth(width: int, height: int, rng: np.random.Generator) -> Any:
    """An image of some structure: noise of a few pixels, scaled up."""
    pixels = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of images of several sizes and modes, JPEG and PNG."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("ant", "bee", "cow"):
            (root / split / name).mkdir(parents=True)
            for number in range(PER_CLASS):
                image = smooth(*SIZES[number % len(SIZES)], rng)
                if name == "cow":
                    image = image.convert("L" if number % 2 else "RGBA")
                    image.save(root / split / name / f"{number}.png")
                else:
                    image.save(root / split / name / f"{number}.JPEG")
    return root


def ready(folder: Path, **kwargs: Any) -> StreamedImageDataModule:
    arguments: dict[str, Any] = {"size": 16, "resize": 18, "batch_size": 4, "eval_batch_size": 4}
    data = StreamedImageDataModule(str(folder), **(arguments | kwargs))
    data.prepare_data()
    data.setup()
    return data


def by_image(batches: Any) -> dict[int, torch.Tensor]:
    return {
        place: image
        for batch in batches
        for place, image in zip(batch.where.places.tolist(), batch.images, strict=True)
    }


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("side", "resize"), [(16, 18), (15, 18), (17, 17), (24, 40)])
def test_the_centre_is_that_of_torchvision(size: tuple[int, int], side: int, resize: int) -> None:
    functional = pytest.importorskip("torchvision.transforms.functional")
    image = smooth(*size, np.random.default_rng(1))
    theirs = functional.center_crop(functional.resize(image, resize), side)
    assert np.array_equal(np.asarray(centre_crop(image, side, resize)), np.asarray(theirs))


@pytest.mark.parametrize(("width", "height"), [(500, 375), (300, 120), (64, 64)])
def test_random_parts_are_distributed_as_those_of_torchvision(width: int, height: int) -> None:
    # Kolmogorov-Smirnov tests of 4,000 parts each; a p-value below 1e-4 has chance 1e-4.
    stats = pytest.importorskip("scipy.stats")
    transforms = pytest.importorskip("torchvision.transforms")
    image, count = Image.new("RGB", (width, height)), 4000
    words = random_words(0, make_keys(torch.arange(count), epoch=0), 41).T.tolist()
    boxes = np.array([random_box(width, height, one) for one in words])
    torch.manual_seed(0)
    draw = transforms.RandomResizedCrop.get_params
    theirs = np.array([draw(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(count)])
    left, top, right, bottom = boxes.T
    assert boxes.min() >= 0
    assert right.max() <= width
    assert bottom.max() <= height
    ours = {"area": (right - left) * (bottom - top), "ratio": (right - left) / (bottom - top)}
    y, x, h, w = theirs.T
    for name, other in {"area": h * w, "ratio": w / h}.items():
        assert stats.ks_2samp(ours[name], other).pvalue > 1e-4, name
    for one, other in ((left, x), (top, y), (right, x + w), (bottom, y + h)):
        assert stats.ks_2samp(one, other).pvalue > 1e-4


@pytest.mark.parametrize(("width", "height"), [(1000, 10), (10, 1000), (40, 30), (7, 7)])
def test_where_no_draw_fits_the_middle_is_taken_as_in_torchvision(width: int, height: int) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    image = Image.new("RGB", (width, height))
    # These words ask for the whole area with sides that do not fit, in all ten draws; a scale above
    # 1 makes torchvision draw in vain, too.
    none_fits = [2**32 - 1, 0 if width > height else 2**32 - 1, 0, 0] * 10
    i, j, h, w = transforms.RandomResizedCrop.get_params(image, [9.0, 9.0], [3 / 4, 4 / 3])
    assert random_box(width, height, none_fits) == (j, i, j + w, i + h)


def test_a_training_image_is_its_part_scaled_as_torchvision_does(folder: Path) -> None:
    functional = pytest.importorskip("torchvision.transforms.functional")
    data = ready(folder, seed=5)
    keys = make_keys(torch.arange(15), epoch=2)
    batch = data.train_set.__getitems__(keys)
    words = random_words(5, keys, 41).T.tolist()
    mirrored = 0
    for i, draws in enumerate(words):
        image = Image.open(data.train_set.file(i)).convert("RGB")
        left, top, right, bottom = random_box(*image.size, draws)
        part = functional.resized_crop(image, top, left, bottom - top, right - left, [16, 16])
        if draws[40] >> 31:
            part, mirrored = functional.hflip(part), mirrored + 1
        assert np.array_equal(batch.images[i].permute(1, 2, 0).numpy(), np.asarray(part))
    assert 0 < mirrored < 15


def test_what_the_datamodule_says_of_the_folder(folder: Path) -> None:
    data = ready(folder)
    assert (data.outputs, data.in_channels, data.image_size) == (3, 3, 16)
    assert (data.image_shape, data.in_features) == ((3, 16, 16), 768)
    assert data.class_counts == {"ant": 5, "bee": 5, "cow": 5}
    for split, one in (("train", data.train_set), ("val", data.val_set)):
        names = [one.file(i).parent.name for i in range(15)]
        assert [data.class_names[label] for label in one.labels.tolist()] == names
        assert {one.file(i).parent.parent.name for i in range(15)} == {split}
    small = ready(folder, n_train=6, n_val=4)
    assert (len(small.train_set), len(small.val_set)) == (6, 4)
    assert [small.train_set.file(i) for i in range(6)] == [data.train_set.file(i) for i in range(6)]
    before = data.train_set
    data.setup("validate")
    assert data.train_set is before


def test_inputs_are_standardised_as_torchvision_does(folder: Path) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    data = ready(folder)
    chain = transforms.Compose(
        [
            transforms.Resize(18),
            transforms.CenterCrop(16),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    for batch in data.val_dataloader():
        x, _ = data.transform(batch)
        files = [data.val_set.file(i) for i in batch.where.places.tolist()]
        theirs = torch.stack([chain(Image.open(file).convert("RGB")) for file in files])
        torch.testing.assert_close(x, theirs, rtol=0, atol=2e-6)  # single precision


def test_epochs_differ_and_plain_indices_give_centres(folder: Path) -> None:
    data, plain = ready(folder), ready(folder, augment=False)
    index = torch.arange(15)
    first, again, second = (
        data.train_set.__getitems__(make_keys(index, epoch)).images for epoch in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    centres = data.train_set.__getitems__(index)
    assert centres.keys is None
    drawn = plain.train_set.__getitems__(make_keys(index, 0))
    assert torch.equal(drawn.images, centres.images)
    assert torch.equal(data.train_set[3].images, centres.images[3])


def test_neither_workers_nor_ranks_nor_batches_change_an_image(folder: Path) -> None:
    whole = by_image(ready(folder).train_dataloader())
    assert len(whole) == 15
    others = [
        by_image(ready(folder, num_workers=2).train_dataloader()),
        by_image(ready(folder, batch_size=7).train_dataloader()),
        by_image(ready(folder)._shuffled_loader(2, 0, 2))
        | by_image(ready(folder)._shuffled_loader(2, 1, 2)),
    ]
    for other in others:
        assert other.keys() == whole.keys()
        assert all(torch.equal(other[i], image) for i, image in whole.items())


@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_within_an_epoch_goes_on_with_the_images_left(folder: Path, workers: int) -> None:
    def loader() -> Any:
        one = ready(folder, num_workers=workers).train_dataloader()
        one.set_epoch(2)
        return one

    expected = list(loader())
    stopped, resumed = loader(), loader()
    list(islice(stopped, 2))
    stopped.batch_done()
    resumed.load_state_dict(stopped.state_dict())
    rest = list(resumed)
    assert len(rest) == 2
    for batch, other in zip(rest, expected[2:], strict=True):
        assert torch.equal(batch.images, other.images)
        assert torch.equal(batch.labels, other.labels)


def test_loading_leaves_the_global_random_states_alone(folder: Path) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    data = ready(folder, num_workers=1)
    for one in (data.train_dataloader(), data.val_dataloader()):
        list(one)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


class Recorder(pl.LightningModule):
    """A linear net that keeps what it was fed."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.seen = torch.nn.Linear(768, 3), []

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        x, y = batch
        self.seen.append(x)
        return torch.nn.functional.cross_entropy(self.net(x.flatten(1)), y)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        assert isinstance(batch, IndexedBatch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
def test_a_fit_gets_the_loaders_images_and_a_probe_their_centres(
    folder: Path, precision: Any
) -> None:
    module, data = Recorder(), ready(folder)
    trainer = pl.Trainer(max_epochs=2, precision=precision, **QUIET)
    trainer.fit(module, datamodule=data)
    dtype = {"32-true": torch.float32, "64-true": torch.float64}[precision]
    loader, expected = ready(folder).train_dataloader(), []
    for epoch in range(2):
        loader.set_epoch(epoch)
        expected += [data.transform(batch, dtype)[0] for batch in loader]
    assert len(module.seen) == 8
    assert all(map(torch.equal, module.seen, expected))
    (x, _), *_ = Probe("train", size=15).batches(trainer)
    assert torch.equal(x, data.transform(data.train_set.__getitems__(range(15)), dtype)[0])


@pytest.mark.parametrize("at", [1, 6])
def test_a_run_with_workers_that_is_resumed_sees_the_images_left(
    folder: Path, tmp_path: Path, at: int
) -> None:
    class SaveAndStop(pl.Callback):
        def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == at:
                trainer.save_checkpoint(tmp_path / "stopped.ckpt")
                raise KeyboardInterrupt

    def fit(module: Recorder, *callbacks: pl.Callback, ckpt_path: Path | None = None) -> None:
        trainer = pl.Trainer(max_epochs=2, callbacks=list(callbacks), **QUIET)
        data = ready(folder, num_workers=2)
        trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=True)

    torch.manual_seed(0)
    whole, first, second = Recorder(), Recorder(), Recorder()
    first.load_state_dict(whole.state_dict())
    fit(whole)
    with pytest.raises(SystemExit):
        fit(first, SaveAndStop())
    fit(second, ckpt_path=tmp_path / "stopped.ckpt")
    assert len(first.seen) == at
    assert len(first.seen + second.seen) == len(whole.seen) == 8
    assert all(map(torch.equal, first.seen + second.seen, whole.seen))
    assert torch.equal(second.net.weight, whole.net.weight)


def test_resnet50_trains_on_a_folder_from_the_command_line(folder: Path, train: Any) -> None:
    arguments = (
        "data=imagenet", f"data.path={folder}", "data.size=33", "data.resize=36",
        "data.num_workers=2", "model=resnet50", "model.width=0.0625",
        "model.running_averages=false", "loss=normalized_softmax", "schedule=imagenet",
        "optimizer=momentum", "centering=none", "callbacks=health", "batch_size=5", "max_epochs=3",
        "l2=1e-4", "lr=0.1",
    )  # fmt: skip
    train(*arguments)
    (run,) = Path("runs/default").iterdir()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["steps"] == 9
    assert 0 <= summary["metrics"]["val/acc"] <= 1


BAD: list[tuple[dict[str, Any], str]] = [
    ({"size": 0}, "size to be a whole number of at least 1, got 0"),
    ({"resize": 15}, "resize to be a whole number of at least 16, got 15"),
    ({"batch_size": "full"}, "batch_size to be a whole number of at least 1, got 'full'"),
    ({"n_train": 0}, "n_train to be a whole number of at least 1 or null"),
    ({"n_train": 16}, "expected at least 16 training images, the set has 15"),
    ({"num_workers": -1}, "num_workers to be a whole number of at least 0"),
    ({"std": 0.0}, "expected std above 0"),
    ({"mean": [0.5, 0.5]}, "expected mean to be one number or 3, one a channel"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_arguments_get_one_line(folder: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        ready(folder, **arguments)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_and_a_file_that_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a folder with train/ and test/"):
        ready(tmp_path / "none")
    for split in ("train", "test"):
        for name in ("ant", "bee"):
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "0.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"expected an image, got .*0\.png, which can't be read"):
        ready(tmp_path).val_set.__getitems__([0])
