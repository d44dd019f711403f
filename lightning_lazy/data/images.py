"""The datamodule of labelled images."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import torch
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from lightning_lazy.checks import check_choice, check_number
from lightning_lazy.data import options
from lightning_lazy.data.augment import PaddingMode
from lightning_lazy.data.counter import derive_seed
from lightning_lazy.data.dataset import ImageSet
from lightning_lazy.data.folders import folder_source
from lightning_lazy.data.memory import MemoryDataModule
from lightning_lazy.data.mixup import Mixup
from lightning_lazy.data.patches import Patches, PatchTransform
from lightning_lazy.data.sources import (
    DATASETS,
    DatasetName,
    Source,
    data_root,
    digits_source,
    download_published,
    published_source,
)
from lightning_lazy.data.subsets import ClassName, Task, draw_subset, make_task
from lightning_lazy.data.transforms import Normalize, Transform, channel_moments
from lightning_lazy.errors import InputError


class ImageDataModule(MemoryDataModule):
    """Images and labels for training, and the test split for validation.

    Order, augmentation and subset depend on the seeds given here and on nothing else. How batches
    are loaded and sharded: `MemoryDataModule`.

    Args:
        dataset: "digits" (scikit-learn's, no download), "mnist", "fashion_mnist", "cifar10",
            "cifar100", or "folder".
        root: Folder of the data sets; None: the variable LIGHTNING_LAZY_DATA, else "data".
        path: For "folder": a folder with train/ and test/ (or val/), each with one folder a class.
        download: Whether to fetch a data set that is not under `root`.
        n_train: Size of a random subset of the training images; None for all.
        n_val: Size of a random subset of the test images; None for all.
        subset_seed: Seed of both draws.
        balanced: Draw equally many of each of the task's classes (also of the two sides of a
            binary task); validation images only if `n_val` is given.
        classes: Names or numbers of the classes to keep; labels are 0 … k − 1 in this order.
        binary: Labels −1 and +1: true for two classes (first −1, second +1), or two lists of
            classes, such as [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]] for even against odd.
        batch_size: Training images a step and device; "full" for all of them, made once.
        eval_batch_size: Validation images a batch and device; under DDP up to so many, evened out.
        random_pixels: Replace every drawn image by independent uniform bytes and keep its label.
        resolution: Side length to pool to, after padding to a multiple of it (`transforms.pool`).
        normalize: "standardize" per channel, "sphere" (Σx² = d for each image) or "unit" ([0, 1]).
        mean: For "standardize", of pixels in [0, 1]: one number or one a channel. Default: the
            published ones; for digits, folders and random pixels those of the training images.
        std: As `mean`.
        flatten: Whether x is (n, d) rather than (n, channels, height, width).
        augment: Random crops and mirroring of training images, in pixel space.
        padding: Pixels on each side before a crop.
        padding_mode: What these pixels are: "zeros" or "reflect", the image mirrored at its border.
        mixup: Mixes training images and their labels with shares from Beta(mixup, mixup); None
            for no mixing. Targets are then floats of shape (n, outputs), see `Mixup`.
        patches: Puts patches on the images, see `Patches`; validation is then on the sets "clean",
            "mixed" and "patch_only".
        seed: Seed of shuffling, augmentation and mixing.
        drop_last: Leave out a last, incomplete training batch.
        num_workers: Worker processes a loader; 0 is fastest for most images in memory.
        pin_memory: Whether batches go through pinned memory.

    Attributes:
        num_classes: Classes of the task; 2 for a binary one.
        outputs: Outputs a network needs: 1 for a binary task, else `num_classes`.
        image_shape: Channels, height and width after pooling.
        in_channels: The first of these.
        image_size: Height or, where they differ, height and width after pooling.
        in_features: Channels times height times width, d.
        class_names: Names of the task's classes; those of a group are joined by "+".
        class_counts: Training images drawn of each class, by name.
        train_set: Training images; plain indices give them without augmentation.
        val_set: Validation images.
        val_sets: Those with and without patches, by name; None without `patches`.

    Raises:
        InputError: In one line, where an argument or the data do not fit (all attributes are there
            only after `setup`).
    """

    num_classes: int
    outputs: int
    image_shape: tuple[int, int, int]
    in_channels: int
    image_size: int | tuple[int, int]
    in_features: int
    class_names: tuple[str, ...]
    class_counts: dict[str, int]
    train_set: ImageSet

    def __init__(
        self,
        dataset: DatasetName = "digits",
        *,
        root: str | None = None,
        path: str | None = None,
        download: bool = True,
        n_train: int | None = None,
        n_val: int | None = None,
        subset_seed: int = 0,
        balanced: bool = False,
        classes: Sequence[ClassName] | None = None,
        binary: bool | Sequence[Sequence[ClassName]] = False,
        batch_size: int | Literal["full"] = 128,
        eval_batch_size: int = 1000,
        random_pixels: bool = False,
        resolution: int | None = None,
        normalize: Normalize = "standardize",
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        flatten: bool = True,
        augment: bool = False,
        padding: int = 4,
        padding_mode: PaddingMode = "zeros",
        mixup: float | None = None,
        patches: Patches | None = None,
        seed: int = 0,
        drop_last: bool = False,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__()
        self.dataset, self.root, self.path, self.download = dataset, root, path, download
        self.n_train, self.n_val, self.subset_seed = n_train, n_val, subset_seed
        self.balanced, self.classes, self.binary = balanced, classes, binary
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.random_pixels, self.resolution, self.flatten = random_pixels, resolution, flatten
        self.normalize, self.mean, self.std = normalize, mean, std
        self.augment, self.padding, self.padding_mode = augment, padding, padding_mode
        self.mixup, self.patches, self.seed = mixup, patches, seed
        self.gathers = mixup is not None or patches is not None
        self.drop_last, self.num_workers, self.pin_memory = drop_last, num_workers, pin_memory
        self._check()

    def prepare_data(self) -> None:
        """Download what is missing; Lightning calls this in one process a node."""
        if self.download:
            download_published(self.dataset, data_root(self.root))

    def setup(self, stage: str | None = None) -> None:
        """Draw and load the images, once for all stages.

        Args:
            stage: Not used: training and validation images are drawn together.
        """
        if self.preprocess is not None:
            return
        source = self._source()
        task = make_task(source.class_names, self.classes, self.binary)
        train_index, train_classes = draw_subset(
            source.train_labels,
            task,
            size=self.n_train,
            balanced=self.balanced,
            seed=derive_seed(self.subset_seed, 0),
            what="training",
        )
        val_index, val_classes = draw_subset(
            source.test_labels,
            task,
            size=self.n_val,
            balanced=self.balanced and self.n_val is not None,
            seed=derive_seed(self.subset_seed, 1),
            what="validation",
        )
        train_images, val_images = source.fetch(train_index, val_index)
        if self.random_pixels:
            source = replace(source, max_value=255, mean=None, std=None)
            train_images = random_bytes(train_images.shape, derive_seed(self.subset_seed, 2))
            val_images = random_bytes(val_images.shape, derive_seed(self.subset_seed, 3))
        self.train_set = ImageSet(train_images, task.labels(train_classes))
        self.val_set = ImageSet(val_images, task.labels(val_classes))
        self._describe(task, train_classes)
        self.preprocess = self._make_transform(source)
        if self.patches is not None:
            classes = self.num_classes
            self.preprocess = PatchTransform(
                self.preprocess, self.patches, self.image_shape, classes
            )
            self.train_set = self.patches.training_set(self.train_set)
            self.val_sets = self.patches.validation_sets(self.val_set)
        if self.mixup is not None:
            self.preprocess = mixed = Mixup(self.preprocess, self.mixup, self.outputs, self.seed)
            self.train_set.partners = mixed.partners

    def _check(self) -> None:
        check_choice("dataset", self.dataset, DATASETS)
        check_choice("normalize", self.normalize, get_args(Normalize))
        check_choice("padding_mode", self.padding_mode, get_args(PaddingMode))
        options.check_path(self.dataset, self.path)
        options.check_moments(self.normalize, self.mean, self.std)
        options.check_count("batch_size", self.batch_size, words=("full",))
        options.check_count("eval_batch_size", self.eval_batch_size)
        for name in ("n_train", "n_val", "resolution"):
            options.check_count(name, getattr(self, name), words=(None,))
        for name in ("padding", "num_workers"):
            options.check_count(name, getattr(self, name), least=0)
        if self.mixup is not None:
            check_number("mixup", self.mixup)
        if not isinstance(self.patches, Patches | None):
            raise InputError(
                f"patches must be lightning_lazy.data.Patches or None, got {self.patches!r}; see "
                "data=cifar10_patches"
            )

    def _source(self) -> Source:
        if self.path is not None:  # there for "folder" only, see `check_path`
            return folder_source(self.path)
        if self.dataset == "digits":
            return digits_source()
        return published_source(self.dataset, data_root(self.root))

    def _describe(self, task: Task, train_classes: Tensor) -> None:
        channels, height, width = self.train_set.images.shape[1:]
        side = self.resolution
        self.image_shape = (channels, side or height, side or width)
        self.in_channels, height, width = self.image_shape
        self.image_size = height if height == width else (height, width)
        self.in_features = math.prod(self.image_shape)
        self.class_names, self.num_classes = task.names, len(task.names)
        self.outputs = 1 if task.binary else self.num_classes
        counts = torch.bincount(train_classes, minlength=self.num_classes).tolist()
        self.class_counts = dict(zip(task.names, counts, strict=True))
        each = ", ".join(f"{name}: {count}" for name, count in self.class_counts.items())
        rank_zero_info(
            f"{self.dataset}: {len(self.train_set)} training images ({each}), "
            f"{len(self.val_set)} validation images"
        )

    def _make_transform(self, source: Source) -> Transform:
        images, mean, std = self.train_set.images, source.mean, source.std
        channels, *sides = images.shape[1:]
        if self.augment and self.padding_mode == "reflect" and self.padding >= min(sides):
            raise InputError(
                f"expected padding below {min(sides)}, the side of an image, with padding_mode="
                f"reflect, got {self.padding}: lower it, or use padding_mode=zeros"
            )
        if self.mean is not None and self.std is not None:
            mean = options.per_channel("mean", self.mean, channels)
            std = options.per_channel("std", self.std, channels)
        elif self.normalize == "standardize" and (mean is None or std is None):
            mean, std = channel_moments(images, source.max_value)
        return Transform(
            max_value=source.max_value,
            normalize=self.normalize,
            mean=mean or (0.0,),
            std=std or (1.0,),
            resolution=self.resolution,
            flatten=self.flatten,
            augment=self.augment,
            padding=self.padding,
            padding_mode=self.padding_mode,
            seed=self.seed,
        )


def random_bytes(shape: Sequence[int], seed: int) -> Tensor:
    """Return uint8 images whose values are independent and uniform from 0 to 255."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, tuple(shape), generator=generator, dtype=torch.uint8)
