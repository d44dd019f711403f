"""The images that a callback measures on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch.utils.data import DataLoader

from lightning_lazy.checks import check_choice, check_period, check_size
from lightning_lazy.data.sampling import contiguous_share
from lightning_lazy.errors import InputError
from lightning_lazy.random_state import same_random_state_after

DEFAULT_SIZE = 1000
Split = Literal["train", "val"]


class Probe:
    """A fixed random subset of a Trainer's training or validation set.

    It is loaded once and stays on the device, so that data sets that draw at random give the same
    samples every time. Every rank sees its own part, contiguous and without padding, so that sums
    over ranks are sums over the subset. Batches go through the same transfer hooks as those of the
    Trainer. Nothing is drawn from global generators.

    Args:
        split: ``train`` or ``val``: the first loader of that kind whose dataset has a length;
            ``None``: of either, ``val`` first.
        size: Number of samples; ``None``: 1000, or all if there are fewer.
        batch_size: Samples in one forward pass.
        seed: Of the choice of samples.

    Raises:
        InputError: ``split`` is unknown or a number is below 1; when used, the loader is not there
            or its dataset is smaller than ``size``.
    """

    def __init__(
        self,
        split: Split | None = "val",
        size: int | None = None,
        batch_size: int = 250,
        seed: int = 0,
    ) -> None:
        if split is not None:
            check_choice("split", split, get_args(Split))
        check_period("size", size)
        check_size("batch_size", batch_size)
        self.split = split
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self._batches: list[Any] | None = None

    def batches(self, trainer: Any, whole: bool = False) -> list[Any]:
        """Return this rank's batches, on the device and in the dtype of training.

        Args:
            trainer: The Trainer.
            whole: Whether batches go to ranks whole, for quantities that depend on which samples
                are in a batch together: those of one process and of several are then the same. A
                rank may get none.
        """
        if self._batches is None:
            with same_random_state_after():
                self._batches = list(self._load(trainer, whole))
        return self._batches

    def _load(self, trainer: Any, whole: bool) -> Iterator[Any]:
        loader = self._loader(trainer)
        indices = self._indices(len(loader.dataset))
        own = DataLoader(
            loader.dataset,
            batch_size=self.batch_size,
            sampler=[indices[i] for i in self.own_share(len(indices), trainer, whole)],
            collate_fn=loader.collate_fn,
            generator=torch.Generator().manual_seed(self.seed),
        )
        for batch in own:
            yield on_device(trainer, batch)

    def _loader(self, trainer: Any) -> Any:
        for split in ("val", "train") if self.split is None else (self.split,):
            for loader in _loaders(trainer, split):
                if hasattr(getattr(loader, "dataset", None), "__len__"):
                    return loader
        raise InputError(
            f"no {self.split or 'val or train'} loader with a dataset of known length to take a "
            f"probe set from: choose the split {'val' if self.split == 'train' else 'train'!r}"
        )

    def own_share(self, samples: int, trainer: Any, whole: bool) -> range:
        """Return this rank's part of a probe set of so many samples."""
        if not whole:
            return own_share(samples, trainer)
        batches = own_share(-(-samples // self.batch_size), trainer)
        return range(batches.start * self.batch_size, batches.stop * self.batch_size)[
            : max(0, samples - batches.start * self.batch_size)
        ]

    def _indices(self, available: int) -> list[int]:
        size = min(DEFAULT_SIZE, available) if self.size is None else self.size
        if size > available:
            raise InputError(
                f"the probe set should have {size} samples, the {self.split or 'val'} set has "
                f"{available}: "
                f"choose a size up to {available}"
            )
        generator = torch.Generator().manual_seed(self.seed)
        chosen = torch.randperm(available, generator=generator)[:size]
        return chosen.sort().values.tolist()


def _loaders(trainer: Any, split: str) -> Iterator[Any]:
    """Give the loaders of a split, also where they stand in dictionaries and lists."""
    if split == "train":
        yield from _flat(trainer.train_dataloader)
        return
    if trainer.val_dataloaders is None:
        # Lightning makes them before the first validation, which may be some epochs ahead.
        try:
            trainer.fit_loop.epoch_loop.val_loop.setup_data()
        except Exception as error:
            if type(error).__name__ != "MisconfigurationException":  # of either package
                raise
            return  # there are none
    yield from _flat(trainer.val_dataloaders)


def _flat(loaders: Any) -> Iterator[Any]:
    if isinstance(loaders, Mapping):
        loaders = list(loaders.values())
    if isinstance(loaders, Sequence):
        for part in loaders:
            yield from _flat(part)
    else:
        yield loaders


def own_share(samples: int, trainer: Any) -> range:
    """Return this rank's part of a probe set of so many samples."""
    return contiguous_share(samples, trainer.global_rank, trainer.world_size)


def on_device(trainer: Any, batch: Any) -> Any:
    """Return a batch as the Trainer's own loop would hand it to ``training_step``."""
    batch = trainer.precision_plugin.convert_input(batch)
    module, data = trainer.lightning_module, trainer.datamodule
    for hook in ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"):
        owner = data if data is not None and _overrides(data, hook) else module
        device = (module.device,) if hook == "transfer_batch_to_device" else ()
        batch = getattr(owner, hook)(batch, *device, 0)
    return batch


def _overrides(datamodule: Any, hook: str) -> bool:
    """Return whether the class of ``datamodule`` defines ``hook`` itself."""
    own = getattr(type(datamodule), hook)
    return not own.__module__.endswith("core.hooks")


def first_element(batch: Any) -> Any:
    """Return the inputs of a batch ``(inputs, …)``, or the batch itself if it is a tensor.

    Raises:
        InputError: The batch is of another kind.
    """
    if torch.is_tensor(batch):
        return batch
    if isinstance(batch, list | tuple) and batch:
        return batch[0]
    raise InputError(
        f"can't tell the inputs in a batch of type {type(batch).__name__}: pass "
        "forward=function(module, batch) to the callback"
    )


def default_forward(pl_module: Any, batch: Any) -> Any:
    """Return the module's output on the inputs of a batch."""
    return pl_module(first_element(batch))


def net_forward(pl_module: Any, batch: Any) -> Any:
    """Run the module on the inputs of a batch; a centred one without its frozen copy."""
    return getattr(pl_module, "uncentred", pl_module)(first_element(batch))
