"""A grid that is killed at random and started again until it ends, in forked children.

Usage: ``python killed_grid.py <folder> <seeds>``. Prints a JSON line a seed: the moments of the
kills, and whether the table is that of an uninterrupted run, times excepted.
"""

import json
import os
import random
import signal
import sys
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from grids import KillAt, cells_of, fit, make_grid


def run(folder: Path, kill_after: float | None, changes: dict[str, Any]) -> bool:
    """Run in a child, to be killed after so many rounds or, if broken, seconds, in any line.

    Returns:
        Whether it was killed.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            callbacks = [KillAt(kill_after)] if isinstance(kill_after, int) else []
            if isinstance(kill_after, float):
                signal.setitimer(signal.ITIMER_REAL, kill_after)  # SIGALRM ends the process
            fit(make_grid(folder, **changes), callbacks=callbacks)
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status) and status != 0:
        raise RuntimeError(f"a child ended with status {status}")
    return os.WIFSIGNALED(status)


def compare(folder: Path, seed: int) -> dict[str, Any]:
    """Kill and start again until the grid is done; compare with the uninterrupted one."""
    from lightning_lazy.losses import SquaredLoss
    from lightning_lazy.models import FullyConnected

    # Squared losses explode, so that chunks shrink on the way; every third grid is vmapped.
    changes: dict[str, Any] = {"loss": SquaredLoss()}
    if seed % 3 == 2:
        changes["net"] = partial(FullyConnected, 64, 6, 1, 10)
        changes["memory_budget"] = 500_000
    chance = random.Random(seed)
    start = time.perf_counter()
    run(folder / f"{seed}-whole", None, changes)
    length = time.perf_counter() - start
    moments = [
        chance.randint(1, 12) if seed % 2 else chance.uniform(0.1, 0.6) * length for _ in range(5)
    ]
    kills = [moment for moment in moments if run(folder / f"{seed}-killed", moment, changes)]
    run(folder / f"{seed}-killed", None, changes)
    whole, killed = (cells_of(folder / f"{seed}-{name}") for name in ("whole", "killed"))
    return {
        "kills": kills,
        "same": whole.equals(killed),
        "cells": len(whole),
        "stopped": int((whole["steps"] < 30).sum()),
        "left": [p.name for p in (folder / f"{seed}-killed" / "checkpoints").iterdir()],
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for number in range(int(sys.argv[2])):
        print(json.dumps(compare(Path(sys.argv[1]), number)), flush=True)
