"""Networks: plain modules that map a batch of inputs to a raw output `[batch, outputs]`."""

from lightning_lazy.models.activations import ScaledSoftplus, make_activation, softplus_scale
from lightning_lazy.models.cnn import LewkowyczCNN
from lightning_lazy.models.deep_linear import DeepLinear
from lightning_lazy.models.fully_connected import FullyConnected
from lightning_lazy.models.imagenet import ResNet50
from lightning_lazy.models.init import initialize_, lecun_normal_
from lightning_lazy.models.layers import ScaledLinear
from lightning_lazy.models.resnet import ResNet
from lightning_lazy.models.two_layer import TwoLayerNet
from lightning_lazy.models.two_part import TwoPartNet
from lightning_lazy.models.vgg import VGG
from lightning_lazy.models.wide_resnet import WideResNet

__all__ = [
    "VGG",
    "DeepLinear",
    "FullyConnected",
    "LewkowyczCNN",
    "ResNet",
    "ResNet50",
    "ScaledLinear",
    "ScaledSoftplus",
    "TwoLayerNet",
    "TwoPartNet",
    "WideResNet",
    "initialize_",
    "lecun_normal_",
    "make_activation",
    "softplus_scale",
]
