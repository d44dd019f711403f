"""A datamodule over two sets of images: loaders, and the way of a batch to its device."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, cast

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_lazy.data.dataset import (
    IndexedBatch,
    KeyedSet,
    RawBatch,
    ReadyBatch,
    keep_batch,
)
from lightning_lazy.data.loader import FullBatchLoader, ResumableLoader, RunLoader
from lightning_lazy.data.sampling import (
    EpochSampler,
    ShardSampler,
    contiguous_share,
    even_batch_size,
)
from lightning_lazy.errors import InputError


class MemoryDataModule(pl.LightningDataModule):
    """Everything of a datamodule but where its images come from.

    A subclass sets the attributes below: the sets and the transform in `setup`, the rest when it
    is made. A batch is gathered on the host as bytes and becomes a pair (x, y) on the device, in
    the dtype of the Lightning module (float64 under precision 64-true). Loading leaves the global
    random state alone.

    Under DDP the samplers shard by themselves, whatever `use_distributed_sampler` says: see
    `sampling.rank_share` for training and `sampling.ShardSampler` for validation.

    Attributes:
        train_set: Training images; plain indices give them without augmentation.
        val_set: Validation images.
        val_sets: Several sets of them by name, each of which is validated on by itself and gives
            ``val/<name>/acc``; None: `val_set` alone.
        preprocess: Makes (x, y) of bytes; None before `setup`.
        gathers: Whether the training set draws more for an image than its crop.
    """

    train_set: KeyedSet
    val_set: KeyedSet
    val_sets: Mapping[str, KeyedSet] | None = None
    preprocess: Callable[[RawBatch, torch.dtype], tuple[Tensor, Tensor]] | None = None
    batch_size: int | Literal["full"]
    eval_batch_size: int
    seed: int
    augment: bool
    gathers: bool = False
    drop_last: bool
    num_workers: int
    pin_memory: bool

    @property
    def val_names(self) -> tuple[str, ...] | None:
        """Names of the validation sets; ``None`` for a single one, which has no name."""
        return None if self.val_sets is None else tuple(self.val_sets)

    def train_dataloader(self) -> ResumableLoader | RunLoader:
        """The shuffled loader of this rank, or all its images at once for batch_size="full"."""
        rank, world_size = self._ranks()
        if self.batch_size == "full":
            loader: ResumableLoader | RunLoader = self._full_batch_loader(rank, world_size)
        else:
            loader = self._shuffled_loader(self.batch_size, rank, world_size)
        if self.trainer is not None:
            loader.trained = partial(_batch_is_trained, self.trainer)
        return loader

    def val_dataloader(self) -> DataLoader[RawBatch] | list[DataLoader[RawBatch]]:
        """The validation images of this rank, each of them once; a loader for each set."""
        if self.val_sets is None:
            return self._validation_loader(self.val_set)
        return [self._validation_loader(images) for images in self.val_sets.values()]

    def test_dataloader(self) -> DataLoader[RawBatch] | list[DataLoader[RawBatch]]:
        """The same images as for validation: no set here has a third split."""
        return self.val_dataloader()

    def transform(self, raw: RawBatch, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        """Inputs and labels of a batch, with or without a Trainer.

        Args:
            raw: A batch of one of the sets, on any device.
            dtype: Dtype of the inputs; None for that of the Lightning module, if a Trainer has
                one attached, else torch's default.

        Returns:
            x, of shape (n, d) or (n, channels, height, width), and y, int64 of shape (n,), or
            soft targets where the batch is mixed.

        Raises:
            InputError: Before `setup`.
        """
        if self.preprocess is None:
            raise InputError(
                "expected setup() before the data are used: call prepare_data(), setup()"
            )
        return self.preprocess(raw, dtype if dtype is not None else self._dtype())

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Move a batch, unless it was made on its device."""
        if type(batch) is ReadyBatch:
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Make (x, y) of the bytes of our own sets; batches of others pass as they are."""
        if type(batch) is not RawBatch:
            return batch
        pair = self.transform(batch)
        drawn_anew = batch.keys is not None and (self.augment or self.gathers)
        if batch.where is None or drawn_anew:
            return pair
        indexed = IndexedBatch(pair)
        indexed.places, indexed.source = batch.where.places, batch.where.source
        return indexed

    def _validation_loader(self, images: KeyedSet) -> DataLoader[RawBatch]:
        rank, world_size = self._ranks()
        size = len(images)
        if size < world_size:
            raise InputError(
                f"expected at least one validation image for each of {world_size} devices, got "
                f"{size}: raise n_val or use fewer devices"
            )
        sharded = ShardSampler(images, rank=rank, world_size=world_size)
        return DataLoader(
            images,
            batch_size=even_batch_size(size, self.eval_batch_size, world_size),
            sampler=sharded if world_size > 1 else None,
            collate_fn=keep_batch,
            generator=torch.Generator(),
            **self._loader_arguments(),
        )

    def _shuffled_loader(
        self, batch_size: int, rank: int, world_size: int
    ) -> ResumableLoader | RunLoader:
        size = len(self.train_set)
        if self.drop_last and batch_size * world_size > size:
            raise InputError(
                f"expected at least {batch_size * world_size} training images for one batch "
                f"on each device, got {size}: lower batch_size or use drop_last=false"
            )
        sampler = EpochSampler(
            self.train_set,
            batch_size=batch_size,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            drop_last=self.drop_last,
        )
        return ResumableLoader(
            self.train_set,
            batch_size=batch_size,
            sampler=sampler,
            drop_last=self.drop_last,
            **self._loader_arguments(),
        )

    def _full_batch_loader(self, rank: int, world_size: int) -> FullBatchLoader:
        size = len(self.train_set)
        if size < world_size:
            raise InputError(
                f"expected at least one training image for each of {world_size} devices, got "
                f"{size}: raise n_train or use fewer devices"
            )
        return FullBatchLoader(
            self.train_set,
            self.transform,
            device=self.trainer.strategy.root_device if self.trainer else None,
            steps=max(1, self.trainer.max_steps if self.trainer else 1),
            share=contiguous_share(size, rank, world_size),
            augment=self.augment,
            gather=self.gathers,
        )

    def _loader_arguments(self) -> dict[str, Any]:
        return {
            "num_workers": self.num_workers,
            "pin_memory": self.pin_memory,
            "persistent_workers": self.num_workers > 0,
        }

    def _ranks(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _dtype(self) -> torch.dtype:
        module = self.trainer.lightning_module if self.trainer else None
        return cast(torch.dtype, module.dtype) if module is not None else torch.get_default_dtype()


def _batch_is_trained(trainer: pl.Trainer) -> bool:
    """Whether the Trainer has finished the step of the batch it fetched last."""
    progress: Any = trainer.fit_loop.epoch_loop.batch_progress.current
    return bool(progress.processed == progress.ready)
