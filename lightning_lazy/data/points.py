"""Small sets of points with labels ±1, on which linear nets show what they do."""

from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_lazy.checks import check_choice, check_number
from lightning_lazy.data import options
from lightning_lazy.data.counter import derive_seed
from lightning_lazy.data.dataset import ImageSet, RawBatch
from lightning_lazy.data.memory import MemoryDataModule
from lightning_lazy.errors import InputError

PointsName = Literal["degenerate", "non_separable", "blobs", "flipped_blobs"]
_FIXED: dict[str, tuple[list[list[float]], list[int]]] = {
    "degenerate": ([[1.0], [1.0]], [1, -1]),
    "non_separable": ([[1.0], [2.0]], [1, -1]),
}
_CENTRE, _TRAIN, _VAL, _FLIPS = range(4)
"""What is drawn; each has a random stream of its own."""


class PointsDataModule(MemoryDataModule):
    """Points with labels ±1 for nets with one output (Huang, Du, Xu & Liu 2020).

    - ``degenerate``: {(1, +1), (1, −1)}, the paper's Assumption 3;
    - ``non_separable``: {(1, +1), (2, −1)}, its Examples 2 and 4;
    - ``blobs``: x = y·c + r with a random centre c, ‖c‖ = `distance`, and r uniform in a ball of
      radius `radius`. Labels come in equal numbers. With radius < distance a hyperplane through the
      origin separates them;
    - ``flipped_blobs``: the same with the labels of a share of the training points flipped.

    The two fixed sets are their own validation set; blobs are validated on others from the same
    balls, with their true labels. Points depend on the seed alone, are drawn in float64 and handed
    out in the dtype of the run.

    Args:
        points: Name of the set.
        dimension: Of the blobs.
        n_train: Training points of the blobs.
        n_val: Validation points of the blobs.
        distance: Of the blobs' centres from the origin.
        radius: Of the blobs.
        flipped: Share of flipped labels, of which the nearest number of points is taken.
        batch_size: Training points a step and device; "full" for all of them, made once.
        eval_batch_size: Validation points a batch and device.
        seed: Seed of everything.

    Attributes:
        in_features: Number of features: 1 for the fixed sets.
        outputs: 1.

    Raises:
        InputError: An argument is out of range.
    """

    outputs: int = 1

    def __init__(
        self,
        points: PointsName = "degenerate",
        *,
        dimension: int = 2,
        n_train: int = 20,
        n_val: int = 200,
        distance: float = 1.0,
        radius: float = 0.8,
        flipped: float = 0.2,
        batch_size: int | Literal["full"] = "full",
        eval_batch_size: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_choice("points", points, get_args(PointsName))
        options.check_count("batch_size", batch_size, words=("full",))
        counts = {"dimension": dimension, "n_train": n_train, "n_val": n_val}
        for name, value in (counts | {"eval_batch_size": eval_batch_size}).items():
            options.check_count(name, value)
        if check_number("flipped", flipped, zero=True) > 1:
            raise InputError(f"flipped must be a share between 0 and 1, got {flipped}; lower it")
        self.points, self.n_train, self.n_val = points, n_train, n_val
        self.distance = check_number("distance", distance)
        self.radius = check_number("radius", radius)
        self.flipped = flipped
        self.batch_size, self.eval_batch_size, self.seed = batch_size, eval_batch_size, seed
        self.augment = self.drop_last = self.pin_memory = False
        self.num_workers = 0
        self.in_features = 1 if points in _FIXED else dimension

    def setup(self, stage: str | None = None) -> None:
        """Make the points, once for all stages.

        Args:
            stage: Not used: training and validation points are made together.
        """
        if self.preprocess is not None:
            return
        if self.points in _FIXED:
            x, y = _FIXED[self.points]
            self.train_set = ImageSet(torch.tensor(x, dtype=torch.float64), torch.tensor(y))
            self.val_set = self.train_set
        else:
            self.train_set = self._blobs(self.n_train, _TRAIN)
            self.val_set = self._blobs(self.n_val, _VAL)
            if self.points == "flipped_blobs":
                self._flip(self.train_set.labels)
        self.preprocess = _in_dtype

    def _blobs(self, size: int, stream: int) -> ImageSet:
        centre = self.distance * _directions(1, self.in_features, self._generator(_CENTRE))
        generator = self._generator(stream)
        y = torch.arange(size) % 2 * 2 - 1
        share = torch.rand(size, 1, dtype=torch.float64, generator=generator)
        lengths = self.radius * share ** (1 / self.in_features)
        noise = lengths * _directions(size, self.in_features, generator)
        return ImageSet(y.unsqueeze(1) * centre + noise, y)

    def _flip(self, labels: Tensor) -> None:
        order = torch.randperm(len(labels), generator=self._generator(_FLIPS))
        labels[order[: round(self.flipped * len(labels))]] *= -1

    def _generator(self, stream: int) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(self.seed, stream))


def _directions(size: int, dimension: int, generator: torch.Generator) -> Tensor:
    """Return unit vectors in random directions, shape (size, dimension)."""
    vectors = torch.randn(size, dimension, dtype=torch.float64, generator=generator)
    return vectors / vectors.norm(dim=1, keepdim=True)


def _in_dtype(raw: RawBatch, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return raw.images.to(dtype), raw.labels
