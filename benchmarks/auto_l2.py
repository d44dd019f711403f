"""What AutoL2 costs against a training step of WRN-16-2.

Batches of 128 random images of CIFAR's shape, float32, momentum, in the Trainer. Three figures:

- a training step without the callback;
- the callback between measurements: how much longer a step of a trivial module takes in the Trainer
  with it, its hooks and Lightning's calls of them included, since that is far below the scatter of
  a step of WRN-16-2;
- a measurement, on a subset of the training set and on the batch of the last update.

Operations on tensors in the callback's hooks are counted; without any between measurements it can't
wait for a device there. On a GPU torch's own guard (`torch.cuda.set_sync_debug_mode`) watches, too.

    python benchmarks/auto_l2.py [--device cuda] [--threads 1] [--steps 20] [--size 1000]
"""

import argparse
import logging
import platform
import time
import warnings
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset

from lightning_lazy import ScaledLightningModule
from lightning_lazy.callbacks import AutoL2
from lightning_lazy.losses import NormalizedSoftmaxLoss
from lightning_lazy.models import WideResNet

BATCH, PERIOD, TRIVIAL_STEPS, WINDOW = 128, 5, 3000, 500


def now(device: str) -> float:
    """Return the time when the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class Clock(pl.Callback):
    """Keeps the seconds a step of the fastest window; the first window warms up."""

    def __init__(self, device: str, window: int = 1) -> None:
        self.device, self.window = device, window
        self.start, self.best = 0.0, float("inf")

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        """Read the clock at the end of a window."""
        step = trainer.global_step
        if step % self.window == 0:
            end = now(self.device)
            if step > self.window:
                self.best = min(self.best, (end - self.start) / self.window)
            self.start = now(self.device)


class Operations(TorchDispatchMode):
    """Counts operations on tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count one."""
        self.count += 1
        return func(*args, **(kwargs or {}))


class Watched(AutoL2):
    """Times its measurements and counts operations in its hooks between them."""

    def __init__(self, device: str, **options: Any) -> None:
        super().__init__(period=PERIOD, **options)
        self.device, self.best, self.operations = device, float("inf"), 0

    def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
        """Time a measurement; watch what is none."""
        if trainer.global_step % PERIOD == 0:
            start = now(self.device)
            super().on_train_batch_end(trainer, *rest)
            self.best = min(self.best, now(self.device) - start)
            return
        if self.device == "cuda":
            torch.cuda.set_sync_debug_mode("error")
        with Operations() as operations:
            super().on_train_batch_end(trainer, *rest)
        if self.device == "cuda":
            torch.cuda.set_sync_debug_mode("default")
        self.operations += operations.count


class Trivial(pl.LightningModule):
    """Has one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Return its square."""
        return self.weight.square()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Descend."""
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(module: pl.LightningModule, data: DataLoader[Any], device: str, *callbacks: Any) -> None:
    trainer = pl.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        max_epochs=1,
        limit_val_batches=0,
        callbacks=list(callbacks),
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(module, data)


def wide_resnet(images: int, device: str, *callbacks: Any) -> None:
    torch.manual_seed(0)
    module = ScaledLightningModule(
        WideResNet(3, 32, 10, depth=16, width=2.0, running_averages=False),
        NormalizedSoftmaxLoss(),
        partial(torch.optim.SGD, lr=0.2, momentum=0.9),
        centering="none",
    )
    data = TensorDataset(torch.randn(images, 3, 32, 32), torch.randint(10, (images,)))
    fit(module, DataLoader(data, batch_size=BATCH), device, *callbacks)


def between_measurements(device: str) -> float:
    """Return the seconds that the callback adds to a step; the two sides take turns."""
    data = DataLoader(torch.zeros(TRIVIAL_STEPS, 1))
    nothing = {"loss_fn": lambda module, batch: module.weight**2, "error_fn": lambda *_: 0.0}
    seconds: tuple[list[float], list[float]] = ([], [])
    for repeat in range(10):
        clock = Clock(device, WINDOW)
        auto = [AutoL2(period=10**9, size=1, **nothing)] if repeat % 2 else []
        fit(Trivial(), data, device, *auto, clock)
        seconds[repeat % 2].append(clock.best)
    return min(seconds[1]) - min(seconds[0])


def main() -> None:
    """Print a row a figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", type=int, default=1000, help="images of the subset")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    device, images = options.device, options.steps * BATCH
    clock = Clock(device)
    wide_resnet(images, device, clock)
    sides = {
        f"a measurement, subset of {options.size}": Watched(device, size=options.size),
        "a measurement, last batch": Watched(device, on="batch"),
    }
    for side in sides.values():
        wide_resnet(images, device, side)
    rows = {
        "training step": clock.best,
        "AutoL2 between measurements": between_measurements(device),
    }
    rows |= {name: side.best for name, side in sides.items()}
    print(f"torch {torch.__version__}, {platform.machine()}, {device}, {options.threads} thread(s)")
    print("| | ms | / training step | goal |")
    print("|---|---|---|---|")
    for name, seconds in rows.items():
        goal = "at most 0.01" if "between" in name else ""
        print(f"| {name} | {1e3 * seconds:.3g} | {seconds / clock.best:.2g} | {goal} |")
    print(
        f"operations on tensors between measurements: {sum(s.operations for s in sides.values())}"
    )


if __name__ == "__main__":
    main()
