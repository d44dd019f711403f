"""One evaluation of activation stability against a plain forward pass of the same net.

VGG-11 in float32 on 1,000 random images of CIFAR's shape in batches of 250, without gradients. An
evaluation is what the callback does at each measurement: a forward pass with hooks, packed bits,
the comparison with the patterns at the start. The sides take turns; each counts with its fastest of
several passes, since on a shared machine the fastest is the least disturbed one. Memory: packed
patterns against the float32 values of the same units.

    python benchmarks/activation_stability.py [--threads 1] [--repeats 5]
"""

import argparse
import platform
import time
from collections.abc import Callable

import torch
from torch import Tensor

from lightning_lazy.laziness import (
    Patterns,
    activation_modules,
    activation_patterns,
    count_changes,
    stability,
    undisturbed,
)
from lightning_lazy.models import VGG

IMAGES, BATCH = 1000, 250


@torch.no_grad()
def forward(net: VGG, batches: list[Tensor]) -> None:
    for batch in batches:
        net(batch)


def patterns(net: VGG, batches: list[Tensor], pooling: bool) -> Patterns:
    modules = activation_modules(net, pooling=pooling)
    with undisturbed(net):
        return activation_patterns(net, modules, batches)


def evaluate(net: VGG, batches: list[Tensor], pooling: bool, initial: Patterns) -> None:
    stability(count_changes(initial, patterns(net, batches, pooling)))


def seconds(side: Callable[[], None]) -> float:
    start = time.perf_counter()
    side()
    return time.perf_counter() - start


def memory_ratio(kept: Patterns) -> float:
    """Return how many times smaller the patterns are than float32 values of the same units."""
    return sum(kept.units.values()) * IMAGES * 4 / sum(bits.nbytes for bits in kept.bits.values())


def main() -> None:
    """Print a row a side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    net = VGG(3, 32, 10).eval()
    batches = list(torch.split(torch.randn(IMAGES, 3, 32, 32), BATCH))
    initial = {pooling: patterns(net, batches, pooling) for pooling in (False, True)}
    sides: dict[str, Callable[[], None]] = {
        "forward pass": lambda: forward(net, batches),
        "activation stability": lambda: evaluate(net, batches, False, initial[False]),
        "with pooling": lambda: evaluate(net, batches, True, initial[True]),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.repeats):
        for name, side in sides.items():
            times[name].append(seconds(side))
    print(f"torch {torch.__version__}, {platform.machine()}, {options.threads} thread(s)")
    print("| | s | ratio | goal | patterns, MB | floats / patterns | goal |")
    print("|---|---|---|---|---|---|---|")
    plain = min(times["forward pass"])
    print(f"| forward pass | {plain:.2f} | 1 | | | | |")
    for (pooling, kept), name in zip(initial.items(), list(sides)[1:], strict=True):
        took, size = min(times[name]), sum(bits.nbytes for bits in kept.bits.values()) / 1e6
        goal = "" if pooling else "30"
        print(
            f"| {name} | {took:.2f} | {took / plain:.2f} | 1.3 | {size:.1f} "
            f"| {memory_ratio(kept):.1f} | {goal} |"
        )


if __name__ == "__main__":
    main()
