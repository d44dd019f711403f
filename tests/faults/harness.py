"""Kills real fits at random moments: forked children of one warm process.

Usage: ``CUDA_VISIBLE_DEVICES= python harness.py <folder> <seeds> <family> …`` (autograd's threads
for GPUs can't be forked), with the helpers of tests on the path. For every family and seed an
uninterrupted run and one that is killed with SIGKILL and resumed until it ends. Prints one JSON
line each: the kills, what is the same in both to the last bit, the seconds of CPU time.
"""

import gc
import json
import logging
import os
import random
import sys
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from families import FAMILIES
from kills import Kill, Moments, random_kill, run_in_children
from runs import Family

MOST_KILLS = 3


def compare(name: str, family: Family, seed: int, folder: Path) -> dict[str, Any]:
    """Kill and resume until the run ends; compare with the uninterrupted run."""
    whole, killed = folder / f"{seed}-whole", folder / f"{seed}-killed"
    total = run_in_children(family.of(seed, whole), None)
    assert total
    chance = random.Random(f"{name} {seed}")
    kills: list[Kill] = []
    while len(kills) < MOST_KILLS:
        # The first part may end before any checkpoint: the run then starts anew.
        kill = random_kill(chance, total, family.ranks, exact=seed % 2 == 0)
        if not kills and seed < 3:  # at the end: around the last checkpoint and the summary
            kill = replace(kill, moment=total - seed)
        if run_in_children(family.of(seed, killed), kill) is not None:
            break
        kills.append(kill)
    else:
        run_in_children(family.of(seed, killed), None)
    return {
        "family": name,
        "seed": seed,
        "kills": [asdict(kill) for kill in kills],
        "same": family.compare(whole, killed),
    }


def main(folder: Path, seeds: int, names: list[str]) -> None:
    """Print the results of all seeds of all families."""
    for name in names:
        # Imports and compiles what the children need, once for all of them; on one rank, since
        # threads of a process group would be lost in them.
        FAMILIES[name].run(0, folder / name / "warm", 0, Moments(-1, None))
        gc.freeze()  # so that a child, looking for garbage, does not copy the memory
        for seed in range(seeds):
            before = _cpu_seconds()
            result = compare(name, FAMILIES[name], seed, folder / name)
            result["cpu"] = round(_cpu_seconds() - before, 3)
            os.write(RESULTS, (json.dumps(result) + "\n").encode())


def _cpu_seconds() -> float:
    times = os.times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    RESULTS = os.dup(1)
    os.dup2(2, 1)  # whatever else is printed goes to stderr
    warnings.simplefilter("ignore")
    for package in ("pytorch_lightning", "lightning_fabric", "lightning_lazy"):
        logging.getLogger(package).setLevel(logging.WARNING)
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
