"""Runs that kill themselves: real fits in forked children of one warm process.

Usage: ``python harness.py <family> <folder> <seeds>``. For every seed an uninterrupted run and one
that is killed with SIGKILL at random updates and resumed, until it ends. Prints one JSON line a
seed: the kills, and whether weights and the metrics file are the same to the last bit.
"""

import json
import os
import random
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from lightning_lazy import MetricsLog, RunFiles

Family = Callable[[int], dict[str, Any]]
"""Makes the module, data, callbacks and settings of a run of a seed."""


class KillAt(pl.Callback):
    """Ends the process with SIGKILL at a moment of the run, counted in hook calls."""

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def _count(self, *_: Any, **__: Any) -> None:
        self.calls -= 1
        if self.calls == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    on_train_batch_start = on_before_optimizer_step = on_train_batch_end = _count
    on_validation_batch_end = on_validation_end = on_train_epoch_end = _count


class KillAtEnd(pl.Callback):
    """Ends the process with SIGKILL when training has ended and callbacks measure."""

    def on_train_end(self, *_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def fit(family: Family, seed: int, folder: Path, kill_after: int | None) -> None:
    """Run, or go on from the last checkpoint if there is one, and store the final weights.

    ``kill_after`` counts moments; 0 is the end, after the last checkpoint was made.
    """
    run = family(seed)
    random.seed(seed)
    ckpt = folder / "checkpoints" / "last.ckpt"
    files = RunFiles(str(folder), every_n_steps=run["every_n_steps"])
    callbacks = [files, *run["callbacks"]]
    if kill_after == 0:
        callbacks.insert(1, KillAtEnd())
    elif kill_after is not None:
        # First or last in the order of hooks, by chance.
        callbacks.insert(random.Random(kill_after).choice((0, len(callbacks))), KillAt(kill_after))
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        logger=MetricsLog(folder),
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        log_every_n_steps=1,
        **run["trainer"],
    )
    resumed = str(ckpt) if ckpt.is_file() else None
    trainer.fit(run["module"], datamodule=run["data"], ckpt_path=resumed, weights_only=True)
    torch.save(run["module"].state_dict(), folder / "final.pt")


def in_child(work: Callable[[], None]) -> bool:
    """Run ``work`` in a forked child; return whether it was killed. Any other failure raises."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    if status != 0:
        raise RuntimeError(f"a child ended with status {status}")
    return False


def compare(family: Family, seed: int, folder: Path) -> dict[str, Any]:
    """Kill and resume until the run ends; compare with the uninterrupted run."""
    whole, killed = folder / f"{seed}-whole", folder / f"{seed}-killed"
    in_child(partial(fit, family, seed, whole, None))
    chance = random.Random(f"{family.__name__} {seed}")
    kills = []
    if seed == 0:
        kills.append(0)
        assert in_child(partial(fit, family, seed, killed, 0))
    while True:
        # The first part may end before any checkpoint: the run then starts anew.
        kills.append(chance.randint(1, 70))
        if not in_child(partial(fit, family, seed, killed, kills[-1])):
            break
    one, other = (torch.load(f / "final.pt", weights_only=True) for f in (whole, killed))
    return {
        "seed": seed,
        "kills": kills[:-1],
        "same_weights": all(
            torch.equal(one[k], other[k]) if torch.is_tensor(one[k]) else one[k] == other[k]
            for k in one
        ),
        "same_rows": (whole / "metrics.csv").read_bytes() == (killed / "metrics.csv").read_bytes(),
        "rows": len((whole / "metrics.csv").read_text().splitlines()) - 1,
    }


if __name__ == "__main__":
    from families import FAMILIES

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for number in range(int(sys.argv[3])):
        result = compare(FAMILIES[sys.argv[1]], number, Path(sys.argv[2]))
        print(json.dumps(result), flush=True)
