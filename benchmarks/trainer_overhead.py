"""Full-batch steps per second in the Trainer against a bare PyTorch loop of the same model.

The Trainer side is what ``train.py batch_size=full`` runs: `ScaledLightningModule`, the default
callbacks, `RunFiles`, `MetricsLog`; logging, guards and activation stability every 50 steps, a
checkpoint every 500; progress bar off, one validation at the end (the bare loop has none). The bare
loop computes the same centred loss and takes the same optimizer's steps. Each side is measured with
one and with two threads, the two taking turns, and counts with its fastest window of 100 steps, two
rounds of logging included: on a shared machine the fastest window is the least disturbed one.

The Trainer side computes f(θ₀, x) once, as it does for every full batch; the bare loop in every
step.

    python benchmarks/trainer_overhead.py
"""

import logging
import platform
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_lazy import MetricsLog, RunFiles, ScaledLightningModule, ScaledModel
from lightning_lazy.callbacks import ActivationStability, DivergenceGuard, FrozenParameters
from lightning_lazy.data.dataset import ImageSet, ReadyBatch
from lightning_lazy.data.loader import FullBatchLoader
from lightning_lazy.losses import SoftHingeLoss
from lightning_lazy.models import TwoLayerNet

SIZES = ((500, 64, 100, 0.5), (2000, 784, 300, 0.9))
PERIOD = 50
WINDOW = 100
REPEATS = 3


class Clock(pl.Callback):
    """Keeps the rate of the fastest window of 100 steps, each with two rounds of logging."""

    def __init__(self) -> None:
        self.rate, self.start = 0.0, 0.0

    def tick(self, step: int) -> None:
        """Read the clock at the end of a window."""
        if step % WINDOW == 0:
            now = time.perf_counter()
            if step > WINDOW:  # the first window warms up
                self.rate = max(self.rate, WINDOW / (now - self.start))
            self.start = now

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        """Count an update."""
        self.tick(trainer.global_step)


class Data(pl.LightningDataModule):
    """Random images as one full batch; the validation set is only the probe of the callbacks."""

    def __init__(self, x: Tensor, y: Tensor, steps: int) -> None:
        super().__init__()
        self.x, self.y, self.steps = x, y, steps

    def train_dataloader(self) -> FullBatchLoader:
        """Serve the same batch at every step."""
        images = ImageSet(torch.zeros(len(self.y), 1, 1, 1, dtype=torch.uint8), self.y)
        return FullBatchLoader(images, lambda raw: (self.x, self.y), steps=self.steps)

    def val_dataloader(self) -> torch.utils.data.DataLoader:
        """Serve (x, y) pairs."""
        pairs = torch.utils.data.TensorDataset(self.x, self.y)
        return torch.utils.data.DataLoader(pairs, batch_size=500)

    def transfer_batch_to_device(self, batch: object, device: object, index: int) -> object:
        """Leave a batch that is where it belongs."""
        if type(batch) is ReadyBatch:
            return batch
        return super().transfer_batch_to_device(batch, device, index)


def bare(net: TwoLayerNet, x: Tensor, y: Tensor, steps: int) -> float:
    """Return the steps per second of a loop without anything around it."""
    model, loss_fn = ScaledModel(net), SoftHingeLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    clock = Clock()
    for step in range(steps):
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        optimizer.step()
        clock.tick(step + 1)
    return clock.rate


def trained(net: TwoLayerNet, x: Tensor, y: Tensor, steps: int, folder: str) -> float:
    """Return the steps per second of the Trainer."""
    clock = Clock()
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        precision="64-true" if x.dtype == torch.float64 else "32-true",
        logger=MetricsLog(folder),
        callbacks=[
            RunFiles(folder, every_n_steps=10 * PERIOD),
            DivergenceGuard(every_n_steps=PERIOD),
            FrozenParameters(every_n_steps=PERIOD),
            ActivationStability(every_n_steps=PERIOD),
            clock,
        ],
        limit_val_batches=1.0,
        val_check_interval=steps,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        log_every_n_steps=1,
    )
    module = ScaledLightningModule(
        net, SoftHingeLoss(), partial(torch.optim.SGD, lr=0.1), log_every_n_steps=PERIOD
    )
    trainer.fit(module, datamodule=Data(x, y, steps))
    return clock.rate


def best(n: int, d: int, h: int, dtype: torch.dtype) -> tuple[float, float]:
    """Return the best rates of the bare loop and of the Trainer over threads and repeats."""
    steps = 1000 if n < 1000 else 200
    x, y = torch.randn(n, d, dtype=dtype), torch.randint(10, (n,))
    rates: dict[str, list[float]] = {"bare": [], "trainer": []}
    for repeat in range(2 * REPEATS):
        torch.set_num_threads(1 + repeat % 2)
        rates["bare"].append(bare(TwoLayerNet(d, h, 10).to(dtype), x, y, steps))
        with tempfile.TemporaryDirectory() as folder:
            run = str(Path(folder) / "run")
            rates["trainer"].append(trained(TwoLayerNet(d, h, 10).to(dtype), x, y, steps, run))
    return max(rates["bare"]), max(rates["trainer"])


def main() -> None:
    """Print a row a size and dtype."""
    warnings.simplefilter("ignore")
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    print(f"torch {torch.__version__}, pytorch-lightning {pl.__version__}, {platform.machine()}")
    print("| n, d, h | dtype | bare loop, steps/s | Trainer, steps/s | ratio | goal |")
    print("|---|---|---|---|---|---|")
    for n, d, h, goal in SIZES:
        for dtype in (torch.float32, torch.float64):
            loop, trainer = best(n, d, h, dtype)
            name = str(dtype).removeprefix("torch.")
            print(
                f"| {n}, {d}, {h} | {name} | {loop:.0f} | {trainer:.0f} | {trainer / loop:.2f} "
                f"| {goal} |"
            )


if __name__ == "__main__":
    main()
