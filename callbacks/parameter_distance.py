"""How far the parameters have moved since the start of training."""

from typing import Any

from lightning_lazy.callbacks._start import SinceStartCallback
from lightning_lazy.laziness import parameter_distance


class ParameterDistance(SinceStartCallback):
    """Logs the relative distance of the parameters from their start, ‖θ − θ₀‖/‖θ₀‖.

    Under lazy training it falls like 1/α (Chizat, Oyallon & Bach 2019, theorem 2.2). A small
    distance alone does not make a net lazy: wide nets learn features with small relative motion.

    Logs ``lazy/param_distance`` over all trained parameters and ``lazy/param_distance/<layer>``
    for every module with parameters of its own; layers that start at zero have none. One
    measurement costs a pass over the parameters.

    Args:
        every_n_steps: Updates between two measurements; ``None``: at the end of epochs.
        every_n_epochs: Epochs between two measurements.
        per_layer: Whether to log every layer.
        name: Tells two instances apart.
    """

    def __init__(
        self,
        *,
        every_n_steps: int | None = None,
        every_n_epochs: int = 1,
        per_layer: bool = True,
        name: str | None = None,
    ) -> None:
        super().__init__(every_n_steps, every_n_epochs, name)
        self.per_layer = per_layer

    def measure(self, trainer: Any, pl_module: Any) -> dict[str, float]:
        """Return the distances, equal on all ranks since parameters are."""
        start = self.start(trainer, pl_module)
        distance = parameter_distance(dict(pl_module.named_parameters()), start)
        values = {"lazy/param_distance": distance.overall}
        if self.per_layer:
            values |= {f"lazy/param_distance/{n}": d for n, d in distance.by_layer.items()}
        return values
