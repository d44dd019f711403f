"""Which image comes when: orders that are functions of (seed, epoch), and shares of ranks.

Both samplers are `DistributedSampler`s, also on one device. Lightning calls `set_epoch` on the
sampler of a loader and leaves one of this type alone, where it would wrap any other in a second
sharding. (torch's own one deals images out in turn, pads with images that then count twice in a
validation, and can't start in the middle.)
"""

from collections.abc import Iterator, Sized
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler

from lightning_lazy.data.counter import derive_seed, make_keys


def epoch_order(size: int, seed: int, epoch: int) -> Tensor:
    """The permutation of 0 … size − 1 that an epoch goes through: the same on every rank."""
    generator = torch.Generator().manual_seed(derive_seed(seed, epoch))
    return torch.randperm(size, generator=generator)


def rank_share(
    order: Tensor, *, batch_size: int, rank: int, world_size: int, drop_last: bool
) -> Tensor:
    """The part of an epoch's order that one rank trains on.

    Every step takes the next `world_size`·`batch_size` images and gives each rank `batch_size`
    neighbours of them, so that W ranks with batch B go through the same sets of images as one rank
    with batch W·B. What is left for the last step is split evenly; where it does not divide, the
    order starts over, so up to W − 1 images count twice in that step (all ranks must take the same
    number of steps). With `drop_last` it is left out.

    Args:
        order: int64 tensor of shape (n,).
        batch_size: Images a step and rank.
        rank: Number of the rank.
        world_size: Number of ranks.
        drop_last: Whether an incomplete last step is left out.

    Returns:
        int64 tensor; its length is the same on every rank.
    """
    step = batch_size * world_size
    whole = len(order) // step * step
    body = order[:whole].view(-1, world_size, batch_size)[:, rank].flatten()
    if drop_last or whole == len(order):
        return body
    share = -(-(len(order) - whole) // world_size)
    places = whole + rank * share + torch.arange(share)
    return torch.cat([body, order[places % len(order)]])


class EpochSampler(DistributedSampler[int]):
    """Yields the keys of one rank's training images: shuffled by (seed, epoch), from any position.

    Args:
        dataset: Anything with a length, the number of images n.
        batch_size: Images a step and rank.
        seed: Seed of the shuffling.
        rank: Number of this rank.
        world_size: Number of ranks.
        drop_last: Whether an incomplete last step is left out.
    """

    def __init__(
        self,
        dataset: Sized,
        *,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
    ) -> None:
        super().__init__(
            cast("Dataset[Any]", dataset),
            num_replicas=world_size,
            rank=rank,
            shuffle=True,
            seed=seed,
            drop_last=drop_last,
        )
        self.batch_size = batch_size
        self.num_samples = len(self._share(torch.arange(len(dataset))))
        self.total_size = self.num_samples * world_size
        self._skipped = 0

    def skip(self, count: int) -> None:
        """Leave out the first `count` keys of the next iteration, and of that one only."""
        self._skipped = count

    def __iter__(self) -> Iterator[int]:
        start, self._skipped = self._skipped, 0
        size = len(cast(Sized, self.dataset))
        order = self._share(epoch_order(size, self.seed, self.epoch))
        return iter(make_keys(order[start:], self.epoch).tolist())

    def __len__(self) -> int:
        return self.num_samples

    def _share(self, order: Tensor) -> Tensor:
        return rank_share(
            order,
            batch_size=self.batch_size,
            rank=self.rank,
            world_size=self.num_replicas,
            drop_last=self.drop_last,
        )


class ShardSampler(DistributedSampler[int]):
    """Yields the plain indices of one rank's contiguous share, in order; no image comes twice.

    The shares differ by one image at most, the first ones being the larger. Under DDP that makes
    sums over the ranks equal to sums over the set.

    Args:
        dataset: Anything with a length.
        rank: Number of this rank.
        world_size: Number of ranks.
    """

    def __init__(self, dataset: Sized, *, rank: int = 0, world_size: int = 1) -> None:
        super().__init__(
            cast("Dataset[Any]", dataset), num_replicas=world_size, rank=rank, shuffle=False
        )
        self.share = contiguous_share(len(dataset), rank, world_size)
        self.num_samples, self.total_size = len(self.share), len(dataset)

    def __iter__(self) -> Iterator[int]:
        return iter(self.share)

    def __len__(self) -> int:
        return len(self.share)


def contiguous_share(size: int, rank: int, world_size: int) -> range:
    """The indices of one rank, where 0 … size − 1 is cut into neighbouring shares of equal size.

    >>> [contiguous_share(7, rank, 3) for rank in range(3)]
    [range(0, 3), range(3, 5), range(5, 7)]
    """
    share, larger = divmod(size, world_size)
    start = rank * share + min(rank, larger)
    return range(start, start + share + (rank < larger))


def even_batch_size(size: int, batch_size: int, world_size: int) -> int:
    """The batch size at most `batch_size` with which ranks run equally many batches, if one does.

    The largest share takes as many batches as `batch_size` asks for; making them equally long
    keeps a share that is one image smaller from falling short of a batch. (It still does where a
    batch is shorter than the number of batches; one batch fewer is harmless, since metrics are
    reduced at the end, and a callback that communicates in every batch must not count on more.)

    >>> even_batch_size(2001, 1000, 2)  # shares of 1001 and 1000: two batches each
    501
    """
    if world_size == 1:
        return batch_size
    largest = -(-size // world_size)
    return -(-largest // -(-largest // batch_size))
