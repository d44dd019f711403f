"""Networks: plain modules that map `[batch, inputs]` to a raw output `[batch, outputs]`."""

from lightning_lazy.models.activations import ScaledSoftplus, make_activation, softplus_scale
from lightning_lazy.models.deep_linear import DeepLinear
from lightning_lazy.models.fully_connected import FullyConnected
from lightning_lazy.models.init import lecun_normal_, lecun_normal_module_
from lightning_lazy.models.layers import ScaledLinear
from lightning_lazy.models.two_layer import TwoLayerNet

__all__ = [
    "DeepLinear",
    "FullyConnected",
    "ScaledLinear",
    "ScaledSoftplus",
    "TwoLayerNet",
    "lecun_normal_",
    "lecun_normal_module_",
    "make_activation",
    "softplus_scale",
]
