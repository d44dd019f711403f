"""Forked children, one for each rank of a run, that are killed from outside with SIGKILL."""

import os
import random
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytorch_lightning as pl

LONGEST_DELAY = 0.01  # seconds between a hook and the kill: some updates of a small net
TOLD = b"now"


@dataclass(frozen=True)
class Kill:
    """When which rank of a run is killed; the others follow, as torchrun has them.

    Attributes:
        moment: Hook calls of the rank until then.
        first: Whether its moments come first in the order of callbacks, or last.
        delay: Seconds after the moment, so that it may be in any line; ``None``: the rank waits for
            its end in the hook.
        rank: The rank that is killed first.
        grace: Seconds after which the others are.
    """

    moment: int
    first: bool
    delay: float | None
    rank: int = 0
    grace: float = 0.0


def random_kill(chance: random.Random, moments: int, ranks: int, exact: bool) -> Kill:
    """Draw a kill within the first ``moments`` moments of a run; ``exact``: in a hook."""
    return Kill(
        moment=chance.randint(1, moments),
        first=chance.random() < 0.5,
        delay=None if exact else chance.uniform(0, LONGEST_DELAY),
        rank=chance.randrange(ranks),
        grace=chance.choice((0.0, 0.05)),
    )


class Moments(pl.Callback):
    """Counts moments of a run, and tells the harness when the one of a kill has come.

    Args:
        pipe: Writing end of a pipe to the harness.
        kill: What is to come; ``None``: count only.
    """

    def __init__(self, pipe: int, kill: Kill | None) -> None:
        self.pipe, self.kill, self.count = pipe, kill, 0

    def _count(self, *_: Any, **__: Any) -> None:
        self.count += 1
        if self.kill is not None and self.count == self.kill.moment:
            os.write(self.pipe, TOLD)
            while self.kill.delay is None:
                signal.pause()

    on_train_batch_start = on_before_optimizer_step = on_train_batch_end = _count
    on_validation_batch_end = on_validation_end = on_train_epoch_end = _count
    on_train_end = on_fit_end = _count

    def among(self, callbacks: Sequence[pl.Callback]) -> list[pl.Callback]:
        """Return callbacks with this one before or behind them."""
        first = self.kill is not None and self.kill.first
        return [self, *callbacks] if first else [*callbacks, self]


Rank = Callable[[Moments], None]
"""The whole work of a rank."""


def run_in_children(ranks: Sequence[Rank], kill: Kill | None) -> int | None:
    """Run every rank in a forked child, and kill them if asked.

    Returns:
        The number of moments of the rank that counts them; ``None`` if the run was killed.

    Raises:
        RuntimeError: A child has failed by itself.
    """
    counting = 0 if kill is None else kill.rank
    reading, writing = os.pipe()
    moments = Moments(writing, kill)
    children = [
        _fork(partial(_work, rank, moments if number == counting else None, writing))
        for number, rank in enumerate(ranks)
    ]
    os.close(writing)
    told = os.read(reading, 20)  # waits for the moment of the kill, or for the end
    if kill is not None and told.startswith(TOLD):
        time.sleep(kill.delay or 0.0)
        os.kill(children[counting], signal.SIGKILL)
        time.sleep(kill.grace if len(children) > 1 else 0.0)
        for child in children:
            os.kill(child, signal.SIGKILL)  # nothing happens to one that has ended
    os.close(reading)
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if -signal.SIGKILL in ends and ends[counting] in (0, -signal.SIGKILL):
        return None
    if any(ends):
        raise RuntimeError(f"children ended with {ends}")
    return int(told.removeprefix(TOLD) or 0)


def _fork(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(2, 1)  # what it prints is no result
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def _work(rank: Rank, moments: Moments | None, pipe: int) -> None:
    if moments is None:
        os.close(pipe)  # its end is that of the rank that counts
        rank(Moments(-1, None))
    else:
        rank(moments)
        os.write(pipe, str(moments.count).encode())
