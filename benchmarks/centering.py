"""A centred training step of VGG-11 with the reference cache against the plain protocol.

Both sides train F = α (f(θ, x) − f(θ₀, x)) on the squared loss over α², batches of 128 CIFAR-shaped
images, SGD with momentum, float32. The plain side is the published protocol written in plain
PyTorch: the net and a frozen copy, two forward passes in every step, and in every evaluation hooks
that keep the activations of both nets and compare them. The other side is `ScaledLightningModule`
in the Trainer, with its reference cache and `ActivationStability`. Every measurement is a process
of its own, the two taking turns; a step counts with its fastest after the first epoch, memory with
the peak of the resident set over that before the net was built.

    python benchmarks/centering.py
"""

import copy
import json
import logging
import resource
import subprocess
import sys
import time
import warnings
from functools import partial

import pytorch_lightning as pl
import torch
from torch import nn

from lightning_lazy import ScaledLightningModule
from lightning_lazy.callbacks import ActivationStability
from lightning_lazy.data import ImageSet, Transform
from lightning_lazy.data.memory import MemoryDataModule
from lightning_lazy.losses import SquaredLoss
from lightning_lazy.models import VGG

ALPHA, BATCH, IMAGES, EPOCHS, REPEATS = 10.0, 128, 512, 3, 3


class RandomImages(MemoryDataModule):
    """Random pixels of CIFAR's shape, the same on both sides."""

    batch_size, eval_batch_size, seed = BATCH, 250, 0
    augment, drop_last, num_workers, pin_memory = False, True, 0, False

    def setup(self, stage: str | None = None) -> None:
        """Draw the images."""
        generator = torch.Generator().manual_seed(0)
        sets = []
        for n in (IMAGES, 1000):
            pixels = torch.randint(256, (n, 3, 32, 32), dtype=torch.uint8, generator=generator)
            sets.append(ImageSet(pixels, torch.randint(10, (n,), generator=generator)))
        self.train_set, self.val_set = sets
        self.preprocess = Transform(normalize="unit", flatten=False)


class Clock(pl.Callback):
    """Keeps the fastest step after the first epoch, and the time of the last evaluation."""

    def __init__(self) -> None:
        self.step, self.evaluation, self.start = float("inf"), 0.0, 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
        """Read the clock."""
        self.start = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        """Read the clock again."""
        if trainer.current_epoch > 0:
            self.step = min(self.step, time.perf_counter() - self.start)

    def on_validation_start(self, trainer: pl.Trainer, *_: object) -> None:
        """Begin an evaluation."""
        self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: object) -> None:
        """End it, the stability of activations included."""
        self.evaluation = time.perf_counter() - self.start


def peak() -> int:
    """Return the peak of the resident set so far, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def cached() -> dict[str, float]:
    """Measure this project's side."""
    before, clock = peak(), Clock()
    module = ScaledLightningModule(
        VGG(3, 32, 10, plan="vgg11"),
        SquaredLoss(),
        partial(torch.optim.SGD, lr=0.01, momentum=0.9),
        alpha=ALPHA,
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        callbacks=[ActivationStability(per_layer=False), clock],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=RandomImages())
    return {"step": clock.step, "evaluation": clock.evaluation, "peak": peak() - before}


def plain() -> dict[str, float]:
    """Measure the published protocol in plain PyTorch."""
    data = RandomImages()
    data.setup()
    before, fastest = peak(), float("inf")
    net = VGG(3, 32, 10, plan="vgg11")
    frozen = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    for epoch in range(EPOCHS):
        for raw in data.train_dataloader():
            start = time.perf_counter()
            x, y = data.transform(raw)
            optimizer.zero_grad()
            with torch.no_grad():
                reference = frozen(x)
            target = nn.functional.one_hot(y, 10).float()
            output = ALPHA * (net(x) - reference)
            loss = nn.functional.mse_loss(output, target) / ALPHA**2
            loss.backward()
            optimizer.step()
            if epoch > 0:
                fastest = min(fastest, time.perf_counter() - start)
        start = time.perf_counter()
        evaluate(net, frozen, data)
        evaluation = time.perf_counter() - start
    return {"step": fastest, "evaluation": evaluation, "peak": peak() - before}


@torch.no_grad()
def evaluate(net: nn.Module, frozen: nn.Module, data: RandomImages) -> tuple[float, float]:
    """Return accuracy and stability of activations, with hooks that keep the activations."""
    kept: dict[str, list[torch.Tensor]] = {"net": [], "frozen": []}
    handles = [
        part.register_forward_hook(lambda _, __, output, name=name: kept[name].append(output > 0))
        for name, one in (("net", net), ("frozen", frozen))
        for part in one.modules()
        if isinstance(part, nn.ReLU)
    ]
    correct, same, units = 0, 0, 0
    for raw in data.val_dataloader():
        x, y = data.transform(raw)
        output = net(x) - frozen(x)
        correct += int((output.argmax(1) == y).sum())
        for now, before in zip(kept["net"], kept["frozen"], strict=True):
            same, units = same + int((now == before).sum()), units + now.numel()
        kept["net"].clear()
        kept["frozen"].clear()
    for handle in handles:
        handle.remove()
    return correct / len(data.val_set), same / units


def measured(side: str) -> dict[str, float]:
    """Run one side in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, side], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print a row for each quantity, from the best of several processes."""
    results: dict[str, list[dict[str, float]]] = {"plain": [], "cached": []}
    for _ in range(REPEATS):
        for side, found in results.items():
            found.append(measured(side))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print("| VGG-11, float32 | plain | with the cache | ratio | goal |")
    print("|---|---|---|---|---|")
    goals = {"step": "1.25 or more", "evaluation": "", "peak": "1 or more"}
    for name, unit, scale in (
        ("step", "ms", 1e3),
        ("evaluation", "ms", 1e3),
        ("peak", "MiB", 1 / 1024),
    ):
        one, other = (min(r[name] for r in results[side]) for side in ("plain", "cached"))
        print(
            f"| {name} | {one * scale:.0f} {unit} | {other * scale:.0f} {unit} "
            f"| {one / other:.2f} | {goals[name]} |"
        )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for package in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(package).setLevel(logging.WARNING)
    if len(sys.argv) > 1:
        print(json.dumps({"plain": plain, "cached": cached}[sys.argv[1]]()))
    else:
        main()
