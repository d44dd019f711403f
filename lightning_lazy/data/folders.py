"""Images in class folders: `train/<class>/<file>` and `test/<class>/<file>` (or `val/`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_lazy.data.sources import Source, need
from lightning_lazy.errors import InputError

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".webp"})
_GREY_MODES = ("1", "L", "LA")


class ClassFolders(NamedTuple):
    """The files of a folder's two splits.

    Attributes:
        names: The classes: the folders of `train/` in alphabetical order.
        train_files: Training images, by class and name.
        train_labels: Their classes, int64.
        test_files: Images of `test/` (or `val/`), by class and name.
        test_labels: Their classes, int64.
    """

    names: tuple[str, ...]
    train_files: list[Path]
    train_labels: Tensor
    test_files: list[Path]
    test_labels: Tensor


def scan_folders(path: str) -> ClassFolders:
    """List the images of a folder; none is opened.

    Args:
        path: A folder with `train/` and `test/` (or `val/`), each with one folder a class.

    Returns:
        Classes, files and labels.

    Raises:
        InputError: Where a folder is missing or has no images, or the splits differ in classes.
    """
    train = Path(path) / "train"
    test = next((d for d in (Path(path) / "test", Path(path) / "val") if d.is_dir()), None)
    if not train.is_dir() or test is None:
        raise InputError(
            f"expected a folder with train/ and test/ (or val/) in it, got {path!r}: "
            "set path to one that holds <split>/<class>/<image>"
        )
    names, train_files, train_labels = _scan(train)
    test_names, test_files, test_labels = _scan(test)
    if names != test_names:
        raise InputError(
            f"expected the same class folders in {train} and {test}, "
            f"got a difference in {', '.join(sorted(set(names) ^ set(test_names)))}"
        )
    return ClassFolders(tuple(names), train_files, train_labels, test_files, test_labels)


def folder_source(path: str) -> Source:
    """The labels of a folder's images, all of one size; no file is opened before `fetch`.

    Args:
        path: As for `scan_folders`.

    Returns:
        The data set.

    Raises:
        InputError: As `scan_folders` does.
    """
    names, train_files, train_labels, test_files, test_labels = scan_folders(path)

    def fetch(train_index: Tensor, test_index: Tensor) -> tuple[Tensor, Tensor]:
        chosen = [train_files[i] for i in train_index.tolist()]
        chosen += [test_files[i] for i in test_index.tolist()]
        images = read_images(chosen)
        return images[: len(train_index)], images[len(train_index) :]

    return Source(names, train_labels, test_labels, fetch)


def read_images(files: Sequence[Path]) -> Tensor:
    """Decode images of one size.

    Args:
        files: At least one file. Where all are grey the result has one channel, else three.

    Returns:
        uint8 tensor of shape (n, channels, height, width).

    Raises:
        InputError: Where a file can't be decoded to 8 bits a channel, or two sizes differ.
    """
    pixels = []
    for file in files:
        pixels.append(np.asarray(open_image(file)))
        size, first = pixels[-1].shape[:2], pixels[0].shape[:2]
        if size != first:
            raise InputError(
                f"expected images of one size, got {files[0]} of {first[1]}x{first[0]} and "
                f"{file} of {size[1]}x{size[0]}: resize them"
            )
    channels = 3 if any(image.ndim == 3 for image in pixels) else 1
    images = np.empty((len(pixels), channels, *pixels[0].shape[:2]), dtype=np.uint8)
    for place, image in zip(images, pixels, strict=True):
        place[:] = image.transpose(2, 0, 1) if image.ndim == 3 else image
    return torch.from_numpy(images)


def open_image(file: Path) -> Any:
    """Decode an image file.

    Args:
        file: The file.

    Returns:
        The image of PIL: of mode L where it is grey, else RGB.

    Raises:
        InputError: Where it can't be decoded to 8 bits a channel.
    """
    try:
        with need("PIL.Image").open(file) as image:
            if image.mode[0] in "IF":
                raise InputError(f"expected 8 bits a channel, got mode {image.mode} in {file}")
            return image.convert("L" if image.mode in _GREY_MODES else "RGB")
    except OSError as error:
        raise InputError(f"expected an image, got {file}, which can't be read: {error}") from error


def _scan(split: Path) -> tuple[list[str], list[Path], Tensor]:
    """Class names, files and labels of a split, all in alphabetical order."""
    names = sorted(d.name for d in split.iterdir() if d.is_dir() and not d.name.startswith("."))
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        found = sorted(
            file for file in (split / name).iterdir() if file.suffix.lower() in IMAGE_SUFFIXES
        )
        if not found:
            raise InputError(
                f"expected images in {split / name}, got none: add some, or remove the folder of "
                "this class from every split"
            )
        files += found
        labels += [label] * len(found)
    if not files:
        raise InputError(f"expected images in {split}/<class>/, got none: check path")
    return names, files, torch.tensor(labels)
