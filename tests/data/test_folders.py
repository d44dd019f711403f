"""Oracle: images written by the test; numpy's view of PIL's decoding for compressed ones."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_lazy.data.folders import folder_source, read_images
from lightning_lazy.errors import InputError

Image = pytest.importorskip("PIL.Image")


def write(path: Path, value: int, size: tuple[int, int] = (5, 4), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = (value, value + 1, value + 2) if mode == "RGB" else value
    Image.new(mode, size, colour).save(path)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Classes ant and bee: three training images of each, one test image."""
    for label, name in enumerate(("ant", "bee")):
        for number in range(3):
            write(tmp_path / "train" / name / f"{number}.png", 100 * label + 10 * number)
        write(tmp_path / "test" / name / "0.png", 100 * label + 50)
    (tmp_path / "train" / "ant" / "notes.txt").write_text("not an image")
    return tmp_path


def test_files_are_read_by_index(tree: Path) -> None:
    source = folder_source(str(tree))
    assert source.class_names == ("ant", "bee")
    assert source.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert source.test_labels.tolist() == [0, 1]
    train, test = source.fetch(torch.tensor([5, 0]), torch.tensor([1]))
    assert train.shape == (2, 3, 4, 5)
    assert train[:, :, 0, 0].tolist() == [[120, 121, 122], [0, 1, 2]]
    assert test[0, :, 3, 4].tolist() == [150, 151, 152]


def test_only_chosen_files_are_opened(tree: Path) -> None:
    (tree / "train" / "ant" / "1.png").write_bytes(b"broken")
    write(tree / "train" / "bee" / "0.png", 0, size=(9, 9))
    train, _ = folder_source(str(tree)).fetch(torch.tensor([0, 2, 5]), torch.tensor([0]))
    assert len(train) == 3


def test_val_serves_where_there_is_no_test(tree: Path) -> None:
    (tree / "test").rename(tree / "val")
    assert folder_source(str(tree)).test_labels.tolist() == [0, 1]


def test_grey_images_have_one_channel_unless_mixed(tmp_path: Path) -> None:
    grey = [write(tmp_path / f"{i}.png", 7 * i, mode="L") for i in range(3)]
    assert read_images(grey)[:, :, 0, 0].tolist() == [[0], [7], [14]]
    mixed = read_images([grey[1], write(tmp_path / "colour.png", 1)])
    assert mixed[:, :, 0, 0].tolist() == [[7, 7, 7], [1, 2, 3]]


def test_jpegs_decode_as_pil_does(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    file = tmp_path / "noise.JPEG"
    Image.fromarray(noise).save(file)
    expected = np.asarray(Image.open(file)).transpose(2, 0, 1)
    assert np.array_equal(read_images([file])[0].numpy(), expected)


def test_images_of_two_sizes_are_named(tree: Path) -> None:
    write(tree / "test" / "ant" / "0.png", 0, size=(7, 4))
    with pytest.raises(InputError, match=r"one size, got .*2\.png of 5x4 and .*0\.png of 7x4"):
        folder_source(str(tree)).fetch(torch.tensor([2]), torch.tensor([0]))


def test_missing_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a folder with train/ and test/.*no_such"):
        folder_source(str(tmp_path / "no_such"))
    write(tmp_path / "train" / "ant" / "0.png", 0)
    with pytest.raises(InputError, match="expected a folder with train/ and test/"):
        folder_source(str(tmp_path))


def test_a_folder_without_images_is_refused(tree: Path) -> None:
    for file in (tree / "train").rglob("*.png"):
        file.unlink()
    with pytest.raises(InputError, match=r"expected images in .*train/ant, got none"):
        folder_source(str(tree))


def test_splits_must_have_the_same_classes(tree: Path) -> None:
    (tree / "test" / "bee").rename(tree / "test" / "cow")
    with pytest.raises(InputError, match=r"same class folders .* got a difference in bee, cow"):
        folder_source(str(tree))


def test_unreadable_and_deep_images_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"expected an image, got .*broken\.png"):
        read_images([broken])
    deep = write(tmp_path / "deep.png", 1000, mode="I;16")
    with pytest.raises(InputError, match=r"expected 8 bits a channel, got mode I;16 in .*deep"):
        read_images([deep])


CIFAR = Path(os.environ.get("LIGHTNING_LAZY_DATA", "data")) / "cifar10_jpeg"


@pytest.mark.skipif(not CIFAR.is_dir(), reason="no cifar10_jpeg under the data root")
def test_real_jpegs() -> None:
    source = folder_source(str(CIFAR))
    assert len(source.train_labels) == 50000
    assert torch.bincount(source.test_labels).tolist() == [1000] * 10
    train, test = source.fetch(torch.arange(0, 50000, 1000), torch.arange(10))
    assert (train.shape, test.shape) == ((50, 3, 32, 32), (10, 3, 32, 32))
    # CIFAR-10's published mean 0.4733 over all channels; 50 images scatter by some 0.02.
    assert float(train.double().mean() / 255) == pytest.approx(0.4733, abs=0.08)
