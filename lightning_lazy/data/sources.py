"""Where images come from: labels at hand, pixels fetched by index once the subset is known."""

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lightning_lazy.errors import InputError

DatasetName = Literal["digits", "mnist", "fashion_mnist", "cifar10", "cifar100", "folder"]
DATASETS: tuple[str, ...] = get_args(DatasetName)
ROOT_VARIABLE = "LIGHTNING_LAZY_DATA"


@dataclass(frozen=True)
class Source:
    """A data set with a training and a test split.

    Attributes:
        class_names: One name a label.
        train_labels: int64, shape (n_train,).
        test_labels: int64, shape (n_test,).
        fetch: From indices of the training and of the test split to their uint8 images, each of
            shape (n, channels, height, width) and both of one image size.
        max_value: Pixel value that counts as 1.
        mean: Published mean of each channel, of pixels in [0, 1]; None where there is none.
        std: Published standard deviation of each channel; None where there is none.
    """

    class_names: tuple[str, ...]
    train_labels: Tensor
    test_labels: Tensor
    fetch: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    max_value: int = 255
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


@dataclass(frozen=True)
class _Published:
    """What is known of a data set that torchvision downloads; no names: as its files say."""

    torchvision_class: str
    place: str
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


_DIGIT_NAMES = tuple("0123456789")
_FASHION_NAMES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_CIFAR_NAMES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
_PUBLISHED = {
    "mnist": _Published("MNIST", "MNIST/raw/*-ubyte", _DIGIT_NAMES, (0.1307,), (0.3081,)),
    "fashion_mnist": _Published(
        "FashionMNIST", "FashionMNIST/raw/*-ubyte", _FASHION_NAMES, (0.2860,), (0.3530,)
    ),
    "cifar10": _Published(
        "CIFAR10",
        "cifar-10-batches-py/",
        _CIFAR_NAMES,
        (0.4914, 0.4822, 0.4465),
        (0.2023, 0.1994, 0.2010),
    ),
    "cifar100": _Published(
        "CIFAR100",
        "cifar-100-python/",
        (),
        (0.5071, 0.4865, 0.4409),
        (0.2673, 0.2564, 0.2762),
    ),
}
_DIGITS_TRAIN = 1437  # four fifths of the 1797 images
_DIGITS_SPLIT_SEED = 1797


def data_root(root: str | None) -> str:
    """The folder of the data sets: `root`, else LIGHTNING_LAZY_DATA, else "data"."""
    return root if root is not None else os.environ.get(ROOT_VARIABLE) or "data"


def download_published(name: str, root: str) -> None:
    """Fetch a data set that is not under `root` yet; does nothing for sets without a download.

    Args:
        name: A name among `DATASETS`.
        root: Folder of the data sets.

    Raises:
        InputError: Where the data can't be had.
    """
    if name in _PUBLISHED:
        _torchvision_set(name, root, train=True, fetch=True)


def published_source(name: str, root: str) -> Source:
    """MNIST, Fashion-MNIST, CIFAR-10 or CIFAR-100 as torchvision stores them under `root`.

    Args:
        name: "mnist", "fashion_mnist", "cifar10" or "cifar100".
        root: Folder of the data sets.

    Returns:
        The data set with its published mean and standard deviation.

    Raises:
        InputError: Where the data are not under `root`.
    """
    known = _PUBLISHED[name]
    splits = [_torchvision_set(name, root, train=train, fetch=False) for train in (True, False)]
    train_labels, test_labels = (
        torch.as_tensor(split.targets, dtype=torch.int64) for split in splits
    )
    images = [torch.as_tensor(split.data) for split in splits]

    def fetch(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
        return _channels_first(images[0][train]), _channels_first(images[1][test])

    return Source(
        known.class_names or tuple(splits[0].classes),
        train_labels,
        test_labels,
        fetch,
        mean=known.mean,
        std=known.std,
    )


def digits_source() -> Source:
    """scikit-learn's 1797 8×8 digits, split at random, once and for all, into 1437 and 360."""
    digits = need("sklearn.datasets").load_digits()
    images = torch.as_tensor(digits.images).to(torch.uint8).unsqueeze(1)
    labels = torch.as_tensor(digits.target, dtype=torch.int64)
    generator = torch.Generator().manual_seed(_DIGITS_SPLIT_SEED)
    order = torch.randperm(len(labels), generator=generator)
    train_order, test_order = order[:_DIGITS_TRAIN], order[_DIGITS_TRAIN:]

    def fetch(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
        return images[train_order[train]], images[test_order[test]]

    return Source(_DIGIT_NAMES, labels[train_order], labels[test_order], fetch, max_value=16)


def need(module: str) -> ModuleType:
    """Import a module of the extra `train`.

    Args:
        module: Full name of the module.

    Returns:
        The module.

    Raises:
        InputError: Where its package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"expected the package of {module}, which this data set needs ({error}): "
            "pip install 'lightning-lazy[train]'"
        ) from error


def _channels_first(images: Tensor) -> Tensor:
    """From (n, h, w) or (n, h, w, c) to (n, c, h, w)."""
    if images.dim() == 3:
        return images.unsqueeze(1)
    return images.permute(0, 3, 1, 2).contiguous()


def _torchvision_set(name: str, root: str, *, train: bool, fetch: bool) -> Any:
    known = _PUBLISHED[name]
    make = getattr(need("torchvision.datasets"), known.torchvision_class)
    try:
        return make(root, train=train, download=fetch)
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"expected {name} under {root!r}, got none ({reason}): put {known.place} there, set "
            f"{ROOT_VARIABLE} to a folder that has it, or go online with download=true"
        ) from error
