"""What a net learns of the patterns P and Q, and which part of its weights is noise."""

from typing import Any

import torch
from torch import Tensor

from lightning_lazy.callbacks._base import PeriodicCallback
from lightning_lazy.callbacks._buffers import measured_alike
from lightning_lazy.callbacks._l2 import module_l2
from lightning_lazy.callbacks._probe import Probe
from lightning_lazy.callbacks._start import refuse_sharded
from lightning_lazy.callbacks.pre_activation_noise import PreActivationNoise
from lightning_lazy.errors import InputError
from lightning_lazy.laziness.pattern_learning import (
    COMPONENTS,
    accumulate,
    components,
    hidden_gradient,
    logistic_losses,
    margin_direction,
    second_difference,
)


class PatternLearning(PeriodicCallback):
    r"""Follows a net of two parts, f = r(x₁) + g(x₂), as Li, Wei & Ma 2019 do in their proofs.

    For a module with a net that has ``parts(x)``, such as `lightning_lazy.models.TwoPartNet`, data
    with ``patterns``, such as those of `lightning_lazy.data.PatternsDataModule`, and plain SGD on
    the logistic loss. It logs

    - ``train/<c>/acc`` and ``train/<c>/loss`` for the training examples with P only, Q only and
      both (``p_only``, ``q_only``, ``both``): what is memorised; ``val/<c>/acc`` says what is
      generalised;
    - ``pattern/r_loss``, the loss of r alone where x₁ ≠ 0, and ``pattern/g_loss``, that of g alone
      where x₁ = 0 (Lemma 4.4);
    - ``pattern/second_difference``, |g(z+ζ) + g(z−ζ) − 2g(z)| (Lemma 4.2);
    - ``pattern/w_signal`` and ``pattern/v_signal``, ‖Ū_t‖_F of W and V, the signal of all
      gradients so far, and ``pattern/w_noise`` and ``pattern/v_noise``, the root mean square of the
      entries of the noise Ũ_t = U_t − Ū_t (equation 3.4);
    - ``pattern/shared_signal``, ‖W̄^(2)_t‖_F, the share of W's signal that comes from examples with
      Q (Lemma 5.2), but with noise before activations;
    - ``pattern/alpha``, ‖α‖ of r(x₁) − r(−x₁) = 2⟨α, x₁⟩ + rest, α in the span of the training
      examples with P only, and ``pattern/alpha_rest``, the size of the rest (Lemma 5.3).

    The signal is that of the gradients as they are before `GradientNoise` adds to them, wherever
    that stands in the list of callbacks.

    Args:
        every_n_steps: Updates between two measurements; ``None``: at the end of epochs.
        every_n_epochs: Epochs between two measurements.
        batch_size: Samples in one pass over the training set.
        name: Tells two instances apart.

    Raises:
        InputError: At setup, parameters are sharded; at the start of training, there is no net of
            two parts, there are no patterns, gradients are accumulated or clipped, or the optimizer
            is not plain SGD with one learning rate.
    """

    def __init__(
        self,
        *,
        every_n_steps: int | None = None,
        every_n_epochs: int = 1,
        batch_size: int = 1000,
        name: str | None = None,
    ) -> None:
        super().__init__(every_n_steps, every_n_epochs, name)
        self.probe = Probe("train", None, batch_size)
        self._signals: dict[str, Tensor] = {}
        self._gradients: dict[str, Tensor] = {}
        self._second_moment: Tensor | None = None  # of the x₁ of examples with P only
        self._batch: Any = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Refuse strategies under which a process sees a part of the parameters only."""
        refuse_sharded(self, trainer)
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Refuse what the formulas do not hold for; measure."""
        _check(trainer, pl_module)
        self.probe.size = len(trainer.train_dataloader.dataset)
        weights = _weights(pl_module)
        weights["w_p_only"] = weights["w"]
        for name, weight in weights.items():
            zeros = torch.zeros_like(weight)
            self._signals[name] = self._signals.get(name, zeros).to(weight.device)
        super().on_train_start(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the batch whose gradient comes next."""
        self._batch = batch

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        """Keep the gradients while they are free of noise."""
        l2 = module_l2(pl_module) or 0.0
        self._gradients = {
            name: weight.grad - l2 * weight.detach()
            for name, weight in _weights(pl_module).items()
            if weight.grad is not None
        }
        net, (x, y) = _net(pl_module), self._batch
        x1, x2 = net.split_input(x)
        own = components(x1, x2) == 0
        weight, output = net.w.hidden.weight.detach(), net.w.output.weight[0]
        gradient = hidden_gradient(weight, output, x1[own], y[own]) / len(x)
        self._gradients["w_p_only"] = trainer.strategy.reduce(gradient, reduce_op="mean")

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Add the update to come to the signal."""
        group = optimizer.param_groups[0]
        l2 = (module_l2(pl_module) or 0.0) + group["weight_decay"]
        for name, gradient in self._gradients.items():
            past = self._signals[name]
            self._signals[name] = accumulate(past, gradient, lr=group["lr"], l2=l2)
        self._gradients, self._batch = {}, None

    def measure(self, trainer: Any, pl_module: Any) -> dict[str, float]:
        """Return all of it, equal on all ranks."""
        net, patterns = _net(pl_module), trainer.datamodule.patterns
        weight, output = net.w.hidden.weight.detach(), net.w.output.weight[0]
        batches = self.probe.batches(trainer)
        with measured_alike(pl_module), torch.no_grad():
            sums = _reduce(trainer, _sums(net, batches))
            bend = second_difference(net.v, patterns.z.to(weight), patterns.zeta.to(weight))
            if self._second_moment is None:
                self._second_moment = _reduce(trainer, _second_moment(net, batches))
            margin = margin_direction(weight, output, self._second_moment)
        return _by_component(sums) | {
            "pattern/second_difference": bend,
            "pattern/alpha": margin.alpha,
            "pattern/alpha_rest": margin.rest,
            **self._signal_and_noise(trainer, pl_module),
        }

    def _signal_and_noise(self, trainer: Any, pl_module: Any) -> dict[str, float]:
        values = {}
        for name, weight in _weights(pl_module).items():
            signal = self._signals[name]
            noise = weight.detach() - signal
            values[f"pattern/{name}_signal"] = float(signal.norm())
            values[f"pattern/{name}_noise"] = float(noise.square().mean().sqrt())
        if not any(isinstance(one, PreActivationNoise) for one in trainer.callbacks):
            shared = self._signals["w"] - self._signals["w_p_only"]
            values["pattern/shared_signal"] = float(shared.norm())
        return values

    def state_dict(self) -> dict[str, Any]:
        """Return the signal so far."""
        return super().state_dict() | {"signals": self._signals}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue as if nothing had happened."""
        super().load_state_dict(state_dict)
        self._signals = dict(state_dict["signals"])


def _net(pl_module: Any) -> Any:
    """Return the net of two parts inside a module, or ``None``."""
    return next((part for part in pl_module.modules() if hasattr(part, "parts")), None)


def _weights(pl_module: Any) -> dict[str, Any]:
    net = _net(pl_module)
    return {"w": net.w.hidden.weight, "v": net.v.hidden.weight}


def _reduce(trainer: Any, value: Tensor) -> Tensor:
    reduced: Tensor = trainer.strategy.reduce(value, reduce_op="sum")
    return reduced


def _sums(net: Any, batches: list[Any]) -> Tensor:
    """Return Σ 1, Σ correct, Σ ℓ(f), Σ ℓ(r) and Σ ℓ(g) for each component, shape (3, 5)."""
    device = net.w.hidden.weight.device
    sums = torch.zeros(3, 5, dtype=torch.float64, device=device)
    for x, y in batches:
        r, g = (part.squeeze(1) for part in net.parts(x))
        correct = ((r + g > 0) == (y > 0)).to(r)
        losses = [logistic_losses(output, y) for output in (r + g, r, g)]
        columns = torch.stack([torch.ones_like(r), correct, *losses], dim=1)
        sums.index_add_(0, components(*net.split_input(x)), columns.double())
    return sums


def _by_component(sums: Tensor) -> dict[str, float]:
    """Return means over the components that there are."""
    values: dict[str, float] = {}
    for name, (count, correct, loss, _, _) in zip(COMPONENTS, sums.tolist(), strict=True):
        if count:
            values |= {f"train/{name}/acc": correct / count, f"train/{name}/loss": loss / count}
    with_p, without_p = sums[[0, 2]].sum(0).tolist(), sums[1].tolist()
    if with_p[0]:
        values["pattern/r_loss"] = with_p[3] / with_p[0]
    if without_p[0]:
        values["pattern/g_loss"] = without_p[4] / without_p[0]
    return values


def _second_moment(net: Any, batches: list[Any]) -> Tensor:
    """Return Σ x₁ x₁ᵀ over the examples with P only, in double precision."""
    weight = net.w.hidden.weight
    total = torch.zeros(2 * weight.shape[1:], dtype=torch.float64, device=weight.device)
    for x, _ in batches:
        x1, x2 = net.split_input(x)
        own = x1[components(x1, x2) == 0].double()
        total += own.T @ own
    return total


def _check(trainer: Any, pl_module: Any) -> None:
    if _net(pl_module) is None:
        raise InputError(
            f"PatternLearning found no net of two parts in {type(pl_module).__name__}: use "
            "model=two_part, or leave the callback out"
        )
    if not hasattr(trainer.datamodule, "patterns"):
        raise InputError(
            "PatternLearning needs a datamodule with patterns, the directions z and ζ of its data: "
            "use data=patterns, or leave the callback out"
        )
    optimizers = trainer.optimizers
    plain = len(optimizers) == 1 and type(optimizers[0]) is torch.optim.SGD
    if not plain or any(group["momentum"] for group in optimizers[0].param_groups):
        raise InputError(
            "PatternLearning splits weights into signal and noise for plain SGD without momentum, "
            f"got {', '.join(type(one).__name__ for one in optimizers)}: use optimizer=sgd"
        )
    groups = optimizers[0].param_groups
    rates = {(group["lr"], group["weight_decay"]) for group in groups}
    if trainer.gradient_clip_val or len(rates) > 1:
        raise InputError(
            "PatternLearning needs gradients as they are and one learning rate for both parts, got "
            f"gradient_clip_val={trainer.gradient_clip_val} and {len(groups)} groups of "
            "parameters: don't clip, and use one group"
        )
    if trainer.accumulate_grad_batches > 1:
        raise InputError(
            "PatternLearning can't take gradients that are accumulated over "
            f"{trainer.accumulate_grad_batches} batches: use accumulate_grad_batches=1"
        )
