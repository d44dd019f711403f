"""Data: sets in memory, loaders that resume to the batch, inputs made on the device."""

from lightning_lazy.data.dataset import ImageSet, KeyedSet, RawBatch, ReadyBatch
from lightning_lazy.data.images import ImageDataModule
from lightning_lazy.data.loader import FullBatchLoader, ResumableLoader
from lightning_lazy.data.mixup import Mixup
from lightning_lazy.data.patches import Patches
from lightning_lazy.data.patterns import Patterns, PatternsDataModule
from lightning_lazy.data.points import PointsDataModule
from lightning_lazy.data.sampling import EpochSampler, ShardSampler
from lightning_lazy.data.streamed_images import StreamedImageDataModule
from lightning_lazy.data.teacher_student import Teacher, TeacherStudentDataModule
from lightning_lazy.data.transforms import Transform

__all__ = [
    "EpochSampler",
    "FullBatchLoader",
    "ImageDataModule",
    "ImageSet",
    "KeyedSet",
    "Mixup",
    "Patches",
    "Patterns",
    "PatternsDataModule",
    "PointsDataModule",
    "RawBatch",
    "ReadyBatch",
    "ResumableLoader",
    "ShardSampler",
    "StreamedImageDataModule",
    "Teacher",
    "TeacherStudentDataModule",
    "Transform",
]
