"""Images as uint8, handed out a batch at a time."""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from lightning_lazy.data.counter import INDEX_BITS, INDEX_MASK

_NUMBERS = count()


class HostIndex:
    """Which images a batch holds; transfers to a device leave it where it is.

    Args:
        places: int64 tensor of shape (n,), indices into the set.
        source: Number of the set.
    """

    __slots__ = ("places", "source")

    def __init__(self, places: Tensor, source: int) -> None:
        self.places = places
        self.source = source


class PatchDraw(NamedTuple):
    """What is drawn for the patches of images (see `patches`).

    Attributes:
        kinds: int64, shape (n,): 0 for images as they are, 1 for a patch on the image, 2 for a
            patch on zeros.
        strengths: s of the image's patch z + s·p, float32, shape (n,).
    """

    kinds: Tensor
    strengths: Tensor


class RawBatch(NamedTuple):
    """Images as they lie in memory, before anything is done to their pixels.

    Attributes:
        images: uint8, shape (n, channels, height, width); without the first axis for one image.
        labels: int64, shape (n,).
        keys: int64, shape (n,), where the images may be augmented; None where they stay as they
            are. Being None or not is known without looking into a tensor, which on a GPU would
            wait for the device in every step.
        where: Which images these are.
        partners: As many other images, to mix these with (see `mixup`).
        patch: What is drawn for patches, where the images have some.
    """

    images: Tensor
    labels: Tensor
    keys: Tensor | None = None
    where: HostIndex | None = None
    partners: "RawBatch | None" = None
    patch: PatchDraw | None = None


class ReadyBatch(tuple[Tensor, ...]):
    """A pair (x, y) that already has its device and dtype, so that nothing is left to do."""

    __slots__ = ()


class IndexedBatch(tuple[Tensor, ...]):
    """A pair (x, y) where x are images as they are in the set, the same whenever they come.

    Attributes:
        places: int64 tensor of shape (n,) on the CPU, indices into the set.
        source: Number of the set, another for each set of a process.
    """

    places: Tensor
    source: int


class KeyedSet(Dataset[RawBatch]):
    """Labelled images; a key picks one, a plain index is a key (see `counter`).

    Args:
        labels: int64 tensor of shape (n,).
    """

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels
        self.number = next(_NUMBERS)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: int) -> RawBatch:
        batch = self.__getitems__([key if key >= 0 else key + len(self)])
        keys = None if batch.keys is None else batch.keys[0]
        return RawBatch(batch.images[0], batch.labels[0], keys)

    def __getitems__(self, keys: Tensor | Sequence[int]) -> RawBatch:
        """The images of many keys as one batch: what a DataLoader calls."""
        wanted = torch.as_tensor(keys, dtype=torch.int64)
        index = wanted & INDEX_MASK
        labels = self.labels.index_select(0, index)
        where = HostIndex(index, self.number)
        if not bool((wanted >> INDEX_BITS).any()):
            return RawBatch(self.pixels(wanted), labels, None, where)
        return RawBatch(self.pixels(wanted), labels, wanted, where)

    def pixels(self, keys: Tensor) -> Tensor:
        """uint8 images of shape (n, channels, height, width) of int64 keys of shape (n,)."""
        raise NotImplementedError


class ImageSet(KeyedSet):
    """Images in memory and their labels.

    Args:
        images: uint8 tensor of shape (n, channels, height, width).
        labels: int64 tensor of shape (n,).

    Attributes:
        partners: Gives, of n keys and the size of the set, the keys of as many images that those
            of the keys are mixed with; None for none.
    """

    partners: Callable[[Tensor, int], Tensor] | None = None

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        super().__init__(labels)
        self.images = images

    def __getitems__(self, keys: Tensor | Sequence[int]) -> RawBatch:
        """The images of many keys as one batch, with their partners where they have some."""
        batch = super().__getitems__(keys)
        if batch.keys is None or self.partners is None:
            return batch
        others = super().__getitems__(self.partners(batch.keys, len(self)))
        return batch._replace(partners=others)

    def pixels(self, keys: Tensor) -> Tensor:
        """Copies of the images of int64 keys of shape (n,)."""
        return self.images.index_select(0, keys & INDEX_MASK)  # whole images, unlike images[index]


def keep_batch(batch: Any) -> Any:
    """The `collate_fn` of every loader here: an `ImageSet` gives whole batches already."""
    return batch
