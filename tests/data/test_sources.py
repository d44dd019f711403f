"""Oracles: idx and pickle files written by hand; scikit-learn's own arrays; published counts."""

import os
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch

from lightning_lazy.data import sources
from lightning_lazy.data.sources import (
    data_root,
    digits_source,
    download_published,
    need,
    published_source,
)
from lightning_lazy.errors import InputError

pytest.importorskip("torchvision")


def write_idx(path: Path, values: np.ndarray) -> None:
    header = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(header + values.astype(np.uint8).tobytes())


def write_mnist(root: Path, folder: str) -> tuple[np.ndarray, np.ndarray]:
    """Ten training and four test images whose pixels all equal 10·class + split."""
    raw = root / folder / "raw"
    raw.mkdir(parents=True)
    labels = {"train": np.arange(10), "t10k": np.array([3, 1, 4, 1])}
    for split, values in labels.items():
        images = np.broadcast_to(
            (10 * values + (split == "t10k"))[:, None, None], (*values.shape, 28, 28)
        )
        write_idx(raw / f"{split}-images-idx3-ubyte", images)
        write_idx(raw / f"{split}-labels-idx1-ubyte", values)
    return labels["train"], labels["t10k"]


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise URLError("no\nnetwork")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", refuse)
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", refuse)


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")]
)
def test_idx_files_are_read(tmp_path: Path, name: str, folder: str) -> None:
    train, test = write_mnist(tmp_path, folder)
    source = published_source(name, str(tmp_path))
    assert source.train_labels.tolist() == train.tolist()
    assert source.test_labels.tolist() == test.tolist()
    assert source.train_labels.dtype == torch.int64
    images, held_out = source.fetch(torch.tensor([7, 2]), torch.tensor([0]))
    assert images.shape == (2, 1, 28, 28)
    assert images.dtype == torch.uint8
    assert images[:, 0, 5, 5].tolist() == [70, 20]
    assert held_out.unique().tolist() == [31]
    assert len(source.class_names) == 10
    assert source.max_value == 255


def test_cifar_pickles_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar = pytest.importorskip("torchvision.datasets.cifar").CIFAR10
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for number, name in enumerate(names):
        # A row of the original files: 1024 red values, then green, then blue.
        row = np.repeat(np.array([number, 100 + number, 200 + number], dtype=np.uint8), 1024)
        (folder / name).write_bytes(pickle.dumps({"data": row[None], "labels": [number]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["x"] * 10}))
    monkeypatch.setattr(cifar, "_check_integrity", lambda self: True)
    monkeypatch.setattr(cifar, "meta", {**cifar.meta, "md5": None})
    source = published_source("cifar10", str(tmp_path))
    images, _ = source.fetch(torch.tensor([4, 1]), torch.tensor([0]))
    assert images.shape == (2, 3, 32, 32)
    assert images[0, :, 9, 9].tolist() == [4, 104, 204]
    assert images.is_contiguous()
    assert source.train_labels.tolist() == [0, 1, 2, 3, 4]
    assert source.class_names[3] == "cat"


def test_cifar100_takes_fine_labels_and_their_names_from_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cifar = pytest.importorskip("torchvision.datasets.cifar").CIFAR100
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name, label in (("train", 7), ("test", 99)):
        data = np.full((2, 3072), label, dtype=np.uint8)
        content = {"data": data, "fine_labels": [label, 0], "coarse_labels": [1, 1]}
        (folder / name).write_bytes(pickle.dumps(content))
    names = [f"kind {number}" for number in range(100)]
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": names}))
    monkeypatch.setattr(cifar, "_check_integrity", lambda self: True)
    monkeypatch.setattr(cifar, "meta", {**cifar.meta, "md5": None})
    source = published_source("cifar100", str(tmp_path))
    assert source.train_labels.tolist() == [7, 0]
    assert source.test_labels.tolist() == [99, 0]
    assert source.class_names[99] == "kind 99"


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100"])
def test_missing_data_and_no_network_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    offline(monkeypatch)
    message = (
        f"expected {name} under '{tmp_path}', got none .*: put .* there, set LIGHTNING_LAZY_DATA"
    )
    with pytest.raises(InputError, match=message) as caught:
        download_published(name, str(tmp_path))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=message):
        published_source(name, str(tmp_path))


def test_a_root_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="expected mnist under .*, got none"):
        download_published("mnist", str(tmp_path / "file"))


def test_nothing_is_downloaded_for_data_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline(monkeypatch)
    write_mnist(tmp_path, "MNIST")
    download_published("mnist", str(tmp_path))
    download_published("digits", str(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()


def test_damaged_files_are_one_line(tmp_path: Path) -> None:
    write_mnist(tmp_path, "MNIST")
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(
        b"\0\0\x08\x03" + bytes(12)
    )
    with pytest.raises(InputError, match="expected mnist under"):
        published_source("mnist", str(tmp_path))


def test_root_defaults_to_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_LAZY_DATA", "/elsewhere")
    assert data_root(None) == "/elsewhere"
    assert data_root("here") == "here"
    monkeypatch.delenv("LIGHTNING_LAZY_DATA")
    assert data_root(None) == "data"


def test_digits_are_split_once_and_for_all() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    source = digits_source()
    train, test = source.fetch(torch.arange(1437), torch.arange(360))
    assert (train.shape, test.shape) == ((1437, 1, 8, 8), (360, 1, 8, 8))
    bunch = datasets.load_digits()
    ours = torch.cat([train, test]).flatten(1)
    labels = torch.cat([source.train_labels, source.test_labels])
    ours_rows = sorted(
        [*row, label] for row, label in zip(ours.tolist(), labels.tolist(), strict=True)
    )
    their_rows = sorted(
        [*map(int, row), int(label)] for row, label in zip(bunch.data, bunch.target, strict=True)
    )
    assert ours_rows == their_rows  # every image once, with its label
    assert int(ours.max()) == source.max_value == 16
    again = digits_source()
    assert torch.equal(again.train_labels, source.train_labels)
    # A random split: each class within 5 standard deviations (5.9 each) of a fifth in the test.
    assert torch.bincount(source.test_labels).sub(36).abs().max() < 30


def test_a_missing_package_is_one_line() -> None:
    with pytest.raises(InputError, match=r"expected the package of no_such.thing.*pip install"):
        need("no_such.thing")


def test_importing_the_package_needs_neither_torchvision_nor_sklearn() -> None:
    code = (
        "import sys, pytorch_lightning\n"  # which imports some of them where they are installed
        "for name in ('torchvision', 'sklearn', 'PIL'): sys.modules[name] = None\n"
        "import lightning_lazy.data\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(
    not (Path(os.environ.get("LIGHTNING_LAZY_DATA", "data")) / "MNIST" / "raw").is_dir(),
    reason="no MNIST under the data root",
)
def test_mnist_is_mnist() -> None:
    source = published_source("mnist", data_root(None))
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]  # LeCun's files
    assert torch.bincount(source.train_labels).tolist() == counts
    images, _ = source.fetch(torch.arange(60000), torch.arange(1))
    pixels = images.double() / 255
    assert source.mean == pytest.approx((float(pixels.mean()),), abs=5e-5)  # four digits given
    assert source.std == pytest.approx((float(pixels.std()),), abs=5e-5)


def test_published_names_match_torchvision() -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    assert list(sources._PUBLISHED["fashion_mnist"].class_names) == datasets.FashionMNIST.classes
