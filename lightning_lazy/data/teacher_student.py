"""Regression data that a small random net generates: a teacher for students to learn."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lightning_lazy.checks import check_number
from lightning_lazy.data import options
from lightning_lazy.data.counter import derive_seed
from lightning_lazy.data.dataset import ImageSet, RawBatch
from lightning_lazy.data.loader import ResumableLoader, RunLoader
from lightning_lazy.data.memory import MemoryDataModule
from lightning_lazy.errors import InputError

_TEACHER, _TRAIN, _VAL, _POPULATION = range(4)
"""What is drawn; each has a random stream of its own."""


class Teacher(NamedTuple):
    r"""A two-layer ReLU net without bias.

    .. math:: y = \text{scale} \sum_j a_j \max(b_j \cdot x, 0), \quad \|b_j\| = 1, \; a_j = \pm 1

    (Chizat, Oyallon & Bach 2019, §3.1.)

    Attributes:
        directions: b, float64 of shape (units, d).
        signs: a, float64 of shape (units,).
        scale: Factor of the output.
    """

    directions: Tensor
    signs: Tensor
    scale: float

    def __call__(self, x: Tensor) -> Tensor:
        """Return y of shape (n, 1) for x of shape (n, d)."""
        return self.scale * ((x @ self.directions.T).relu() @ self.signs).unsqueeze(1)


class PopulationLoader(RunLoader):
    """A fresh batch in every step, which depends on the seed and the number of the step alone.

    Args:
        teacher: Makes the targets.
        batch_size: Samples a step and rank.
        steps: Length: steps that make an iteration (one Lightning epoch).
        seed: Seed of all batches.
        rank: Number of the rank; W ranks take the shares of one batch W times as large.
        world_size: Number of ranks, W.
    """

    def __init__(
        self,
        teacher: Teacher,
        *,
        batch_size: int,
        steps: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(steps)
        self._teacher, self._seed = teacher, seed
        self._size = batch_size * world_size
        self._share = slice(rank * batch_size, (rank + 1) * batch_size)

    def _batch(self) -> RawBatch:
        seed = derive_seed(self._seed, _POPULATION, self.position)
        x = on_sphere(self._size, self._teacher.directions.shape[1], seed)[self._share]
        return RawBatch(x, self._teacher(x))


class TeacherStudentDataModule(MemoryDataModule):
    """Inputs uniform on the unit sphere of R^d, targets y of shape (n, 1) from a random `Teacher`.

    Teacher, training and validation samples depend on the seed alone. They are drawn in float64
    and handed out in the dtype of the run.

    Args:
        in_features: d.
        teacher_width: Units of the teacher.
        scale: Factor of its output.
        n_train: Training samples; with `population` the samples that count as one epoch.
        n_val: Validation samples.
        population: Whether every step gets samples that were never seen: stochastic gradient
            descent on the population loss.
        batch_size: Training samples a step and device; "full" for all of them, made once.
        eval_batch_size: Validation samples a batch and device.
        seed: Seed of everything.

    Attributes:
        teacher: The net that makes the targets.
        outputs: 1.

    Raises:
        InputError: An argument is out of range, or `population` comes with batch_size="full".
    """

    outputs: int = 1

    def __init__(
        self,
        in_features: int = 100,
        *,
        teacher_width: int = 3,
        scale: float = 1.0,
        n_train: int = 1000,
        n_val: int = 1000,
        population: bool = False,
        batch_size: int | Literal["full"] = "full",
        eval_batch_size: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.in_features, self.teacher_width = in_features, teacher_width
        self.n_train, self.n_val, self.population = n_train, n_val, population
        self.batch_size, self.eval_batch_size, self.seed = batch_size, eval_batch_size, seed
        self.augment = self.drop_last = self.pin_memory = False
        self.num_workers = 0
        options.check_count("batch_size", batch_size, words=("full",))
        for name in ("in_features", "teacher_width", "n_train", "n_val", "eval_batch_size"):
            options.check_count(name, getattr(self, name))
        if population and batch_size == "full":
            raise InputError(
                "expected batch_size to be a number with population=true, got 'full': the "
                "population has no end"
            )
        self.teacher = self._draw_teacher(check_number("scale", scale))

    def setup(self, stage: str | None = None) -> None:
        """Draw the samples, once for all stages.

        Args:
            stage: Not used: training and validation samples are drawn together.
        """
        if self.preprocess is not None:
            return
        if not self.population:
            self.train_set = self._draw_set(self.n_train, _TRAIN)
        self.val_set = self._draw_set(self.n_val, _VAL)
        self.preprocess = _in_dtype

    def _draw_teacher(self, scale: float) -> Teacher:
        seed = derive_seed(self.seed, _TEACHER)
        directions = on_sphere(self.teacher_width, self.in_features, seed)
        generator = torch.Generator().manual_seed(derive_seed(self.seed, _TEACHER, 1))
        bits = torch.randint(2, (self.teacher_width,), generator=generator)
        return Teacher(directions, 2.0 * bits.double() - 1.0, scale)

    def _draw_set(self, size: int, stream: int) -> ImageSet:
        x = on_sphere(size, self.in_features, derive_seed(self.seed, stream))
        return ImageSet(x, self.teacher(x))

    def _shuffled_loader(
        self, batch_size: int, rank: int, world_size: int
    ) -> ResumableLoader | RunLoader:
        if not self.population:
            return super()._shuffled_loader(batch_size, rank, world_size)
        return PopulationLoader(
            self.teacher,
            batch_size=batch_size,
            steps=max(1, self.n_train // (batch_size * world_size)),
            seed=self.seed,
            rank=rank,
            world_size=world_size,
        )


def on_sphere(size: int, dimension: int, seed: int) -> Tensor:
    """Return points drawn uniformly from the unit sphere, float64 of shape (size, dimension)."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(size, dimension, dtype=torch.float64, generator=generator)
    return points / points.norm(dim=1, keepdim=True)


def _in_dtype(raw: RawBatch, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return raw.images.to(dtype), raw.labels.to(dtype)
