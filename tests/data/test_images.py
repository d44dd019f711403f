"""Oracles: counting labels, the sets' own bytes, scikit-learn's digits."""

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_lazy.data import FullBatchLoader, ImageDataModule, ResumableLoader
from lightning_lazy.errors import InputError

pytest.importorskip("sklearn")


def ready(**kwargs: Any) -> ImageDataModule:
    data = ImageDataModule(**kwargs)
    data.prepare_data()
    data.setup()
    return data


def write_folder(root: Path, side: int = 6, per_class: int = 6) -> str:
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("ant", "bee"):
            (root / split / name).mkdir(parents=True)
            for number in range(per_class):
                pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
                image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return str(root)


def test_digits_by_default() -> None:
    data = ready()
    assert (len(data.train_set), len(data.val_set)) == (1437, 360)
    assert (data.num_classes, data.outputs, data.in_features) == (10, 10, 64)
    assert data.image_shape == (1, 8, 8)
    assert data.class_names == tuple("0123456789")
    loader = data.train_dataloader()
    assert isinstance(loader, ResumableLoader)
    assert len(loader) == 12
    x, y = data.transform(next(iter(loader)))
    assert (x.shape, x.dtype) == ((128, 64), torch.get_default_dtype())
    assert (y.shape, y.dtype) == ((128,), torch.int64)


def test_digits_are_standardised_with_the_moments_of_the_drawn_images() -> None:
    data = ready(n_train=300)
    raw = data.train_set.__getitems__(range(300))
    x, _ = data.transform(raw, torch.float64)
    # Exact in theory; a sum of 19200 terms of order one.
    assert float(x.mean()) == pytest.approx(0, abs=1e-12)
    assert float(x.std(unbiased=False)) == pytest.approx(1, abs=1e-12)


def test_mean_and_std_can_be_given() -> None:
    raw = ready().val_set.__getitems__([3])
    x, _ = ready(mean=0.25, std=[0.5]).transform(raw, torch.float64)
    expected = (raw.images.double().flatten(1) / 16 - 0.25) / 0.5
    torch.testing.assert_close(x, expected, rtol=1e-15, atol=1e-15)


def test_setup_runs_once_and_repeats_itself() -> None:
    data = ready(n_train=50, subset_seed=4)
    images = data.train_set
    data.setup("validate")
    assert data.train_set is images
    again = ready(n_train=50, subset_seed=4)
    assert torch.equal(again.train_set.images, images.images)
    other = ready(n_train=50, subset_seed=5)
    assert not torch.equal(other.train_set.images, images.images)


def test_balanced_counts(caplog: pytest.LogCaptureFixture) -> None:
    for package in ("pytorch_lightning", "lightning.pytorch"):  # the one imported last logs
        caplog.set_level(logging.INFO, logger=package)
    data = ready(n_train=100, n_val=50, balanced=True)
    assert data.class_counts == {str(digit): 10 for digit in range(10)}
    assert torch.bincount(data.train_set.labels).tolist() == [10] * 10
    assert torch.bincount(data.val_set.labels).tolist() == [5] * 10
    reports = [r.message for r in caplog.records if "training images" in r.message]
    assert len(reports) == 1
    assert reports[0].startswith("digits: 100 training images (0: 10, 1: 10")
    assert reports[0].endswith("50 validation images")


def test_counts_are_those_of_the_labels() -> None:
    data = ready(n_train=77, classes=[4, "7", 1])
    assert data.class_names == ("4", "7", "1")
    counts = torch.bincount(data.train_set.labels, minlength=3).tolist()
    assert list(data.class_counts.values()) == counts
    assert sum(counts) == 77
    assert data.outputs == data.num_classes == 3


def test_balance_leaves_a_whole_validation_set_whole() -> None:
    assert len(ready(n_train=100, balanced=True).val_set) == 360


@pytest.mark.parametrize("binary", [True, [[4], [7]]])
def test_two_classes(binary: Any) -> None:
    data = ready(classes=[4, 7] if binary is True else None, binary=binary)
    assert (data.num_classes, data.outputs) == (2, 1)
    labels = data.train_set.labels
    assert labels.dtype == torch.int64
    assert sorted(labels.unique().tolist()) == [-1, 1]
    plain = ready(classes=[4, 7])
    assert torch.equal(labels, 2 * plain.train_set.labels - 1)
    assert data.class_counts == plain.class_counts


def test_even_and_odd() -> None:
    data = ready(binary=[[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]])
    digits = ready()
    assert torch.equal(data.train_set.labels, 2 * (digits.train_set.labels % 2) - 1)
    assert data.class_names == ("0+2+4+6+8", "1+3+5+7+9")
    assert sum(data.class_counts.values()) == 1437


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({"resolution": 4}, (5, 16)),
        ({"resolution": 4, "flatten": False}, (5, 1, 4, 4)),
        ({"resolution": 3, "flatten": False}, (5, 1, 3, 3)),
        ({"flatten": False}, (5, 1, 8, 8)),
    ],
)
def test_shapes(arguments: dict[str, Any], shape: tuple[int, ...]) -> None:
    data = ready(**arguments)
    x, _ = data.transform(data.val_set.__getitems__(range(5)))
    assert x.shape == shape
    assert data.in_features == x[0].numel()
    assert data.image_shape == (1, *([arguments.get("resolution", 8)] * 2))


def test_dtype_follows_the_default_dtype_without_a_trainer() -> None:
    data = ready()
    torch.set_default_dtype(torch.float64)
    try:
        x, _ = data.transform(data.val_set.__getitems__([0]))
    finally:
        torch.set_default_dtype(torch.float32)
    assert x.dtype == torch.float64


def test_augmentation_touches_training_batches_only() -> None:
    data = ready(augment=True, padding=2, flatten=False)
    plain = ready(flatten=False)
    batch = next(iter(data.train_dataloader()))
    assert not torch.equal(data.transform(batch)[0], plain.transform(batch)[0])
    for batch in data.val_dataloader():
        assert torch.equal(data.transform(batch)[0], plain.transform(batch)[0])


def test_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    data = ready(augment=True)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        for batch in loader:
            data.on_after_batch_transfer(batch, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_validation_serves_every_image_once_in_order() -> None:
    data = ready(eval_batch_size=100)
    batches = list(data.val_dataloader())
    assert [len(batch.labels) for batch in batches] == [100, 100, 100, 60]
    assert torch.equal(torch.cat([batch.images for batch in batches]), data.val_set.images)
    assert len(list(data.test_dataloader())) == 4


def test_batches_of_others_pass_untouched() -> None:
    data = ready()
    for foreign in ((torch.zeros(2, 3), torch.zeros(2)), {"x": torch.ones(1)}, [1, 2]):
        assert data.on_after_batch_transfer(foreign, 0) is foreign
    batch = next(iter(ready(batch_size="full").train_dataloader()))
    assert data.transfer_batch_to_device(batch, torch.device("meta"), 0) is batch
    assert data.on_after_batch_transfer(batch, 0) is batch


def test_full_batch_without_a_trainer() -> None:
    data = ready(batch_size="full", n_train=60, normalize="sphere")
    loader = data.train_dataloader()
    assert isinstance(loader, FullBatchLoader)
    ((x, y),) = list(loader)
    assert x.shape == (60, 64)
    torch.testing.assert_close(x.square().sum(1), torch.full((60,), 64.0))
    assert torch.equal(y, data.train_set.labels)


def test_folder(tmp_path: Path) -> None:
    data = ready(dataset="folder", path=write_folder(tmp_path), n_train=4, balanced=True)
    assert data.class_counts == {"ant": 2, "bee": 2}
    assert (data.image_shape, data.in_features) == ((3, 6, 6), 108)
    x, _ = data.transform(data.train_set.__getitems__(range(4)), torch.float64)
    channels = x.view(4, 3, -1).transpose(0, 1).flatten(1)
    torch.testing.assert_close(channels.mean(1), torch.zeros(3).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(channels.std(1, unbiased=False), torch.ones(3).double())


def test_channels_that_moments_do_not_fit(tmp_path: Path) -> None:
    data = ImageDataModule("folder", path=write_folder(tmp_path), mean=[0, 0], std=[1, 1])
    with pytest.raises(InputError, match=r"expected mean to be one number or 3, one a channel"):
        data.setup()


BAD_ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"dataset": "svhn"}, "dataset must be one of digits, mnist, .*, got 'svhn'"),
    ({"normalize": "zca"}, "normalize must be one of standardize, sphere, unit"),
    ({"dataset": "folder"}, "expected path with dataset=folder, got none"),
    ({"path": "x"}, "expected no path with dataset=digits"),
    ({"batch_size": 0}, "batch_size to be a whole number of at least 1 or full, got 0"),
    ({"batch_size": "all"}, "batch_size to be a whole number of at least 1 or full, got 'all'"),
    ({"batch_size": True}, "batch_size to be a whole number"),
    ({"eval_batch_size": -1}, "eval_batch_size to be a whole number of at least 1, got -1"),
    ({"n_train": 0}, "n_train to be a whole number of at least 1 or null, got 0"),
    ({"n_val": 1.5}, "n_val to be a whole number of at least 1 or null, got 1.5"),
    ({"resolution": 0}, "resolution to be a whole number of at least 1 or null, got 0"),
    ({"padding": -1}, "padding to be a whole number of at least 0, got -1"),
    ({"num_workers": -1}, "num_workers to be a whole number of at least 0"),
    ({"mean": 0.5}, "expected mean and std together"),
    ({"mean": 0.5, "std": 0.0}, "expected std above 0, got 0.0"),
    ({"mean": [], "std": []}, "expected std to be one number or more"),
    ({"mean": 0, "std": 1, "normalize": "unit"}, "expected no mean and std with normalize=unit"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS)
def test_bad_arguments_are_refused_before_any_data(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        ImageDataModule(**arguments)
    assert "\n" not in str(caught.value)


BAD_CHOICES: list[tuple[dict[str, Any], str]] = [
    ({"n_train": 1438}, "expected at least 1438 training images, the set has 1437"),
    ({"n_val": 361}, "expected at least 361 validation images, the set has 360"),
    ({"classes": [3, 12]}, "expected classes among 0, 1, .*, got 12"),
    ({"n_train": 15, "balanced": True}, "balanced training images that 10 classes divide, got 15"),
    ({"n_train": 1430, "balanced": True}, "expected 143 training images of each class"),
    ({"n_val": 7, "balanced": True}, "balanced validation images that 10 classes divide, got 7"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_CHOICES)
def test_choices_that_the_data_do_not_allow(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ready(**arguments)


def test_a_batch_larger_than_the_set() -> None:
    data = ready(n_train=100, batch_size=128)
    assert [len(batch.labels) for batch in data.train_dataloader()] == [100]
    data = ready(n_train=100, batch_size=128, drop_last=True)
    with pytest.raises(InputError, match="at least 128 training images for one batch .* got 100"):
        data.train_dataloader()


def test_use_before_setup() -> None:
    raw = ready().val_set.__getitems__([0])
    with pytest.raises(InputError, match=r"expected setup\(\) before the data are used"):
        ImageDataModule().transform(raw)


def test_missing_data_without_download(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    data = ImageDataModule("mnist", root=str(tmp_path), download=False)
    data.prepare_data()
    with pytest.raises(InputError, match=f"expected mnist under '{tmp_path}', got none"):
        data.setup()


MNIST = Path(os.environ.get("LIGHTNING_LAZY_DATA", "data")) / "MNIST" / "raw"


@pytest.mark.skipif(not MNIST.is_dir(), reason="no MNIST under the data root")
def test_mnist_on_the_sphere_at_8x8() -> None:
    data = ready(dataset="mnist", n_train=500, resolution=8, normalize="sphere", balanced=True)
    assert (data.in_features, data.image_shape) == (64, (1, 8, 8))
    raw = data.train_set.__getitems__(range(500))
    x, _ = data.transform(raw, torch.float64)
    padded = np.pad(raw.images[:, 0].numpy().astype(float), ((0, 0), (2, 2), (2, 2)))
    pooled = padded.reshape(500, 8, 4, 8, 4).mean((2, 4)).reshape(500, 64)
    expected = pooled * np.sqrt(64 / (pooled**2).sum(1, keepdims=True))
    np.testing.assert_allclose(x.numpy(), expected, rtol=1e-13)
