"""Folders of images that can't be learned from."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Refused = Callable[[str, str], None]
SPLITS = ("train", "test")


@pytest.fixture
def images(train: object) -> Path:
    """Two classes of two grey images of 8x8 pixels in each split, below the working directory."""
    for split in SPLITS:
        for number, name in enumerate(("cat", "dog")):
            folder = Path("images", split, name)
            folder.mkdir(parents=True)
            for index in range(2):
                save(folder / f"{index}.png", 100 * number + index)
    return Path("images")


def save(path: Path, value: int, size: tuple[int, int] = (8, 8), kind: str = "uint8") -> None:
    Image.fromarray(np.full(size, value, kind)).save(path)


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def remove(folder: Path) -> None:
    empty(folder)
    folder.rmdir()


def cut(path: Path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:count])


def file_instead(folder: Path) -> None:
    for inner in folder.iterdir():
        remove(inner)
    folder.rmdir()
    folder.write_text("nothing")


FOLDER = [
    (lambda at: None, "expected at least 5 training images, the set has 4"),
    (lambda at: remove(at / "test/dog"), "expected the same class folders in …, got … dog"),
    (
        lambda at: empty(at / "test/dog"),
        "expected images in …test/dog, got none: add some, or remove the folder of this class from "
        "every split",
    ),
    (lambda at: empty(at / "train/cat"), "expected images in …train/cat, got none: add some, or …"),
    (
        lambda at: [remove(at / "train" / name) for name in ("cat", "dog")],
        "expected images in …train/<class>/, got none: check path",
    ),
    (
        lambda at: [remove(at / split / "dog") for split in SPLITS],
        "expected at least two classes, got 1",
    ),
    (lambda at: file_instead(at / "train"), "expected a folder with train/ and test/ …"),
    (lambda at: (at / "test").rename(at / "exam"), "expected a folder with train/ and test/ …"),
    (
        lambda at: (at / "train/dog/0.png").write_text("no image"),
        "expected an image, got …0.png, which can't be read: …",
    ),
    (lambda at: cut(at / "train/dog/0.png", 0), "expected an image, got …0.png, which can't be …"),
    (lambda at: cut(at / "train/dog/0.png", 50), "expected an image, got …0.png, which can't be …"),
    (
        lambda at: save(at / "train/dog/0.png", 0, (9, 8)),
        "expected images of one size, got …dog/0.png of 8x9 and … of 8x8: resize them",
    ),
    (
        lambda at: save(at / "test/cat/1.png", 0, (16, 16)),
        "expected images of one size, got … of 16x16: resize them",
    ),
    (
        lambda at: save(at / "train/dog/0.png", 300, kind="uint16"),
        "expected 8 bits a channel, got mode I;16 in …0.png",
    ),
    (
        lambda at: [path.rename(path.with_suffix(".txt")) for path in (at / "test/dog").iterdir()],
        "expected images in …test/dog, got none: add some, or …",
    ),
]


@pytest.mark.parametrize(("spoil", "line"), FOLDER)
def test_a_folder_of_images_is_refused(
    refused: Refused, images: Path, spoil: Callable[[Path], object], line: str
) -> None:
    spoil(images)
    more = "data.n_train=5" if line.startswith("expected at least 5") else ""
    refused(f"data=folder data.path=images {more}", line)
