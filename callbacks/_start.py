"""The parameters at initialisation, kept once for all callbacks of a run."""

from typing import Any

from torch import Tensor

from lightning_lazy.callbacks._base import PeriodicCallback
from lightning_lazy.curvature.functional import trained_parameters
from lightning_lazy.errors import InputError
from lightning_lazy.scaling import frozen_parameters

_SHARDED = ("FSDP", "DeepSpeed", "ModelParallel")


def refuse_sharded(callback: Any, trainer: Any) -> None:
    """Refuse strategies under which a process sees a part of the parameters only.

    Raises:
        InputError: The Trainer's strategy is one of them.
    """
    strategy = type(trainer.strategy).__name__
    if strategy.startswith(_SHARDED):
        raise InputError(
            f"{type(callback).__name__} needs whole parameters, {strategy} shards them: use "
            "strategy=ddp"
        )


def refuse_manual(callback: Any, pl_module: Any, sees: str) -> None:
    """Refuse modules that step their optimizers themselves.

    Args:
        callback: Who asks.
        pl_module: The module.
        sees: What it does with automatic optimisation, such as "judges the loss".

    Raises:
        InputError: It is one.
    """
    if not pl_module.automatic_optimization:
        raise InputError(
            f"{type(callback).__name__} {sees}, {type(pl_module).__name__} optimises by itself: "
            "leave the callback out"
        )


class SinceStartCallback(PeriodicCallback):
    """A callback that compares the trained parameters θ with θ₀, those at the start of training.

    θ₀ is the frozen copy inside the model where there is one (`ScaledModel` with
    ``centering="subtract"``). Else the first callback of the run that needs it keeps it, and its
    checkpoints hold it; the others use that copy. Parameters that do not require gradients at the
    start do not count.

    Raises:
        InputError: At setup, the Trainer's strategy shards parameters; at the start of training, a
            run is resumed from a checkpoint that does not hold θ₀.
    """

    _start: dict[str, Tensor] | None = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Refuse strategies under which a process sees a part of the parameters only."""
        refuse_sharded(self, trainer)
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Take hold of θ₀ before the first update."""
        self.start(trainer, pl_module)
        super().on_train_start(trainer, pl_module)

    def start(self, trainer: Any, pl_module: Any) -> dict[str, Tensor]:
        """Return θ₀ by the names of the trained parameters, on their device."""
        trained = trained_parameters(pl_module)
        if not trained and trainer.global_step == 0:
            raise InputError(
                f"{type(self).__name__} found no parameters that require gradients in "
                f"{type(pl_module).__name__}: leave the callback out"
            )
        frozen = frozen_parameters(pl_module)
        if trained and trained.keys() <= frozen.keys():
            return {name: frozen[name] for name in trained}
        holder = self._holder(trainer)
        if holder._start is None:
            if trainer.global_step > 0:
                raise InputError(
                    f"the checkpoint holds no parameters at initialisation for "
                    f"{type(self).__name__}: start a new run, or load the weights without "
                    "ckpt_path to count from them"
                )
            holder._start = {name: p.detach().clone() for name, p in trained.items()}
        now = dict(pl_module.named_parameters())
        holder._start = {name: p.to(now[name].device) for name, p in holder._start.items()}
        return holder._start

    def _holder(self, trainer: Any) -> "SinceStartCallback":
        """Return the callback that keeps θ₀: one that has it, else the first that needs it."""
        needing = [one for one in trainer.callbacks if isinstance(one, SinceStartCallback)]
        return next((one for one in needing if one._start is not None), (needing or [self])[0])

    def state_dict(self) -> dict[str, Any]:
        """Return θ₀ if it is kept here."""
        state = super().state_dict()
        return state if self._start is None else state | {"start": self._start}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count from the first start, not from the resume."""
        super().load_state_dict(state_dict)
        self._start = state_dict.get("start")
