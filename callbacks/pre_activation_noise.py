"""Gaussian noise before every activation while a network trains."""

from collections.abc import Sequence
from typing import Any, Literal, get_args
from zlib import crc32

import torch
from torch import Tensor, nn

from lightning_lazy.callbacks._base import NamedCallback
from lightning_lazy.checks import check_choice, check_number
from lightning_lazy.data.counter import derive_seed
from lightning_lazy.errors import InputError
from lightning_lazy.laziness import ACTIVATIONS, activation_modules
from lightning_lazy.optim.decay import Decay
from lightning_lazy.reporting import is_full_batch

Schedule = Literal["constant", "step", "exponential", "cosine", "lr"]


class PreActivationNoise(NamedCallback):
    r"""Adds Gaussian noise to the inputs of all activations in training, never in evaluation.

    .. math:: a = \sigma(z + s(t) \cdot std \cdot \xi), \quad \xi \sim N(0, 1)

    With a schedule s that falls, noise stands in for a large initial learning rate: the net learns
    later what is easy to fit and hard to generalise (Li, Wei & Ma 2019, §6).

    ξ is drawn anew at every pass, for every element by itself, or shared along ``shared_axes`` of
    the pre-activation: ``[0, 1]``, batch and channels, is one value for each place of the image, as
    in the authors' code. It comes from a generator that is seeded anew for every batch by ``seed``,
    the rank and the number of batches so far: the global generators stay as they are, ranks have
    noise of their own, and a resumed run has the noise of an uninterrupted one.

    A pass is noisy where gradients are recorded during a training batch and the activation module
    is in training mode; what other callbacks measure in evaluation mode or without gradients is
    clean, and so is the frozen copy that centres a model. The noise stands in hooks, which are
    gone when training ends, by an error too: nothing of it is in the exported net.

    Logs ``noise/std``, s(t)·std, after the first batch and with every update that changes it.

    Args:
        std: Standard deviation at the start, at least 0, in units of the pre-activations.
        schedule: s: ``constant``, ``step``, ``exponential`` or ``cosine`` (see
            `lightning_lazy.optim.decay.Decay`), or ``lr``: the learning rate of the first group of
            parameters over its initial one.
        factor: Of ``step`` and ``exponential``.
        milestones: Of ``step``. With ``interval="epoch"`` a milestone n takes effect after n full
            epochs.
        total: Of ``cosine``.
        interval: What t counts: full ``epoch`` or ``step``, updates. Where one batch is the whole
            training set, an update is an epoch.
        shared_axes: Axes of the pre-activation along which the noise is the same.
        types: Types of modules that count as activations, besides those that say so by an
            attribute ``is_activation``.
        seed: Seed of the noise.
        name: Tells two instances apart, whose noise differs also with the same seed.

    Raises:
        InputError: A number is out of range; at setup, the module holds no activation modules or is
            compiled: hooks are not seen by compiled code; at the start of training, ``lr`` has no
            rate above 0 to begin with; in training, activations are computed again for the backward
            pass, where their noise would be another.
    """

    def __init__(
        self,
        std: float,
        schedule: Schedule = "constant",
        *,
        factor: float | None = None,
        milestones: Sequence[float] | None = None,
        total: float | None = None,
        interval: Literal["epoch", "step"] = "epoch",
        shared_axes: Sequence[int] = (),
        types: Sequence[type[nn.Module]] = ACTIVATIONS,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.std = check_number("std", std, zero=True)
        check_choice("schedule", schedule, get_args(Schedule))
        check_choice("interval", interval, ("epoch", "step"))
        self.follows_lr = schedule == "lr"
        self.decay = Decay(
            "constant" if schedule == "lr" else schedule,
            factor=factor,
            milestones=milestones,
            total=total,
        )
        self.interval = interval
        self.shared_axes = tuple(int(axis) for axis in shared_axes)
        self.types = tuple(types)
        self.seed = seed
        self._batches = 0
        self._updates = 0  # done when this batch began
        self._initial_lr: float | None = None
        self._published: float | None = None
        self._now = 0.0
        self._generator: torch.Generator | None = None
        self._hooks: list[Any] = []

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Refuse what noise can't be added to; begin anew where training does."""
        if stage != "fit":
            return
        activation_modules(pl_module, self.types)
        _refuse_compiled(pl_module)
        if trainer.global_step == 0:
            self._batches, self._initial_lr, self._published = 0, None, None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Put the hooks in place."""
        _refuse_compiled(pl_module)
        self._remove()
        self._generator = torch.Generator(pl_module.device)
        if self.follows_lr and self._initial_lr is None:
            self._initial_lr = _learning_rate(trainer)
            if self._initial_lr == 0:
                raise InputError(
                    "the schedule lr divides by the initial learning rate, which is 0: start above "
                    "0, or choose another schedule"
                )
        for module in activation_modules(pl_module, self.types).values():
            hook = module.register_forward_pre_hook(self._add_noise, with_kwargs=True)
            self._hooks.append(hook)

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Set the strength and seed the generator for this batch."""
        self._now = self.std * self._share(trainer)
        self._updates = trainer.global_step
        if self._generator is not None:
            own = () if self.name is None else (crc32(self.name.encode()),)
            seed = derive_seed(self.seed, trainer.global_rank, self._batches, *own)
            self._generator.manual_seed(seed)
        self._batches += 1

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the noise of this batch, if it is another than before; until the next there is none.

        What is logged before a batch is trained on would be logged again by a resumed run. While
        gradients are accumulated the update before is the last one, which had noise of its own.
        """
        is_due = self._published is None or trainer.global_step > self._updates
        if is_due and self._published != self._now:
            self._published = self._now
            self._publish(trainer, {"noise/std": self._now})
        self._now = 0.0

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Take the hooks away."""
        self._remove()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Take the hooks away."""
        self._remove()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Take the hooks away."""
        self._remove()

    def _remove(self) -> None:
        self._now = 0.0
        while self._hooks:
            self._hooks.pop().remove()

    def _share(self, trainer: Any) -> float:
        if self.follows_lr:
            return _learning_rate(trainer) / (self._initial_lr or 1.0)
        by_epoch = self.interval == "epoch" and not is_full_batch(trainer)
        return self.decay(trainer.current_epoch if by_epoch else trainer.global_step)

    def _add_noise(
        self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if self._now == 0.0 or not module.training or not torch.is_grad_enabled():
            return None
        if torch._C._current_graph_task_id() != -1:  # inside of a backward pass
            raise InputError(
                "PreActivationNoise can't repeat the noise of activations that are computed again "
                "in the backward pass: train without torch.utils.checkpoint"
            )
        z: Tensor = inputs[0] if inputs else next(iter(named.values()))
        axes = {axis % z.dim() for axis in self.shared_axes if -z.dim() <= axis < z.dim()}
        shape = [1 if axis in axes else size for axis, size in enumerate(z.shape)]
        noise = torch.randn(shape, generator=self._generator, device=z.device, dtype=z.dtype)
        return (torch.add(z, noise, alpha=self._now), *inputs[1:]), named if inputs else {}

    def state_dict(self) -> dict[str, Any]:
        """Return what the next batch's noise depends on."""
        return {
            "batches": self._batches,
            "initial_lr": self._initial_lr,
            "published": self._published,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue as if nothing had happened."""
        self._batches = state_dict["batches"]
        self._initial_lr = state_dict["initial_lr"]
        self._published = state_dict["published"]


def _learning_rate(trainer: Any) -> float:
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    if not groups:
        raise InputError("the schedule lr needs an optimizer, the module has none: choose another")
    return float(groups[0]["lr"])


def _refuse_compiled(pl_module: Any) -> None:
    """Refuse a module with compiled parts, whose code would run past the hooks."""
    compiled = getattr(pl_module, "_compiler_ctx", None) is not None or any(
        isinstance(part, torch._dynamo.OptimizedModule)
        or getattr(part, "_compiled_call_impl", None) is not None
        for part in pl_module.modules()
    )
    if compiled:
        raise InputError(
            f"PreActivationNoise works by hooks, which compiled code does not see, and "
            f"{type(pl_module).__name__} is compiled: train it without torch.compile"
        )
