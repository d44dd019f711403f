"""The path that parameters take through training."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_lazy.callbacks._base import PeriodicCallback
from lightning_lazy.callbacks._start import refuse_sharded
from lightning_lazy.errors import InputError


class ParameterTrajectory(PeriodicCallback):
    """Keeps copies of parameters at the start, periodically, and at the end of training.

    It logs nothing. The copies are this callback's state in the checkpoint, ``steps`` of shape
    ``[k]`` (updates done) and ``values``, for each parameter a tensor of shape ``[k, …]`` on the
    CPU. They take k times the memory of the parameters, in the checkpoint as well: it is for small
    nets, or for a few layers.

    Args:
        parameters: Names, as ``named_parameters`` of the Lightning module gives them.
        every_n_steps: Updates between two copies; ``None``: at the end of epochs.
        every_n_epochs: Epochs between two copies.
        name: Tells two instances apart.

    Raises:
        InputError: At setup, there is no parameter of that name, or the strategy shards parameters.
    """

    def __init__(
        self,
        parameters: Sequence[str],
        *,
        every_n_steps: int | None = None,
        every_n_epochs: int = 1,
        name: str | None = None,
    ) -> None:
        super().__init__(every_n_steps, every_n_epochs, name)
        self.parameters = tuple(parameters)
        self._steps: list[int] = []
        self._copies: dict[str, list[Tensor]] = {name: [] for name in self.parameters}

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Check that the parameters are there, whole."""
        refuse_sharded(self, trainer)
        known = [name for name, _ in pl_module.named_parameters()]
        for name in self.parameters:
            if name not in known:
                raise InputError(f"no parameter is called {name}: choose from {', '.join(known)}")
        super().setup(trainer, pl_module, stage)

    def measure(self, trainer: Any, pl_module: Any) -> dict[str, float]:
        """Copy the parameters; there is nothing to log."""
        now = dict(pl_module.named_parameters())
        self._steps.append(trainer.global_step)
        for name, copies in self._copies.items():
            copies.append(now[name].detach().to("cpu", copy=True))
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return the copies made so far."""
        values = {name: torch.stack(copies) for name, copies in self._copies.items() if copies}
        return {**super().state_dict(), "steps": torch.tensor(self._steps), "values": values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on after the copies made before."""
        super().load_state_dict(state_dict)
        self._steps = state_dict["steps"].tolist()
        self._copies |= {name: list(rows) for name, rows in state_dict["values"].items()}
