"""Time of a training step of WRN-16-4 with noise before the activations, against a plain step.

    python benchmarks/noise.py

The step is that of the experiments of Li, Wei & Ma 2019: cross entropy, L2 term of all parameters,
Nesterov's momentum, images of CIFAR-10's shape. Noise is drawn for every element, the callback's
default, or one value for each place of the image, shared by channels and batch, as in the authors'
code. The hooks are those of `PreActivationNoise`; a plain step runs without hooks.

The three sides take turns step by step on one net, and each counts with its fastest step, in wall
clock and in processor time: on shared cores the second is the better guide.
"""

import argparse
import os
import platform
import time
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch

from lightning_lazy import ScaledLightningModule
from lightning_lazy.callbacks import PreActivationNoise
from lightning_lazy.losses import CrossEntropyLoss
from lightning_lazy.models import WideResNet

SIDES: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "noise of every element": {},
    "noise shared by batch and channels": {"shared_axes": [0, 1]},
}


class Step:
    """One training step, again and again on the same batch.

    Args:
        depth: Of the net.
        width: Of the net.
        batch: Images.
        device: Where it runs.
    """

    def __init__(self, depth: int, width: float, batch: int, device: torch.device) -> None:
        torch.manual_seed(0)
        self.module = ScaledLightningModule(
            WideResNet(3, 32, 10, depth=depth, width=width, init="fan_out"),
            CrossEntropyLoss(),
            partial(torch.optim.SGD, lr=0.004, momentum=0.9, nesterov=True),
            l2=5e-4,
            centering="none",
        ).to(device)
        self.device = device
        self.optimizer = self.module.configure_optimizers()
        self.batch = (
            torch.randn(batch, 3, 32, 32, device=device),
            torch.randint(0, 10, (batch,), device=device),
        )
        # What the callback asks of a Trainer.
        self.trainer: Any = SimpleNamespace(
            global_rank=0, global_step=0, current_epoch=0, optimizers=[self.optimizer],
            train_dataloader=None, loggers=[], callback_metrics={},
        )  # fmt: skip

    def seconds(self, callback: PreActivationNoise | None) -> tuple[float, float]:
        """Wall clock and processor time of one step."""
        if callback is not None:
            callback.on_train_start(self.trainer, self.module)
        start = self._now()
        if callback is not None:
            callback.on_train_batch_start(self.trainer, self.module, self.batch, 0)
        self.optimizer.zero_grad()
        (self.module.loss_of(self.batch) + self.module.penalty()).backward()
        self.optimizer.step()
        end = self._now()
        if callback is not None:
            callback.on_train_end(self.trainer, self.module)
        return end[0] - start[0], end[1] - start[1]

    def _now(self) -> tuple[float, float]:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--depth", type=int, default=16)
    parser.add_argument("--width", type=float, default=4.0)
    parser.add_argument("--batch", type=int, default=None, help="128 on a GPU, else 16")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = args.batch or (128 if device.type == "cuda" else 16)

    step = Step(args.depth, args.width, size, device)
    callbacks = {
        name: None if options is None else PreActivationNoise(0.4, **options)
        for name, options in SIDES.items()
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in SIDES}
    for number in range(args.steps + 1):
        for name, callback in callbacks.items():
            seconds = step.seconds(callback)
            if number:  # the first steps warm up
                times[name].append(seconds)

    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    print(
        f"torch {torch.__version__}, {os.cpu_count()} CPUs, {name}, {torch.get_num_threads()} "
        f"torch thread(s); WRN-{args.depth}-{args.width:g}, batch {size}, "
        f"fastest of {args.steps} steps"
    )
    print("\n| step | ms | ratio | processor, ms | ratio |")
    print("|---|---|---|---|---|")
    best = {side: [1000 * min(one) for one in zip(*times[side], strict=True)] for side in SIDES}
    for side, (wall, processor) in best.items():
        ratios = wall / best["plain"][0], processor / best["plain"][1]
        print(f"| {side} | {wall:.1f} | {ratios[0]:.2f} | {processor:.1f} | {ratios[1]:.2f} |")


if __name__ == "__main__":
    main()
