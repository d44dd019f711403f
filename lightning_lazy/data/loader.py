"""Training loaders whose position can be saved and restored to the batch.

Lightning looks for `state_dict` and `load_state_dict` on the loader. A batch counts as consumed
when the next one is asked for: a checkpoint taken between two batches, when the next is fetched but
not trained on (`on_train_batch_start`), then names the batch to go on with. One taken after a step
counts that step's batch too, if the loader knows that it is trained on: from `trained`, which the
datamodules set where they have a Trainer, or because `batch_done` was called.

The position is that of the run, so a run has one iteration of its loader open at a time.
Measurements make a loader of their own over the `dataset`, with plain indices:
`DataLoader(loader.dataset, batch_size=100, collate_fn=loader.collate_fn)`.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_lazy.data.counter import make_keys
from lightning_lazy.data.dataset import KeyedSet, RawBatch, ReadyBatch, keep_batch
from lightning_lazy.data.sampling import EpochSampler
from lightning_lazy.errors import InputError


class Position:
    """Counts the batches a run has consumed; what both loaders save and restore.

    Attributes:
        epoch: Number of the epoch that `position` belongs to.
        position: Batches consumed.
        trained: Says whether the batch handed out last has been trained on; None if nobody knows.
    """

    epoch: int = 0
    position: int = 0
    trained: Callable[[], bool] | None = None
    _in_flight: bool = False
    _restored: bool = False

    def batch_done(self) -> None:
        """Count the batch handed out last as consumed; calling it again changes nothing."""
        self.position += self._in_flight
        self._in_flight = False

    def state_dict(self) -> dict[str, int]:
        """Epoch and batches consumed, as plain ints."""
        done = self._in_flight and self.trained is not None and self.trained()
        return {"epoch": self.epoch, "position": self.position + done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on, in the next iteration, from where the state was taken."""
        self.epoch, self.position = int(state["epoch"]), int(state["position"])
        self._in_flight, self._restored = False, True


class ResumableLoader(Position, DataLoader[RawBatch]):
    """A DataLoader that goes on in the middle of an epoch with exactly the batches that were left.

    Takes the arguments of `torch.utils.data.DataLoader`, the data set being a `KeyedSet` and the
    sampler an `EpochSampler`. Any other sampler works too (Lightning puts a sequential one in its
    place for `overfit_batches`), but then an iteration starts at the first batch. Workers are not
    started, nor is the epoch read, before the first batch is asked for, since Lightning makes the
    iterator before it sets the sampler's epoch. The random state of the process stays as it is.

    Attributes:
        batches_per_epoch: Batches of this rank that make one pass over the data; also the length.
    """

    def __init__(self, dataset: KeyedSet, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("collate_fn", keep_batch)
        kwargs.setdefault("generator", torch.Generator())
        super().__init__(dataset, *args, **kwargs)

    @property
    def batches_per_epoch(self) -> int:
        """Batches of this rank that make one pass over the data."""
        return len(self)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration. Lightning does it itself, on the sampler."""
        if isinstance(self.sampler, EpochSampler):
            self.sampler.set_epoch(epoch)

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a saved position, if the next iteration is of the epoch it was saved in.

        An iteration of another epoch starts at its first batch.

        Args:
            state: What `state_dict` gave.

        Raises:
            InputError: Where the position lies behind the end of an epoch of this loader.
        """
        if state["position"] > len(self):
            raise InputError(
                f"expected a saved position of at most {len(self)} batches, got "
                f"{state['position']}: resume with the batch size, devices and n_train of the run"
            )
        super().load_state_dict(state)

    def __iter__(self) -> Iterator[RawBatch]:  # type: ignore[override]
        start = self._begin()
        if isinstance(self.sampler, EpochSampler):
            self.sampler.skip(start * self.sampler.batch_size)
        batches = super().__iter__()
        while True:
            self.batch_done()
            batch = next(batches, None)
            if batch is None:
                return
            self._in_flight = True
            yield batch

    def _begin(self) -> int:
        epoch = self.sampler.epoch if isinstance(self.sampler, EpochSampler) else 0
        resumed = self._restored and epoch == self.epoch
        self.epoch, self.position = epoch, self.position if resumed else 0
        self._in_flight = self._restored = False
        return self.position


class RunLoader(Position):
    """A loader of one batch a step, whose position counts the steps of the whole run.

    It goes on after a resume also where the length has grown since.

    Args:
        steps: Length: steps that make an iteration (one Lightning epoch).
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[ReadyBatch | RawBatch]:
        self.batch_done()
        done = self.position % self._steps if self._restored else 0
        self._restored = False
        for _ in range(self._steps - done):
            self.batch_done()
            self._in_flight, self.epoch = True, self.position
            yield self._batch()

    def _batch(self) -> ReadyBatch | RawBatch:
        """The batch of the step `position`."""
        raise NotImplementedError


class FullBatchLoader(RunLoader):
    """Hands out all images of this rank in every step, without any work in between.

    The batch is built when the first step asks for it and is the same object ever after. With
    augmentation the bytes are handed out instead, with the keys of the step, which counts as an
    epoch. Where more than that is drawn, such as partners to mix them with, they are gathered anew
    in every step.

    Args:
        dataset: All images.
        prepare: Makes inputs and labels of a batch, in the dtype of the run.
        device: Where the batch lives.
        steps: Length: steps that make an iteration (one Lightning epoch).
        share: Indices of this rank's images, all of them by default. Under DDP these are
            neighbours, and shares may differ by one image: see `share_of_all`.
        augment: Whether to hand out bytes and keys.
        gather: Whether the set draws more than keys.

    Attributes:
        batches_per_epoch: 1, as a step is a pass over the data.
        share_of_all: This rank's part of the images, from 0 to 1, by which its mean loss has to
            count; `ScaledLightningModule` does that.
    """

    batches_per_epoch: int = 1

    def __init__(
        self,
        dataset: KeyedSet,
        prepare: Callable[[RawBatch], tuple[Tensor, Tensor]],
        *,
        device: torch.device | None = None,
        steps: int = 1,
        share: range | None = None,
        augment: bool = False,
        gather: bool = False,
    ) -> None:
        super().__init__(steps)
        self.dataset = dataset
        self.collate_fn = keep_batch
        self._prepare = prepare
        self._device = device if device is not None else torch.device("cpu")
        self._share = share if share is not None else range(len(dataset))
        self.share_of_all = len(self._share) / len(dataset)
        self._augment, self._gather = augment, gather
        self._ready: ReadyBatch | None = None
        self._raw: RawBatch | None = None

    def _batch(self) -> ReadyBatch | RawBatch:
        if self._gather:
            share = torch.arange(self._share.start, self._share.stop)
            return self.dataset.__getitems__(make_keys(share, self.position))
        return self._drawn() if self._augment else self._all()

    def _all(self) -> ReadyBatch:
        if self._ready is None:
            self._ready = ReadyBatch(self._prepare(self._bytes()))
        return self._ready

    def _drawn(self) -> RawBatch:
        if self._raw is None:
            self._raw = self._bytes()
        index = torch.arange(self._share.start, self._share.stop, device=self._device)
        return self._raw._replace(keys=make_keys(index, self.position))

    def _bytes(self) -> RawBatch:
        batch = self.dataset.__getitems__(self._share)
        return RawBatch(batch.images.to(self._device), batch.labels.to(self._device))
