"""What callbacks ask of a Trainer of either Lightning package: logging, counting, gathering."""

import math
from collections.abc import Mapping
from typing import Any

from pytorch_lightning.utilities import rank_zero_only
from torch import distributed


def publish(trainer: Any, values: Mapping[str, float]) -> None:
    """Send values to all loggers at once and make them known to other callbacks.

    ``self.log`` writes at multiples of ``Trainer(log_every_n_steps)`` only, counted from the last
    restart; what is measured rarely must reach the loggers whenever it was measured.

    Args:
        trainer: The Trainer of either Lightning package.
        values: Metric names and plain numbers; on every rank the same.
    """
    for logger in trainer.loggers:
        logger.log_metrics(dict(values), step=trainer.global_step)
    trainer.callback_metrics.update(values)


def batches_per_epoch(trainer: Any) -> float:
    """Return the number of batches that make one pass over the training data.

    A full-batch loader serves the same batch for a whole run; it says so by an attribute
    ``batches_per_epoch`` of 1, so that one batch is one epoch.
    """
    loader = trainer.train_dataloader
    return float(getattr(loader, "batches_per_epoch", None) or trainer.num_training_batches)


def steps_per_epoch(trainer: Any) -> float:
    """Return the number of updates that make one pass over the training data.

    Where gradients are accumulated the last batch of a pass ends in an update of its own.
    """
    steps = batches_per_epoch(trainer) / trainer.accumulate_grad_batches
    return steps if is_full_batch(trainer) or math.isinf(steps) else float(math.ceil(steps))


def is_full_batch(trainer: Any) -> bool:
    """Return whether one training batch is the whole training set, repeated by its loader."""
    return getattr(trainer.train_dataloader, "batches_per_epoch", None) == 1


def gather(value: Any) -> list[Any]:
    """Return the values of all ranks, in the order of ranks."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def is_main_process() -> bool:
    """Return whether this is rank 0, also before the process group is there."""
    return getattr(rank_zero_only, "rank", 0) in (0, None)
