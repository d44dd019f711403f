"""Spherical Gaussian noise on the gradients."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

from lightning_lazy.callbacks._base import NamedCallback
from lightning_lazy.callbacks._start import refuse_sharded
from lightning_lazy.checks import check_number
from lightning_lazy.curvature.functional import trained_parameters
from lightning_lazy.data.counter import derive_seed
from lightning_lazy.errors import InputError
from lightning_lazy.optim.decay import Decay, DecayKind


class GradientNoise(NamedCallback):
    r"""Adds spherical Gaussian noise to the gradient of every update.

    .. math:: U_{t+1} = U_t - \gamma_t (\nabla L(U_t) + \xi_t), \quad
              \xi_t \sim N(0, s(t)^2 \, std^2 \, I)

    (Li, Wei & Ma 2019, equations 3.1 and 3.2.) The noise is added once an update, after the
    gradient has been accumulated, averaged over ranks and unscaled, and before it is clipped.

    ξ_t is a function of the seed, the number of updates done and the order of the parameters alone:
    the global generators stay as they are, and a resumed run has the noise of an uninterrupted one
    on the same kind of device. It is the same on every rank. Gradients are averages over ranks
    already, so that other noise on each would let their weights drift apart.

    Logs ``noise/gradient_std``, s(t)·std, with the first update and with any that changes it.

    Args:
        std: Standard deviation of an entry at the start, at least 0.
        schedule: s: ``constant``, ``step``, ``exponential`` or ``cosine``, t in updates (see
            `lightning_lazy.optim.decay.Decay`).
        factor: Of ``step`` and ``exponential``.
        milestones: Of ``step``.
        total: Of ``cosine``.
        parameters: Patterns of names such as ``model.net.hidden.*``; ``None``: all that are
            trained.
        seed: Seed of the noise.
        name: Tells two instances apart, whose noise differs also with the same seed.

    Raises:
        InputError: A number is out of range; at setup, the strategy shards parameters or a pattern
            fits no parameter that is trained.
    """

    def __init__(
        self,
        std: float,
        schedule: DecayKind = "constant",
        *,
        factor: float | None = None,
        milestones: Sequence[float] | None = None,
        total: float | None = None,
        parameters: Sequence[str] | None = None,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.std = check_number("std", std, zero=True)
        self.decay = Decay(schedule, factor=factor, milestones=milestones, total=total)
        self.parameters = None if parameters is None else tuple(parameters)
        self.seed = seed
        self._now: float | None = None
        self._published: float | None = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Refuse what noise can't be added to; begin anew where training does."""
        if stage != "fit":
            return
        refuse_sharded(self, trainer)
        names = trained_parameters(pl_module)
        for pattern in self.parameters or ():
            if not any(fnmatchcase(name, str(pattern)) for name in names):
                raise InputError(
                    f"no trained parameter is called {pattern}: choose from {', '.join(names)}"
                )
        if trainer.global_step == 0:
            self._now = self._published = None

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Add the noise of this update to the gradients that the optimizer is about to use."""
        std = self._now = self.std * self.decay(trainer.global_step)
        if std == 0:
            return
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        seed = derive_seed(self.seed, crc32(self.state_key.encode()), trainer.global_step)
        add_noise([p for p in self._chosen(pl_module) if id(p) in own], std, seed)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the noise of the update that is done, if it is another than before."""
        if self._now is not None and self._published != self._now:
            self._published = self._now
            self._publish(trainer, {"noise/gradient_std": self._now})

    def _chosen(self, pl_module: Any) -> list[Tensor]:
        """Return the parameters that get noise, those that take part in this update."""
        return [
            p
            for name, p in trained_parameters(pl_module).items()
            if p.grad is not None
            and (self.parameters is None or any(fnmatchcase(name, one) for one in self.parameters))
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return what was logged last; the noise itself needs no state."""
        return {"published": self._published}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Log the next change only."""
        self._published = state_dict["published"]


def add_noise(parameters: Sequence[Tensor], std: float, seed: int) -> None:
    """Add noise N(0, std²) to the gradients of parameters, one after the other from one stream."""
    generators: dict[torch.device, torch.Generator] = {}
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is None:
            continue
        device = gradient.device
        if device not in generators:
            generators[device] = torch.Generator(device).manual_seed(seed)
        noise = torch.randn(
            gradient.shape, generator=generators[device], dtype=gradient.dtype, device=device
        )
        gradient.add_(noise, alpha=std)
