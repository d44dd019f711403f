"""A phase diagram of 20×20 cells in one stacked grid against the same cells one by one.

Gradient descent in float64, full batch, 500 steps a cell, on the two-layer net and the soft hinge
of Kanoh & Sugiyama 2021, at three sizes. Learning rates and output scales are such that no cell
leaves early. Whole processes are timed by ``phase_diagram_commands.py``. The peers:

- bare loop: an in-process autograd loop with torch.optim.SGD and nothing else, f(θ₀, x) computed
  once, for some of the cells. The other side is `StackedGrid` in a Trainer, measures included.
- vmap: the stack for any net, its steps alone.

Each side is measured with one and with two threads, the sides taking turns, and counts with its
best. The third size is bound by arithmetic: four cells and 100 steps do.

    python benchmarks/phase_diagram.py          # everything; on two cores some 10 minutes
    python benchmarks/phase_diagram.py quick    # a tenth of the cells, to see that it runs
"""

import logging
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from lightning_lazy.data.dataset import ImageSet
from lightning_lazy.data.memory import MemoryDataModule
from lightning_lazy.losses import SoftHingeLoss
from lightning_lazy.models import TwoLayerNet
from lightning_lazy.scaling import ScaledModel
from lightning_lazy.stacked import StackedGrid
from lightning_lazy.stacked.chunk import Chunk, Schedule
from lightning_lazy.stacked.grid import Grid
from lightning_lazy.stacked.stack import Task
from lightning_lazy.stacked.two_layer import TwoLayerStack
from lightning_lazy.stacked.updates import OptimizerOptions
from lightning_lazy.stacked.vmapped import VmappedStack

OUTPUTS, TEST = 10, 100
QUICK = "quick" in sys.argv[1:]
THREADS = (1, 2)


class Size(NamedTuple):
    """A size of the problem, how much of it is measured, and the goals."""

    n: int
    d: int
    h: int
    cells: int  # a side of the grid
    steps: int
    sampled: int  # cells of the bare loop
    over_bare: float

    def __str__(self) -> str:
        return f"{self.n}, {self.d}, {self.h}"

    @property
    def operations(self) -> int:
        """Floating-point operations of a cell's step, in its matrix products."""
        return 4 * self.n * self.d * self.h + 6 * self.n * self.h * OUTPUTS


SIZES = (
    Size(100, 64, 32, 20, 500, 10, 3),
    Size(500, 64, 100, 20, 500, 6, 1.4),
    Size(1000, 784, 300, 2, 100, 2, 0.95),
)


def axes(size: Size) -> dict[str, str]:
    side = 6 if QUICK and size.cells > 6 else size.cells
    return {"lr": f"1e-3:1:{side}", "alpha": f"1:1e3:{side}"}


class Data(MemoryDataModule):
    """Random points on the sphere, the same for all sides."""

    batch_size, eval_batch_size, seed = "full", 1000, 0
    augment, drop_last, num_workers, pin_memory = False, False, 0, False

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size

    def setup(self, stage: str | None = None) -> None:
        """Draw the points."""
        generator = torch.Generator().manual_seed(0)
        sets = []
        for n in (self.size.n, TEST):
            x = torch.randn(n, self.size.d, dtype=torch.float64, generator=generator)
            x *= self.size.d**0.5 / x.norm(dim=1, keepdim=True)
            sets.append(ImageSet(x, torch.randint(OUTPUTS, (n,), generator=generator)))
        self.train_set, self.val_set = sets
        self.preprocess = lambda raw, dtype: (raw.images.to(dtype), raw.labels)

    def whole(self) -> tuple[Tensor, Tensor]:
        """Return the training set."""
        self.setup()
        return self.train_set.images, self.train_set.labels


class Clocks(NamedTuple):
    """Wall time and the process's CPU time, in seconds."""

    wall: float
    cpu: float

    def per(self, count: float) -> "Clocks":
        """Return the times of one of so many."""
        return Clocks(self.wall / count, self.cpu / count)


def timed(work: Callable[[], Any]) -> Clocks:
    start = time.perf_counter(), time.process_time()
    work()
    return Clocks(time.perf_counter() - start[0], time.process_time() - start[1])


# --- the sides, each per step of a cell -----------------------------------------------------------


def stacked(size: Size) -> Clocks:
    """The whole grid in a Trainer."""
    with tempfile.TemporaryDirectory() as folder:
        grid = StackedGrid(
            partial(TwoLayerNet, size.d, size.h, OUTPUTS), SoftHingeLoss(), axes(size), size.steps,
            folder=folder,
        )  # fmt: skip
        trainer = pl.Trainer(
            accelerator="cpu", devices=1, max_epochs=-1, limit_val_batches=0, precision="64-true",
            logger=False, enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False,
        )  # fmt: skip
        clocks = timed(lambda: trainer.fit(grid, datamodule=Data(size)))
    return clocks.per(len(grid.cells) * size.steps)


def bare(size: Size) -> Clocks:
    """Some cells of the grid, one after another."""
    x, y = Data(size).whole()
    cells = Grid(axes(size)).cells
    chosen = cells[:: max(1, len(cells) // size.sampled)][: size.sampled]

    def work() -> None:
        for cell in chosen:
            model, loss_fn = ScaledModel(made(size), cell.alpha), SoftHingeLoss()
            optimizer = torch.optim.SGD(model.net.parameters(), lr=cell.lr)
            reference = model.reference(x)
            for _ in range(size.steps):
                optimizer.zero_grad()
                (loss_fn(model(x, reference), y) / cell.alpha**2).backward()
                optimizer.step()

    return timed(work).per(len(chosen) * size.steps)


def steps_alone(size: Size, kind: Any, device: str = "cpu", steps: int = 50) -> tuple[Clocks, int]:
    """Steps of one chunk, of as many cells as fit the default budget, and how many these are."""
    x, y = (value.to(device) for value in Data(size).whole())
    task = Task(x, y, SoftHingeLoss(), "subtract")
    budget = 8 * 2**20 if device == "cpu" else torch.cuda.mem_get_info()[0] // 2
    height = max(1, budget // TwoLayerStack.bytes_per_cell(made(size), task, 4))
    cells = Grid({"lr": f"1e-3:1:{height + 1}"}).cells[:height]
    nets = [made(size)] * height
    chunk = Chunk(cells, nets, task, Schedule(10**9, 10**9, OptimizerOptions()), kind)

    def work() -> None:
        for _ in range(steps):
            chunk._optimizer.step(chunk._gradients())
        if device == "cuda":
            torch.cuda.synchronize()

    work()
    return timed(work).per(height * steps), height


def softplus(size: Size) -> Clocks:
    """The two passes of the activation in a step of one cell."""
    hidden = torch.randn(size.h, size.n, dtype=torch.float64)
    active, rest = torch.empty_like(hidden), torch.empty_like(hidden)
    stack = TwoLayerStack(
        [made(size)], torch.ones(1, dtype=torch.float64),
        Task(*Data(size).whole(), SoftHingeLoss(), "subtract"),
    )  # fmt: skip

    def work() -> None:
        for _ in range(50):
            stack._activation(hidden, active, rest)
            stack._activation.differentiate(active, hidden, rest)

    return timed(work).per(50)


def made(size: Size) -> TwoLayerNet:
    torch.manual_seed(0)
    return TwoLayerNet(size.d, size.h, OUTPUTS).double()


def product_rate(device: str = "cpu", side: int = 1024) -> float:
    """Operations a second of the best of some square float64 matrix products."""
    a, b = (torch.randn(side, side, dtype=torch.float64, device=device) for _ in range(2))
    out = torch.empty_like(a)

    def work() -> None:
        torch.mm(a, b, out=out)
        if device == "cuda":
            torch.cuda.synchronize()

    return 2 * side**3 / min(timed(work).wall for _ in range(10))


# --- tables ---------------------------------------------------------------------------------------


def best(side: Callable[[Size], Clocks], found: dict[int, list[Clocks]], size: Size) -> None:
    """Measure a side once with each number of threads."""
    for threads in THREADS:
        torch.set_num_threads(threads)
        found[threads].append(side(size))


def against_loop(size: Size) -> None:
    """Print the row against the bare loop, and where the time goes."""
    sides: dict[str, Callable[[Size], Clocks]] = {
        "bare": bare,
        "stacked": stacked,
        "vmap": lambda one: steps_alone(one, VmappedStack, steps=5)[0],
        "softplus": softplus,
    }
    found = {name: {threads: [] for threads in THREADS} for name in sides}
    repeats = 1 if QUICK or size.n == 500 else 2
    for _ in range(repeats):
        for name, side in sides.items():
            best(side, found[name], size)
        best(bare, found["bare"], size)
    rates = {}
    for threads in THREADS:
        torch.set_num_threads(threads)
        rates[threads] = product_rate()
    wall = {n: min(c.wall for one in f.values() for c in one) for n, f in found.items()}
    cpu = {n: min(c.cpu for c in f[1]) for n, f in found.items()}
    share = size.operations / wall["stacked"] / max(rates.values())
    print(
        f"| {size} | {wall['bare'] * 1e6:.0f} µs | {wall['stacked'] * 1e6:.0f} µs "
        f"| {wall['bare'] / wall['stacked']:.2f} | {cpu['bare'] / cpu['stacked']:.2f} "
        f"| {size.over_bare} | {wall['bare'] / wall['vmap']:.2f} "
        f"| {share:.0%} of {max(rates.values()) / 1e9:.0f} GFLOP/s "
        f"| {cpu['softplus'] / cpu['stacked']:.0%} |",
        flush=True,
    )


def on_gpu() -> None:
    """Print the full-size cell on a GPU and what figure 3 would take."""
    size = Size(10_000, 784, 1000, 0, 0, 0, 0)
    clocks, height = steps_alone(size, TwoLayerStack, "cuda", 10)
    rate = product_rate("cuda", 8192)
    share = size.operations / clocks.wall / rate
    cells = 3 * 25 * 29
    print(
        f"{torch.cuda.get_device_name()}: {height} cells at once, {clocks.wall * 1e3:.2f} ms a "
        f"step and cell, {share:.0%} of {rate / 1e12:.1f} TFLOP/s; figure 3, {cells} cells of "
        f"5,000 steps: {cells * 5000 * clocks.wall / 3600:.2f} hours"
    )


def main() -> None:
    """Print the tables."""
    warnings.simplefilter("ignore")
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    print(f"torch {torch.__version__}, pytorch-lightning {pl.__version__}, {platform.machine()}")
    print("Per step of a cell:\n")
    print(
        "| n, d, h | bare loop | stacked | ratio | of CPU time | goal | vmap's ratio "
        "| share of the product rate | softplus |\n|---|---|---|---|---|---|---|---|---|"
    )
    for size in SIZES:
        against_loop(size)
    if torch.cuda.is_available():
        print()
        on_gpu()


if __name__ == "__main__":
    main()
