"""Linearised models: the tangent of a net at its initialisation."""

from copy import deepcopy

from torch import Tensor, nn
from torch.func import functional_call

from lightning_lazy.curvature.functional import directional_derivative
from lightning_lazy.scaling import FrozenReference


class LinearizedModel(nn.Module):
    r"""The first-order expansion of a net in its parameters.

    .. math:: \bar h(w, x) = h(w_0, x) + Dh(w_0)(w - w_0)\,(x)

    (Chizat, Oyallon & Bach 2019, §1.1.) w₀ are the parameters of ``net`` when this model is built;
    w are the parameters of this model's ``net``, trainable and equal to w₀ at the start, where the
    output is that of ``net`` to the last bit. Forward-mode differentiation computes the product in
    one pass, at about twice the cost of ``net`` (`directional_derivative`).

    BatchNorm statistics are those at w₀: in training mode the batch's own are used (and
    differentiated through), and no running average is updated.

    Args:
        net: Any net that `torch.func` can differentiate, input to ``[batch, outputs]``.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.symmetric = getattr(net, "symmetric", False)  # then this is zero at w₀, too
        self.anchor = FrozenReference(net)
        for module in self.anchor.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase):
                # In training mode: the batch's statistics, and no update of the running ones,
                # which forward-mode differentiation could not go through.
                module.track_running_stats = False

    def forward(self, x: Tensor) -> Tensor:
        """Return h̄(w, x), shape ``[batch, outputs]``."""
        anchor = self.anchor.net
        start = {name: p.detach() for name, p in anchor.named_parameters()}
        moved = {name: p - start[name] for name, p in self.net.named_parameters()}

        def output(parameters: dict[str, Tensor]) -> Tensor:
            return functional_call(anchor, parameters, (x,))

        value, change = directional_derivative(output, start, moved)
        return value + change


def linearize(net: nn.Module) -> LinearizedModel:
    """Return the linearised model of a copy of ``net``; ``net`` itself stays untouched."""
    return LinearizedModel(deepcopy(net))
