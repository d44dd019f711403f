"""Arguments of models, and models that do not fit the images."""

from collections.abc import Callable

import pytest

CASES = [
    (
        "model.width=0",
        "width must be an integer of at least 1, got 0; pass a larger width",
    ),
    (
        "model.width=1.5",
        "width must be an integer of at least 1, got 1.5; pass a larger width",
    ),
    (
        "model.width=wide",
        "width must be an integer of at least 1, got 'wide'; pass a larger width",
    ),
    (
        "model.width=nan",
        "width must be an integer of at least 1, got nan; pass a larger width",
    ),
    (
        "'model.width=[3]'",
        "width must be an integer of at least 1, got [3]; pass a larger width",
    ),
    (
        "model.width=1e9",
        "width must be an integer of at least 1, got 1000000000.0; pass a larger width",
    ),
    (
        "model.activation=swish",
        "activation must be one of softplus, relu, linear, got 'swish'; pick one",
    ),
    (
        "model.activation=null",
        "activation must be one of softplus, relu, linear, got None; pick one",
    ),
    (
        "model.beta=0",
        "beta must be finite and above 0, got 0; change beta",
    ),
    (
        "model.beta=abc",
        "beta must be a number above 0, got 'abc'; write it as beta=0.1",
    ),
    (
        "model.parametrization=half",
        "parametrization must be one of ntk, none, got 'half'; pick one",
    ),
    (
        "model.symmetric=maybe",
        "symmetric must be true or false, got 'maybe'; change symmetric",
    ),
    (
        "model.symmetric=true model.width=7",
        "width must be even if symmetric=True, got 7; pass 8 or symmetric=False",
    ),
    (
        "model.tau=nan",
        "tau must be finite and above 0, got nan; change tau",
    ),
    (
        "model.init=zeros",
        "init must be one of gaussian, unit, got 'zeros'; pick one",
    ),
    (
        "model.in_features=5",
        "the model does not take images of shape [64], or its outputs do not fit the labels (mat1"
        " and mat2 shapes cannot be multiplied (2x64 and 5x100)): change model or data "
        "(data.flatten, data.resolution)",
    ),
    (
        "model.outputs=3",
        "labels must lie between 0 and 2 for a net with 3 outputs, got 2 to 3; match the outputs "
        "to the classes",
    ),
    (
        "model.outputs=0",
        "outputs must be an integer of at least 1, got 0; pass a larger outputs",
    ),
    (
        "data.flatten=false",
        "the model does not take images of shape [1, 8, 8], or its outputs do not fit the labels "
        "(mat1 and mat2 shapes cannot be multiplied (16x8 and 64x100)): change model or data "
        "(data.flatten, data.resolution)",
    ),
    (
        "model=deep_linear",
        "ScaledLightningModule has no activation modules (ReLU, LeakyReLU, PReLU, ReLU6, ELU, "
        "CELU, SELU, GELU, SiLU, Mish, Softplus, Tanh, Sigmoid, Hardswish, Hardtanh): use modules"
        " such as nn.ReLU() instead of functions such as F.relu, name your own types, or leave "
        "the callback out (train.py: callbacks=health)",
    ),
    (
        "model=deep_linear callbacks=health model.depth=-1",
        "depth must be an integer of at least 0, got -1; pass a larger depth",
    ),
    (
        "model=fully_connected model.sigma_b=-1",
        "sigma_b must be finite and at least 0, got -1; change sigma_b",
    ),
    (
        "model=fully_connected model.depth=0",
        "ScaledLightningModule has no activation modules (ReLU, LeakyReLU, PReLU, ReLU6, ELU, "
        "CELU, SELU, GELU, SiLU, Mish, Softplus, Tanh, Sigmoid, Hardswish, Hardtanh): use modules"
        " such as nn.ReLU() instead of functions such as F.relu, name your own types, or leave "
        "the callback out (train.py: callbacks=health)",
    ),
    (
        "model=cnn",
        "image_size must be at least 15, got 8; pass larger images",
    ),
    (
        "model=vgg11",
        "plan must have 3 poolings at most, for images of 8x8, got 5; pass a larger image_size or"
        " another plan",
    ),
    (
        "model=vgg11 model.plan=vgg12",
        "plan must be one of vgg11, vgg13, vgg16, vgg19, got 'vgg12'; pick one",
    ),
    (
        "model=vgg_narrow 'model.plan=[8,X]'",
        "plan must hold channels and \"M\", got 'X'; change plan",
    ),
    (
        "model=vgg_narrow 'model.plan=[M,M,M,M,M,M]'",
        "plan must have 3 poolings at most, for images of 8x8, got 6; pass a larger image_size or"
        " another plan",
    ),
    (
        "model=resnet18 model.width=0",
        "width must be finite and above 0, got 0; change width",
    ),
    (
        "model=resnet18 model.init=he",
        "init must be one of xavier_normal, kaiming_normal, lecun_normal, fan_out, got 'he'; pick"
        " one",
    ),
    (
        "model=wide_resnet model.depth=15",
        "depth must be 6n + 4, got 15; pass 10, 16, 22, 28, …",
    ),
    (
        "model=wide_resnet model.dropout=0.5",
        "a copy of the net can't share the mask of dropout layer 'layers.1.residual.3' (p=0.5), "
        "so F would not be 0 at initialisation: set p=0 or centering=none",
    ),
    (
        "model=wide_resnet model.dropout=2 centering=none",
        "dropout must be below 1, got 2; change dropout",
    ),
    (
        "model=wide_resnet model.batch_norm=1",
        "batch_norm must be true or false, got 1; change batch_norm",
    ),
    (
        "model=two_part",
        "labels of a net with one output must be 0/1 or -1/+1, got 2 to 3; make the task binary, "
        "or give the net an output for each class",
    ),
    (
        "model=two_part model.v_features=1000",
        "v_features must be below in_features=64, got 1000: lower it, so that W sees some inputs",
    ),
]


@pytest.mark.parametrize(("overrides", "line"), CASES, ids=[case[0] for case in CASES])
def test_a_model_is_refused(refused: Callable[[str, str], None], overrides: str, line: str) -> None:
    refused(overrides, line)
