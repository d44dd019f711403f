"""Output scaling and centring: the model F = α (f(θ, x) − f(θ₀, x)) that is trained."""

import math
from copy import deepcopy
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from lightning_lazy.checks import check_choice, check_number
from lightning_lazy.errors import InputError

Centering = Literal["subtract", "symmetrize", "none"]

# Layers whose output shares its memory with the input.
_VIEWS = (nn.Identity, nn.Flatten, nn.Unflatten)


def square_is_lost(alpha: float, dtype: torch.dtype) -> bool:
    """Return whether α² or 1/α² overflows or loses digits in a floating type."""
    limits = torch.finfo(dtype)
    return not limits.tiny <= alpha**2 <= limits.max or alpha**-2 < limits.tiny


def check_square(alpha: float, dtype: torch.dtype) -> None:
    """Refuse an α whose square is lost in a floating type.

    Raises:
        InputError: It is.
    """
    if square_is_lost(alpha, dtype):
        raise InputError(
            f"alpha={alpha:g} can't be squared in {dtype}: choose alpha between 1e-18 and 1e18, or "
            "up to 1e±150 in double precision (trainer=float64)"
        )


class FrozenReference(nn.Module):
    """A copy of a net at θ₀ that never learns; measures of laziness skip the modules inside it.

    It follows the train/eval mode of the model that holds it and keeps BatchNorm statistics of its
    own, so that it computes what the net computed at initialisation in either mode.

    Args:
        net: The net to copy, input to output ``[batch, outputs]``.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = deepcopy(net).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Return f(θ₀, x), shape ``[batch, outputs]``; only x may carry a gradient."""
        return self.net(x)


class ScaledModel(nn.Module):
    r"""The scaled, centred model that is trained.

    .. math:: F(\theta, x) = \alpha \, (f(\theta, x) - f(\theta_0, x))

    (Chizat, Oyallon & Bach 2019, §1.1; Kanoh & Sugiyama 2021, equation 3.) Trained on ℓ(F, y)/α²
    (`ScaledLightningModule`), the net becomes lazier as α grows.

    Args:
        net: Maps inputs to raw outputs ``[batch, outputs]``; its parameters are trained.
        alpha: Output scale α > 0.
        centering: How F is made to vanish at θ₀.

            - ``subtract``: a frozen copy of ``net`` is subtracted. It is part of the
              ``state_dict``, so that a resumed or exported model stays centred.
            - ``symmetrize``: a net that says ``net.symmetric`` (paired units with opposite output
              weights) is taken as it is; of any other the trainable difference of two copies is
              formed, (f(θ, x) − f(θ', x))/√2 with θ' = θ at the start. The factor keeps the tangent
              kernel that of f.
            - ``none``: F = α f.

    Raises:
        InputError: ``alpha`` is not a finite number > 0, ``centering`` is unknown, or a copy would
            be needed of a net with active dropout, whose two copies draw different masks, or of one
            whose first layer works in place.
    """

    def __init__(
        self, net: nn.Module, alpha: float = 1.0, centering: Centering = "subtract"
    ) -> None:
        super().__init__()
        self.alpha = check_number("alpha", alpha)
        if not 1e-150 <= self.alpha <= 1e150:
            raise InputError(f"alpha must be between 1e-150 and 1e150, got {alpha}; change alpha")
        check_choice("centering", centering, get_args(Centering))
        self.centering = centering
        self.net = net
        self.reference: FrozenReference | None = None
        self.mirror: nn.Module | None = None
        if centering == "subtract":
            _check_copy(net)
            self.reference = FrozenReference(net)
        elif centering == "symmetrize" and not getattr(net, "symmetric", False):
            _check_copy(net)
            self.mirror = deepcopy(net)

    def forward(self, x: Tensor, reference_output: Tensor | None = None) -> Tensor:
        """Return F(θ, x), shape ``[batch, outputs]``.

        Args:
            x: Inputs.
            reference_output: f(θ₀, x) where it is known already, as ``reference(x)`` gives it.
        """
        return self.alpha * self.unscaled(x, reference_output)

    def unscaled(self, x: Tensor, reference_output: Tensor | None = None) -> Tensor:
        """Return F(θ, x)/α, the centred output before scaling, shape ``[batch, outputs]``."""
        output: Tensor = self.net(x)
        if self.reference is not None:
            return output - (self.reference(x) if reference_output is None else reference_output)
        if self.mirror is not None:
            return (output - self.mirror(x)) * math.sqrt(0.5)
        return output

    def get_extra_state(self) -> dict[str, Any]:
        """Return the scale and the centring, which are part of what the weights mean."""
        return {"alpha": self.alpha, "centering": self.centering}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Check that a ``state_dict`` was made by a model of the same scale and centring."""
        own = self.get_extra_state()
        if state != own:
            raise InputError(
                f"the weights belong to a model with {state}, this one has {own}: "
                "build the model with the values that the weights were trained with"
            )


def frozen_parameters(module: nn.Module) -> dict[str, Tensor]:
    """Return θ₀ as the frozen copies inside ``module`` hold it, by the names of the trained θ.

    Empty where no `ScaledModel` with ``centering="subtract"`` is inside.
    """
    start: dict[str, Tensor] = {}
    for path, part in module.named_modules():
        if isinstance(part, ScaledModel) and part.reference is not None:
            prefix = f"{path}.net." if path else "net."
            frozen = dict(part.reference.net.named_parameters())
            start |= {f"{prefix}{name}": frozen[name] for name, _ in part.net.named_parameters()}
    return start


def _check_copy(net: nn.Module) -> None:
    """Raise an `InputError` if ``net`` and a copy of it can't compute the same for one input."""
    for name, module in net.named_modules():
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
            raise InputError(
                f"a copy of the net can't share the mask of dropout layer {name!r} (p={module.p}), "
                "so F would not be 0 at initialisation: set p=0 or centering=none"
            )
    leaves = (
        (name, module)
        for name, module in net.named_modules()
        if not isinstance(module, _VIEWS) and next(module.children(), None) is None
    )
    name, first = next(leaves, ("", net))
    if getattr(first, "inplace", False):
        raise InputError(
            f"the net's first layer {name!r} ({type(first).__name__}) overwrites the inputs, which "
            "a copy of the net needs as well: set its inplace=False or centering=none"
        )
