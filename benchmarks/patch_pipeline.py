"""What patches cost: crop, flip and standardisation with and without, and patching in Python.

    python benchmarks/patch_pipeline.py

Both sides read the same synthetic 32×32 RGB images in shuffled batches of 128 from the training
loader of the datamodules and make float32 tensors on the CPU, by default on one torch thread, with
the patches of Li, Wei & Ma 2019. The peer patches image by image, as a Dataset's ``__getitem__``
would: it draws with Python's generator and assigns to slices. Only its patching is timed. The last
row is the usual plain pipeline, torchvision's transforms of an image at a time, without a loader.

Plain and patched batches take turns, in an order that changes from pass to pass, since the second
finds the caches warm. Each batch counts with its fastest pass of several (each an epoch of its own,
whose draws count in its first batch): other work on the machine only slows down, and what patching
costs is a small difference of two times.
"""

import argparse
import math
import os
import platform
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from data_pipeline import PilImages, SyntheticImages
from torch import Tensor

from lightning_lazy.data import Patches
from lightning_lazy.data.patches import PatchTransform

SHAPE, CLASSES = (3, 32, 32), 10


class PythonPatches:
    """The same mixture, an image at a time: a function of a standardised image."""

    def __init__(self, patches: Patches, images: int) -> None:
        self.patches = patches
        row, column = patches.corner(*SHAPE[1:])
        self.window = ..., slice(row, row + patches.size), slice(column, column + patches.size)
        self.shared, self.by_class = (part.float() for part in patches.patterns(3, CLASSES))
        none = patches.fractions[0]
        self.augmented = [random.random() >= none for _ in range(images)]

    def patch(self, x: Tensor, index: int, label: int) -> Tensor:
        """Return the image as training sees it, itself changed in place."""
        if not self.augmented[index]:
            return x
        _, both, patch_only = self.patches.fractions
        strength = random.choice((-1.0, 1.0))
        if random.random() * (both + patch_only) >= both:
            x = torch.zeros_like(x)
            strength *= self.patches.patch_only_factor * random.random()
        x[self.window] = self.shared + strength * self.by_class[label]
        return x


class Pipeline(SyntheticImages):
    """Crop, flip and standardisation, and patches where there are any."""

    def __init__(
        self, images: Tensor, labels: Tensor, batch_size: int, patches: Patches | None
    ) -> None:
        super().__init__(images, labels, batch_size)
        if patches is not None:
            self.train_set = patches.training_set(self.train_set)
            self.preprocess = PatchTransform(self.preprocess, patches, SHAPE, CLASSES)
        self.loader = self.train_dataloader()

    def epoch(self, number: int) -> Iterator[Any]:
        """Pairs (x, y) of an epoch."""
        self.loader.set_epoch(number)
        for raw in self.loader:
            yield self.on_after_batch_transfer(raw, 0)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=10, help="passes")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    generator = torch.Generator().manual_seed(0)
    shape = (args.images, *SHAPE)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, CLASSES, (args.images,), generator=generator)
    patches = Patches()
    plain = Pipeline(images, labels, args.batch_size, None)
    patched = Pipeline(images, labels, args.batch_size, patches)
    by_image = PythonPatches(patches, args.images)

    pil_images = PilImages(images, labels)

    def in_python(x: Tensor) -> None:
        for place, image in enumerate(x):
            by_image.patch(image, place, place % CLASSES)

    def torchvision() -> None:
        for place in range(args.batch_size):
            pil_images[place]

    best = torch.full((2, len(plain.loader)), torch.inf, dtype=torch.float64)
    peers: dict[str, float] = {"python": math.inf, "usual": math.inf}
    for epoch in range(args.repeats):
        sides = plain.epoch(epoch), patched.epoch(epoch)
        for number in range(len(plain.loader)):
            for side in (0, 1) if epoch % 2 else (1, 0):
                _, seconds = timed(partial(next, sides[side]))
                best[side, number] = min(best[side, number], seconds)
        whole = torch.randn(args.batch_size, *SHAPE)
        peers["python"] = min(peers["python"], timed(partial(in_python, whole))[1])
        peers["usual"] = min(peers["usual"], timed(torchvision)[1])
    base, with_patches = (1e6 * best.sum(1) / args.images).tolist()
    python, usual = (1e6 * seconds / args.batch_size for seconds in peers.values())
    cost = with_patches - base

    print(
        f"torch {torch.__version__}, {os.cpu_count()} CPUs ({platform.machine()}), "
        f"{torch.get_num_threads()} torch thread(s)"
    )
    print(
        f"{args.images} images of 32x32x3, batch {args.batch_size}, every batch's fastest of "
        f"{args.repeats} passes"
    )
    print("\n| | µs an image | of ours | of torchvision's | Python / this |")
    print("|---|---|---|---|---|")
    rows = {
        "crop, flip, standardise": base,
        "the same with patches": with_patches,
        "patches alone": cost,
        "patches in Python": python,
        "crop, flip, standardise by torchvision": usual,
    }
    for name, value in rows.items():
        ratio = f"{python / value:.1f}" if value in (cost, python) else ""
        print(
            f"| {name} | {value:.2f} | {100 * value / base:.1f}% | {100 * value / usual:.2f}% "
            f"| {ratio} |"
        )


if __name__ == "__main__":
    main()
