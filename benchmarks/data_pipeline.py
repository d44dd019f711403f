"""Images per second of random crop, flip and standardisation: ImageDataModule against torchvision.

    python benchmarks/data_pipeline.py

Both read the same synthetic 32×32 RGB images in shuffled batches of 128 and make float32 tensors on
the CPU. The peer is the usual recipe: PIL transforms in a DataLoader with two worker processes.
Ours is the training loader of the datamodules, without workers, and `on_after_batch_transfer`, by
default on one torch thread: one core against the peer's two. (More threads help on an idle machine
only; where other work takes the cores, they wait for each other.)

One measurement is one pass over the images, timed from its first batch to its last: steady state,
without the start of the workers (and with the batches that they read ahead, in the peer's favour).
The best of several passes counts, taken in turn, since other work on the machine only slows down.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from lightning_lazy.data import ImageSet, Transform
from lightning_lazy.data.memory import MemoryDataModule

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
PADDING = 4


class PilImages(Dataset[tuple[Tensor, int]]):
    """As torchvision's CIFAR10 does it: an array in memory, a PIL image and transforms for each."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(images.shape[-1], padding=PADDING),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


class SyntheticImages(MemoryDataModule):
    """The same images behind the loaders of `ImageDataModule`."""

    def __init__(self, images: Tensor, labels: Tensor, batch_size: int) -> None:
        super().__init__()
        self.train_set = self.val_set = ImageSet(images, labels)
        self.preprocess = Transform(
            mean=MEAN, std=STD, flatten=False, augment=True, padding=PADDING
        )
        self.batch_size, self.eval_batch_size, self.seed = batch_size, batch_size, 0
        self.augment, self.drop_last = True, False
        self.num_workers, self.pin_memory = 0, False


def torchvision_pass(images: Tensor, labels: Tensor, batch_size: int, workers: int) -> Any:
    loader = DataLoader(PilImages(images, labels), batch_size, shuffle=True, num_workers=workers)
    return lambda: iter(loader)


def our_pass(images: Tensor, labels: Tensor, batch_size: int) -> Any:
    data = SyntheticImages(images, labels, batch_size)
    loader = data.train_dataloader()
    return lambda: (data.on_after_batch_transfer(batch, 0) for batch in loader)


def images_per_second(start_pass: Callable[[], Iterator[Any]]) -> float:
    batches = start_pass()
    next(batches)
    start, count = time.perf_counter(), 0
    for x, _ in batches:
        count += len(x)
    return count / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=2, help="of the peer")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="torch threads of ours")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    generator = torch.Generator().manual_seed(0)
    shape = (args.images, 3, 32, 32)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (args.images,), generator=generator)
    peer_name = f"torchvision, {args.workers} workers"
    passes = {
        peer_name: torchvision_pass(images, labels, args.batch_size, args.workers),
        "lightning_lazy": our_pass(images, labels, args.batch_size),
    }
    rates: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(args.repeats):
        for name, start_pass in passes.items():
            rates[name].append(images_per_second(start_pass))

    print(
        f"torch {torch.__version__}, torchvision {torchvision.__version__}, "
        f"{os.cpu_count()} CPUs ({platform.machine()}), {torch.get_num_threads()} torch thread(s)"
    )
    print(
        f"crop, flip, standardise: {args.images} images of 32x32x3, batch {args.batch_size}, "
        f"best (and median) of {args.repeats} passes, timed from the first batch"
    )
    peer = max(rates[peer_name])
    print(f"{'pipeline':<24}{'images/s':>10}{'median':>10}{'ms/batch':>10}{'ratio':>8}")
    for name, values in rates.items():
        best, median = max(values), sorted(values)[len(values) // 2]
        ms = 1000 * args.batch_size / best
        print(f"{name:<24}{best:>10.0f}{median:>10.0f}{ms:>10.2f}{best / peer:>8.1f}")


if __name__ == "__main__":
    main()
