"""The datamodule of images that are too large, or too many, to lie in memory."""

from collections.abc import Sequence
from pathlib import Path

import torch
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from lightning_lazy.data import options
from lightning_lazy.data.counter import derive_seed
from lightning_lazy.data.folders import scan_folders
from lightning_lazy.data.image_files import ImageFiles
from lightning_lazy.data.memory import MemoryDataModule
from lightning_lazy.data.subsets import Task, draw_subset, make_task
from lightning_lazy.data.transforms import Transform

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_TRAIN, _VAL = range(2)
"""What is drawn; each has a random stream of its own."""


class StreamedImageDataModule(MemoryDataModule):
    """Images in class folders, of any size, decoded by the workers of a loader.

    Training images are random parts, scaled to one size and mirrored at random; of validation
    images the centre is taken. Both are bytes until they are on the device, and standardised there.
    Order, parts and mirroring depend on the seed and on nothing else. How batches are sharded and
    resumed: `MemoryDataModule`.

    Args:
        path: A folder with train/ and test/ (or val/), each with one folder a class.
        size: Side in pixels that images are brought to.
        resize: What the shorter side of a validation image is scaled to before its centre of this
            size is cut out.
        n_train: Size of a random subset of the training images; None for all.
        n_val: Size of a random subset of the validation images; None for all.
        subset_seed: Seed of both draws.
        batch_size: Training images a step and device.
        eval_batch_size: Validation images a batch and device; under DDP up to so many, evened out.
        augment: Whether training images are random parts; else their centres are taken.
        mean: Of pixels in [0, 1]: one number or one a channel. Default: ImageNet's.
        std: As `mean`.
        seed: Seed of shuffling and augmentation.
        drop_last: Leave out a last, incomplete training batch.
        num_workers: Worker processes a loader, which decode the images.
        pin_memory: Whether batches go through pinned memory.

    Attributes:
        num_classes: Classes, as many as folders.
        outputs: Outputs a network needs, `num_classes`.
        image_shape: Channels, height and width: (3, size, size).
        in_channels: 3.
        image_size: `size`.
        in_features: 3·size².
        class_names: Names of the folders.
        class_counts: Training images drawn of each class, by name.
        train_set: Training images; plain indices give their centres.
        val_set: Validation images.

    Raises:
        InputError: In one line, where an argument or the folder does not fit.
    """

    num_classes: int
    outputs: int
    class_names: tuple[str, ...]
    class_counts: dict[str, int]
    in_channels: int = 3

    def __init__(
        self,
        path: str,
        *,
        size: int = 224,
        resize: int = 256,
        n_train: int | None = None,
        n_val: int | None = None,
        subset_seed: int = 0,
        batch_size: int = 256,
        eval_batch_size: int = 256,
        augment: bool = True,
        mean: float | Sequence[float] = IMAGENET_MEAN,
        std: float | Sequence[float] = IMAGENET_STD,
        seed: int = 0,
        drop_last: bool = False,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__()
        self.path, self.size, self.resize = path, size, resize
        self.n_train, self.n_val, self.subset_seed = n_train, n_val, subset_seed
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.augment, self.seed, self.drop_last = augment, seed, drop_last
        self.num_workers, self.pin_memory = num_workers, pin_memory
        for name in ("size", "batch_size", "eval_batch_size"):
            options.check_count(name, getattr(self, name))
        for name in ("n_train", "n_val"):
            options.check_count(name, getattr(self, name), words=(None,))
        options.check_count("num_workers", num_workers, least=0)
        options.check_count("resize", resize, least=size)
        options.check_moments("standardize", mean, std)
        self.mean, self.std = (
            options.per_channel(name, value, self.in_channels)
            for name, value in (("mean", mean), ("std", std))
        )
        self.image_shape = (self.in_channels, size, size)
        self.image_size, self.in_features = size, self.in_channels * size**2

    def setup(self, stage: str | None = None) -> None:
        """List the images, once for all stages; none is opened.

        Args:
            stage: Not used: training and validation images are listed together.
        """
        if self.preprocess is not None:
            return
        folders = scan_folders(self.path)
        task = make_task(folders.names, None, False)
        self.train_set = self._draw(task, folders.train_files, folders.train_labels, _TRAIN)
        self.val_set = self._draw(task, folders.test_files, folders.test_labels, _VAL)
        self.class_names = folders.names
        self.num_classes = self.outputs = len(folders.names)
        counts = torch.bincount(self.train_set.labels, minlength=self.outputs).tolist()
        self.class_counts = dict(zip(folders.names, counts, strict=True))
        self.preprocess = Transform(mean=self.mean, std=self.std, flatten=False)
        rank_zero_info(
            f"{self.path}: {len(self.train_set)} training images of {self.outputs} classes, "
            f"{len(self.val_set)} validation images"
        )

    def _draw(self, task: Task, files: Sequence[Path], labels: Tensor, stream: int) -> ImageFiles:
        size, what = ((self.n_train, "training"), (self.n_val, "validation"))[stream]
        seed = derive_seed(self.subset_seed, stream)
        index, classes = draw_subset(labels, task, size=size, balanced=False, seed=seed, what=what)
        return ImageFiles(
            [files[i] for i in index.tolist()],
            classes,
            size=self.size,
            resize=self.resize,
            augment=self.augment,
            seed=self.seed,
        )
