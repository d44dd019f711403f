"""How many activation units still fire for the inputs they fired for at initialisation."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn

from lightning_lazy.callbacks._base import PeriodicCallback
from lightning_lazy.callbacks._buffers import measured_alike
from lightning_lazy.callbacks._probe import Probe, Split, net_forward
from lightning_lazy.checks import check_choice
from lightning_lazy.errors import InputError
from lightning_lazy.laziness import (
    ACTIVATIONS,
    Patterns,
    activation_modules,
    activation_patterns,
    count_changes,
    in_place_modules,
    mixes_samples,
    stability,
)
from lightning_lazy.reporting import gather

Metric = Literal["lazy/activation_stability", "lazy/sign_consistency"]


class ActivationStability(PeriodicCallback):
    """Logs the share of activation units whose sign of pre-activation is as at initialisation.

    1 means that every unit of the net is active for the same inputs as before training: the net is
    lazy. For ReLU this is the stability of activations of Chizat, Oyallon & Bach 2019 (§3.2), for
    softplus the sign consistency of Kanoh & Sugiyama 2021 (§3); see
    `lightning_lazy.laziness.stability`. It is measured in evaluation mode on a fixed probe set.

    Logs ``<metric>``, the share over all units of all layers; ``<metric>_layers``, the mean of the
    layers' shares; and ``<metric>/<layer>`` for every layer. The patterns at initialisation are
    kept as bits, one a unit and image, and are part of the checkpoint.

    With ``pooling`` the winners of max poolings count as further layers: a pooled unit is unchanged
    if its largest input stands at the same place of the window.

    Activations that work in place are measured out of place, compiled modules uncompiled; both
    train as they are. One measurement costs little more than a forward pass over the probe set.

    Args:
        every_n_steps: Updates between two measurements; ``None``: at the end of epochs.
        every_n_epochs: Epochs between two measurements.
        split: The set that the probe is taken from, ``val`` or ``train``.
        size: Number of probe samples; ``None``: 1000, or all if there are fewer.
        batch_size: Samples in one forward pass.
        types: Types of modules that count as activations, besides those that say so by an
            attribute ``is_activation``.
        pooling: Whether the winners of the `nn.MaxPool2d` count as well.
        metric: The metric's name: ``lazy/activation_stability`` or ``lazy/sign_consistency``.
        per_layer: Whether to log every layer.
        forward: ``forward(pl_module, batch)`` runs the net on a batch of the probe's loader; by
            default ``pl_module`` is called on the batch's first element, or its ``uncentred`` if it
            has one, which spares the pass of the frozen copy.
        name: Tells two instances apart.

    Raises:
        InputError: At setup, the module holds no activation modules, or no poolings if they are to
            count; at the start of training, the probe set can't be had, or gives a process nothing.
    """

    def __init__(
        self,
        *,
        every_n_steps: int | None = None,
        every_n_epochs: int = 1,
        split: Split = "val",
        size: int | None = None,
        batch_size: int = 250,
        types: Sequence[type[nn.Module]] = ACTIVATIONS,
        pooling: bool = False,
        metric: Metric = "lazy/activation_stability",
        per_layer: bool = True,
        forward: Callable[[Any, Any], Any] = net_forward,
        name: str | None = None,
    ) -> None:
        super().__init__(every_n_steps, every_n_epochs, name)
        check_choice("metric", metric, get_args(Metric))
        self.probe = Probe(split, size, batch_size)
        self.types = tuple(types)
        self.pooling = pooling
        self.metric = metric
        self.per_layer = per_layer
        self.forward = forward
        self._initial: Patterns | None = None
        self._restored: dict[str, Any] | None = None
        self._layers: list[str] = []  # that run on any rank

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Check that there is something to measure."""
        found = self._modules(pl_module)
        in_place = [name for name in in_place_modules(pl_module) if name in found]
        if in_place:
            rank_zero_warn(
                f"{type(self).__name__} measures the in-place activations {', '.join(in_place)} "
                "out of place, which gives the same numbers; they train in place"
            )
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Keep the patterns at initialisation."""
        self.prepare(trainer, pl_module)
        super().on_train_start(trainer, pl_module)

    def prepare(self, trainer: Any, pl_module: Any) -> None:
        """Take the patterns at initialisation, or those that a checkpoint has brought back.

        Raises:
            InputError: The run was resumed from a checkpoint that does not hold them, or a process
                has no images.
        """
        has_images = bool(self._batches(trainer, pl_module))
        if not trainer.strategy.reduce_boolean_decision(has_images):
            raise InputError(
                f"the probe set must give each of {trainer.world_size} processes a batch, got too "
                f"few batches of {self.probe.batch_size}: choose a smaller batch_size"
            )
        if self._restored is not None:
            self._initial = self._own_part(self._restored, trainer, pl_module)
            self._restored = None
        if self._initial is None:
            if trainer.global_step > 0:
                raise InputError(
                    "the checkpoint holds no activation patterns at initialisation: start a new "
                    "run, or load the weights without ckpt_path to compare with them"
                )
            self._initial = self._patterns(trainer, pl_module)
        ranks = gather(list(self._initial.bits))
        self._layers = list(dict.fromkeys(name for layers in ranks for name in layers))

    def measure(self, trainer: Any, pl_module: Any) -> dict[str, float]:
        """Return the shares over the probe sets of all ranks."""
        initial = self._initial
        if initial is None:
            raise InputError("ActivationStability measures during trainer.fit only")
        own = count_changes(initial, self._patterns(trainer, pl_module))
        # A layer that runs for some inputs only may not have run on this rank.
        counts = torch.tensor([own.get(name, (0, 0)) for name in self._layers])
        summed = trainer.strategy.reduce(counts.to(pl_module.device), reduce_op="sum").tolist()
        pairs = zip(self._layers, summed, strict=True)
        result = stability({name: (row[0], row[1]) for name, row in pairs})
        values = {self.metric: result.over_units, f"{self.metric}_layers": result.over_layers}
        if self.per_layer:
            values |= {f"{self.metric}/{name}": share for name, share in result.by_layer.items()}
        return values

    def _modules(self, pl_module: Any) -> dict[str, nn.Module]:
        return activation_modules(pl_module, self.types, self.pooling)

    def _batches(self, trainer: Any, pl_module: Any) -> list[Any]:
        return self.probe.batches(trainer, whole=mixes_samples(pl_module))

    def _patterns(self, trainer: Any, pl_module: Any) -> Patterns:
        modules, batches = self._modules(pl_module), self._batches(trainer, pl_module)
        with measured_alike(pl_module):
            return activation_patterns(
                lambda batch: self.forward(pl_module, batch), modules, batches
            )

    def _own_part(self, whole: dict[str, Any], trainer: Any, pl_module: Any) -> Patterns:
        """Return this rank's samples of the patterns of all ranks, of as many as before or not."""
        bits, rows = whole["bits"], whole.get("rows", {})
        if any(len(counts) != trainer.world_size for counts in rows.values()) or not rows:
            if len({len(one) for one in bits.values()}) > 1:
                raise InputError(
                    "some layers run for a part of the probe set, which is kept by process: resume "
                    f"on as many devices as before, not on {trainer.world_size}"
                )
            images = len(next(iter(bits.values())))
            own = self.probe.own_share(images, trainer, whole=mixes_samples(pl_module))
            shares = dict.fromkeys(bits, own)
        else:
            before = {name: sum(counts[: trainer.global_rank]) for name, counts in rows.items()}
            shares = {
                name: range(before[name], before[name] + counts[trainer.global_rank])
                for name, counts in rows.items()
            }
        own_bits = {
            name: bits[name][share.start : share.stop].to(pl_module.device)
            for name, share in shares.items()
            if len(share)
        }
        return Patterns(own_bits, whole["units"])

    def state_dict(self) -> dict[str, Any]:
        """Return the patterns at initialisation, those of all ranks in the order of images."""
        state = super().state_dict()
        if self._initial is not None:
            own = {name: bits.cpu() for name, bits in self._initial.bits.items()}
            state["initial"] = _together(gather((own, self._initial.units)))
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Compare with the patterns of the first start, not of the resume."""
        super().load_state_dict(state_dict)
        self._restored = state_dict.get("initial")


def _together(ranks: list[tuple[dict[str, Tensor], dict[str, int]]]) -> dict[str, Any]:
    """Return the patterns of all ranks in the order of samples, and the rows of each rank."""
    names = list(dict.fromkeys(name for bits, _ in ranks for name in bits))
    parts = {name: [bits[name] for bits, _ in ranks if name in bits] for name in names}
    return {
        "bits": {name: torch.cat(rows) for name, rows in parts.items()},
        "units": {name: count for _, units in ranks for name, count in units.items()},
        "rows": {name: [len(bits.get(name, ())) for bits, _ in ranks] for name in names},
    }
