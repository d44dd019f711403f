"""``python train.py`` with a grid of 20×20 cells against a multirun of them, whole processes.

The cells are those of ``phase_diagram.py``. The peer is ``python train.py -m`` over single runs,
with the callbacks that measure what a grid measures (stability of activations, lost updates,
divergence, distance of the parameters), without progress bar and figure. It is timed with one cell
and with nine; the rest is linear in the cells. Each side is timed with one and with two threads,
the sides taking turns, and counts with its best.

    python benchmarks/phase_diagram_commands.py          # on two cores some 15 minutes
    python benchmarks/phase_diagram_commands.py quick    # fewer cells, to see that it runs
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from phase_diagram import QUICK, SIZES, TEST, THREADS, Size, axes

from lightning_lazy.stacked.grid import Grid

ROOT = Path(__file__).parent.parent
GOALS = {SIZES[0]: 30, SIZES[1]: 4}


def process(size: Size, threads: int, *arguments: str) -> float:
    """Wall time of ``python train.py``, in an empty folder."""
    common = (
        f"model.width={size.h}", f"data.n_train={size.n}", f"data.n_val={TEST}", "data=digits",
        f"max_steps={size.steps}", "batch_size=full", "trainer=float64", "data.normalize=sphere",
        "hydra/job_logging=none", "figures.learning_curve=null",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-W", "ignore", str(ROOT / "train.py"), *arguments, *common],
            cwd=folder, check=True, capture_output=True, timeout=3600,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        )  # fmt: skip
        return time.perf_counter() - start


def grid_process(size: Size, threads: int) -> float:
    """The whole grid as a command."""
    given = [f"stacked.axes.{name}={values}" for name, values in axes(size).items()]
    return process(
        size, threads, "experiment=kanoh/phase_diagram_quick", "hydra.mode=RUN", *given,
        "data.resolution=null", "stacked.axes.optimizer=sgd", "stacked.hessian=none",
        "figures.paper=null",
        "callbacks.progress_bar=null",
    )  # fmt: skip


def multirun_process(size: Size, threads: int) -> tuple[float, float]:
    """The whole grid as a multirun, extrapolated, and the seconds of one of its runs."""
    several = 3 if QUICK else 9
    first, last = (
        process(
            size, threads, "-m", "lr=0.1", f"alpha={','.join(map(str, range(1, 1 + count)))}",
            "callbacks.progress_bar=null",
            "+callbacks.distance._target_=lightning_lazy.callbacks.ParameterDistance",
        )
        for count in (1, several)
    )  # fmt: skip
    one = (last - first) / (several - 1)
    return first + one * (len(Grid(axes(size)).cells) - 1), one


def against_multirun(size: Size) -> None:
    """Print the row against the multirun."""
    grids, multiruns = [], []
    for threads in THREADS:
        multiruns.append(multirun_process(size, threads))
        grids.append(grid_process(size, threads))
    multirun, one = min(multiruns)
    print(
        f"| {size} | {one:.2f} s | {multirun:.0f} s | {min(grids):.0f} s "
        f"| {multirun / min(grids):.1f} | {GOALS[size]} |",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    print(f"The whole grid, {len(Grid(axes(SIZES[0])).cells)} cells of 500 steps:\n")
    print("| n, d, h | a single run | multirun | grid | ratio | goal |\n|---|---|---|---|---|---|")
    for size in GOALS:
        against_multirun(size)


if __name__ == "__main__":
    main()
