"""Time of a training step of WRN-28-10 in bfloat16, by memory format, eager and compiled.

The step is that of Lewkowycz & Gur-Ari 2020, figure 1: WRN-28-10 with batch statistics, images of
CIFAR-10's shape, mixed targets, cross entropy divided by 2k, L2 term of all parameters, momentum;
128 images, what each of the paper's eight devices takes. Weights are in single precision and the
net computes under autocast in bfloat16; the first row is single precision throughout, for
comparison. Each setting runs in a process of its own and counts with the median of its steps, after
some that warm up (and compile). Peak memory is that of the allocator of a GPU.

Without a GPU it shows the same table of a net that a CPU can train, WRN-10-1.

    python benchmarks/wide_resnet.py
"""

import argparse
import multiprocessing
import os
import platform
import statistics
import time
from functools import partial
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from lightning_lazy import ScaledLightningModule
from lightning_lazy.losses import NormalizedSoftmaxLoss
from lightning_lazy.models import WideResNet


class Setting(NamedTuple):
    """What one row of the table measures."""

    name: str
    bf16: bool
    channels_last: bool
    compiled: bool


SETTINGS = (
    Setting("float32, contiguous, eager", False, False, False),
    Setting("bfloat16, contiguous, eager", True, False, False),
    Setting("bfloat16, contiguous, compiled", True, False, True),
    Setting("bfloat16, channels last, eager", True, True, False),
    Setting("bfloat16, channels last, compiled", True, True, True),
)


class Step:
    """One training step, again and again on the same batch.

    Args:
        setting: Precision, memory format, compiled or not.
        device: Where it runs.
        depth: Of the net.
        width: Of the net.
        batch: Images.
    """

    def __init__(
        self, setting: Setting, device: torch.device, depth: int, width: float, batch: int
    ) -> None:
        torch.manual_seed(0)
        layout = torch.channels_last if setting.channels_last else torch.contiguous_format
        net = WideResNet(3, 32, 10, depth=depth, width=width, running_averages=False)
        self.module = ScaledLightningModule(
            net,
            NormalizedSoftmaxLoss(),
            partial(torch.optim.SGD, lr=0.2, momentum=0.9),
            l2=5e-4,
            centering="none",
        ).to(device=device, memory_format=layout)
        self.optimizer = self.module.configure_optimizers()
        if setting.compiled:
            self.module.net.compile()
        images = torch.randn(batch, 3, 32, 32, device=device).to(memory_format=layout)
        self.batch = images, torch.rand(batch, 10, device=device).softmax(1)
        self.autocast = partial(torch.autocast, device.type, torch.bfloat16, enabled=setting.bf16)
        self.device = device

    def __call__(self) -> None:
        """Take a step, and wait for its end."""
        self.optimizer.zero_grad()
        with self.autocast():
            loss = self.module.loss_of(self.batch) + self.module.penalty()
        loss.backward()
        self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def measure(setting: Setting, args: argparse.Namespace, results: "multiprocessing.Queue") -> None:
    """Put the first step's time, the median of the later ones and the peak memory on a queue."""
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    step = Step(setting, device, args.depth, args.width, args.batch)
    seconds = []
    for number in range(args.warmup + args.steps):
        if number == args.warmup and device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else None
    results.put((seconds[0], statistics.median(seconds[args.warmup :]), peak))


def operations(args: argparse.Namespace) -> float:
    """Floating-point operations of a step, two for a multiplication with its addition."""
    step = Step(SETTINGS[0], torch.device("cpu"), args.depth, args.width, batch=2)
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() * args.batch / 2


def arguments() -> argparse.Namespace:
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--device", default="cuda" if gpu else "cpu")
    parser.add_argument("--depth", type=int, default=28 if gpu else 10)
    parser.add_argument("--width", type=float, default=10 if gpu else 1)
    parser.add_argument("--batch", type=int, default=128 if gpu else 32)
    parser.add_argument("--warmup", type=int, default=10 if gpu else 2)
    parser.add_argument("--steps", type=int, default=50 if gpu else 5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


def main() -> None:
    args = arguments()
    flops = operations(args)
    name = platform.machine() if args.device == "cpu" else torch.cuda.get_device_name()
    print(f"torch {torch.__version__}, {name}, {os.cpu_count()} CPUs, {args.threads} thread(s)")
    print(
        f"WRN-{args.depth}-{args.width:g}, {args.batch} images, {flops / 1e9:.0f} GFLOP a step, "
        f"median of {args.steps} steps"
    )
    print("\n| setting | first step, s | ms | images/s | TFLOP/s | ratio | peak, MB |")
    print("|---|---|---|---|---|---|---|")
    context = multiprocessing.get_context("spawn")
    base = None
    for setting in SETTINGS:
        results = context.Queue()
        process = context.Process(target=measure, args=(setting, args, results))
        process.start()
        process.join()
        if process.exitcode:
            print(f"| {setting.name} | failed | | | | | |")
            continue
        first, median, peak = results.get()
        base = base or median
        print(
            f"| {setting.name} | {first:.1f} | {1000 * median:.1f} | {args.batch / median:.0f} "
            f"| {flops / median / 1e12:.3g} | {base / median:.2f} "
            f"| {'' if peak is None else f'{peak:.0f}'} |"
        )


if __name__ == "__main__":
    main()
