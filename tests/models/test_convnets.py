"""Convolutional nets. Oracles: published counts, the nets written out, moments, cancellation."""

import copy
import math

import pytest
import torch
from convnets import WrittenOut, move
from torch import nn

from lightning_lazy import InputError, ScaledModel
from lightning_lazy.models import VGG, LewkowyczCNN, ResNet, WideResNet, initialize_

NARROW = [8, "M", 16, 16, "M", 32, 32, "M", 32, 32]
SMALL = {
    "vgg": (VGG, 16, {"plan": NARROW, "width": 0.5}),
    "resnet": (ResNet, 9, {"width": 1 / 16}),
    "wide_resnet": (WideResNet, 12, {"depth": 16, "width": 0.25}),
    "wide_resnet_1": (WideResNet, 8, {"depth": 10, "width": 1}),
    "cnn": (LewkowyczCNN, 17, {"channels": 4, "hidden": 6}),
}
KINDS = pytest.mark.parametrize("kind", SMALL)
NORMS = pytest.mark.parametrize("batch_norm", [False, True])


def small(kind, **options):
    model, size, own = SMALL[kind]
    return model(3, size, 5, **own, **options)


def images(kind, n=4, dtype=torch.float64):
    size = SMALL[kind][1]
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(1)).to(dtype)


def count(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("build", "parameters"),
    [
        (lambda: VGG(3, 32, 10), 9_225_610),
        (lambda: VGG(3, 32, 10, plan="vgg13"), 9_410_122),
        (lambda: VGG(3, 32, 10, plan="vgg16"), 14_719_818),
        (lambda: VGG(3, 32, 10, plan="vgg19"), 20_029_514),
        (lambda: VGG(3, 32, 10, width=8), 589_900_810),
        (lambda: VGG(3, 16, 10, plan=NARROW), 37_386),
        (lambda: ResNet(3, 32, 10), 11_169_162),
        (lambda: ResNet(3, 32, 10, width=7), 546_799_242),
    ],
)
def test_published_numbers_of_parameters(build, parameters):
    with torch.device("meta"):
        assert count(build()) == parameters


@pytest.mark.parametrize(("depth", "width"), [(28, 10), (16, 10), (16, 4), (10, 1)])
def test_parameters_of_wide_resnets(depth, width):
    # Arithmetic: 3×3 kernels, 1×1 kernels where channels change, two numbers a BatchNorm channel.
    # 36.5 M for WRN-28-10 and 17.1 M for WRN-16-10 are Zagoruyko & Komodakis' rounded numbers.
    channels, total = 16, 3 * 16 * 9
    for target in (16 * width, 32 * width, 64 * width):
        for _ in range((depth - 4) // 6):
            total += 9 * channels * target + 9 * target**2 + 2 * channels + 2 * target
            total += channels * target * (channels != target or target == 32)
            channels = target
    total += 2 * channels + 10 * channels + 10
    with torch.device("meta"):
        assert count(WideResNet(3, 32, 10, depth=depth, width=width)) == total
    rounded = {(28, 10): 36.5e6, (16, 10): 17.1e6}.get((depth, width), total)
    assert total == pytest.approx(rounded, abs=5e4)


def test_parameters_of_the_cnn():
    # Arithmetic: the last map is 18×18 of 300 channels.
    convolutions = (27 * 300 + 300) + 3 * (2700 * 300 + 300)
    with torch.device("meta"):
        assert count(LewkowyczCNN(3, 32, 10)) == (
            convolutions + (18 * 18 * 300 + 1) * 500 + 501 * 10
        )


@KINDS
@NORMS
def test_a_net_is_what_its_formula_says(kind, batch_norm):
    # Oracle: the net written out. Double precision: sums of some hundred products.
    net = small(kind, batch_norm=batch_norm).double().eval()
    move(net)
    written = WrittenOut(net, batch_norm)
    x = images(kind)
    expected = {
        "vgg": lambda: written.vgg(x, NARROW),
        "resnet": lambda: written.resnet(x),
        "wide_resnet": lambda: written.wide_resnet(x, 2, True),
        "wide_resnet_1": lambda: written.wide_resnet(x, 1, False),
        "cnn": lambda: written.cnn(x),
    }[kind]()
    assert not written.tensors
    torch.testing.assert_close(net(x), expected, rtol=1e-10, atol=1e-10)


def test_maps_of_the_cnn_shrink_as_published():
    net = LewkowyczCNN(3, 32, 10, channels=2, hidden=3)
    sides = []
    for layer in net.layers:
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            layer.register_forward_hook(lambda module, args, out: sides.append(out.shape[-1]))
    net(torch.zeros(1, 3, 32, 32))
    assert sides == [32, 30, 25, 25, 23, 18]


@KINDS
@NORMS
@pytest.mark.parametrize("centering", ["subtract", "symmetrize"])
@pytest.mark.parametrize("training", [True, False])
def test_centred_output_at_initialisation_is_exactly_zero(kind, batch_norm, centering, training):
    model = ScaledModel(small(kind, batch_norm=batch_norm), 1e3, centering).train(training)
    assert model(images(kind, dtype=torch.float32)).count_nonzero() == 0


@KINDS
def test_activations_are_modules_of_one_place_and_not_in_place(kind):
    net = small(kind, batch_norm=True).eval()
    calls = []
    for module in net.modules():
        assert not getattr(module, "inplace", False)
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda module, args, out: calls.append(module))
    x = images(kind, dtype=torch.float32)
    before = x.clone()
    net(x)
    assert len(calls) == len(set(calls)) == sum(isinstance(m, nn.ReLU) for m in net.modules())
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("init", "square"),
    [
        ("xavier_normal", lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
        ("kaiming_normal", lambda fan_in, fan_out: 2 / fan_in),
        ("lecun_normal", lambda fan_in, fan_out: 1 / fan_in),
    ],
)
def test_initial_weights_have_the_variance_of_the_formula(init, square):
    net = VGG(3, 8, 10, plan=[64, "M", 96], init=init, gain=1.3)
    fans = [(27, 64 * 9), (64 * 9, 96 * 9), (96 * 16, 10)]
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for layer, fan in zip(layers, fans, strict=True):
        spread = 1.3 * math.sqrt(square(*fan))
        # Five standard errors of a deviation, spread/√(2n).
        error = 5 * spread / math.sqrt(2 * layer.weight.numel())
        assert layer.weight.std().item() == pytest.approx(spread, abs=error)
        assert abs(layer.weight.mean().item()) < 2 * error
        assert layer.bias.count_nonzero() == 0


def test_fan_out_is_the_initialisation_of_residual_nets():
    # Oracle: the formulas, within five standard errors of a deviation.
    net = WideResNet(3, 32, 10, depth=10, width=4, init="fan_out")
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            spread = math.sqrt(2 / (layer.kernel_size[0] ** 2 * layer.out_channels))
            error = 5 / math.sqrt(2 * layer.weight.numel())
            assert layer.weight.std().item() == pytest.approx(spread, rel=error)
    linear = net.layers[-1].weight
    assert linear.abs().max() <= 1 / 256**0.5
    assert linear.std().item() == pytest.approx(1 / (3 * 256) ** 0.5, rel=0.05)
    assert net.layers[-1].bias.count_nonzero() == 0


def test_a_stride_of_the_stem_makes_all_maps_smaller():
    sides = []
    net = WideResNet(3, 32, 10, depth=10, width=1, stem_stride=2)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda module, args, out: sides.append(out.shape[-1]))
    net(torch.zeros(1, 3, 32, 32))
    assert sides == [16, 16, 16, 8, 8, 8, 4, 4, 4]
    with pytest.raises(InputError, match="stem_stride must be an integer of at least 1, got 0"):
        WideResNet(3, 32, 10, depth=10, stem_stride=0)


@pytest.mark.parametrize("name", ["xavier_normal", "kaiming_normal"])
def test_initialisation_agrees_with_torch(name):
    # Oracle: torch's own functions on the same draws, to rounding.
    theirs = {
        "xavier_normal": lambda w, g: nn.init.xavier_normal_(w, generator=g),
        "kaiming_normal": lambda w, g: nn.init.kaiming_normal_(w, nonlinearity="relu", generator=g),
    }[name]
    layer = nn.Conv2d(6, 8, 3, groups=2)
    expected = theirs(torch.empty_like(layer.weight), torch.Generator().manual_seed(4))
    initialize_(layer, name, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(layer.weight.detach(), expected, rtol=1e-6, atol=0)


@KINDS
def test_draws_come_from_the_generator_or_the_global_one(kind):
    state = torch.get_rng_state()
    first, second = (small(kind, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    third = small(kind)
    torch.manual_seed(6)
    fourth = small(kind)
    for one, other in ((first, second), (third, fourth)):
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            assert torch.equal(a, b)
    assert any(
        not torch.equal(a, b) for a, b in zip(first.parameters(), third.parameters(), strict=True)
    )


@KINDS
def test_dtype_is_the_default_one(kind):
    torch.set_default_dtype(torch.float64)
    net = small(kind, batch_norm=True)
    assert {p.dtype for p in net.parameters()} == {torch.float64}
    assert net(images(kind)).dtype == torch.float64


def test_widths_are_rounded_and_at_least_one():
    widths = [
        m.out_channels
        for m in VGG(1, 4, 2, plan=[1, 3, 10, 30], width=0.25).modules()
        if isinstance(m, nn.Conv2d)
    ]
    assert widths == [1, 1, 2, 8]  # 0.25, 0.75, 2.5, 7.5; halves go to the even number


def test_other_activations_take_the_place_of_the_relu():
    for kind in SMALL:
        net = small(kind, activation="softplus")
        assert not any(isinstance(m, nn.ReLU) for m in net.modules())
        assert sum(getattr(m, "is_activation", False) for m in net.modules()) == sum(
            isinstance(m, nn.ReLU) for m in small(kind).modules()
        )


def test_images_may_be_oblong():
    assert VGG(1, (8, 4), 2, plan=[3, "M", 5, "M"])(torch.zeros(2, 1, 8, 4)).shape == (2, 2)


def test_dropout_acts_in_training_between_the_convolutions_of_a_block():
    net = small("wide_resnet", dropout=0.5)
    x = images("wide_resnet", dtype=torch.float32)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))
    with pytest.raises(InputError, match="dropout layer"):
        ScaledModel(net)


@KINDS
def test_batch_statistics_in_evaluation_where_there_are_no_running_averages(kind):
    net = small(kind, batch_norm=True, running_averages=False)
    x = images(kind, dtype=torch.float32)
    assert torch.equal(net(x), net.eval()(x))
    assert not any("running" in name for name in net.state_dict())


def test_copies_compute_the_same():
    for kind in SMALL:
        net = small(kind).double()
        x = images(kind)
        assert torch.equal(copy.deepcopy(net)(x), net(x))


@KINDS
@pytest.mark.parametrize("shape", [(2, 3 * 16 * 16), (2, 1, 0, 0), (2, 3, 64, 64), (3, 0, 0)])
def test_an_input_that_does_not_fit_gets_one_line(kind, shape):
    size = SMALL[kind][1]
    x = torch.zeros([side or size for side in shape])
    with pytest.raises(
        InputError, match=rf"takes images of shape \[batch, 3, {size}, {size}\], got"
    ):
        small(kind)(x)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: VGG(3, 28, 10), "plan must have 4 poolings at most, for images of 28x28, got 5"),
        (lambda: VGG(3, (32, 3), 2), "plan must have 1 poolings at most, for images of 32x3"),
        (lambda: VGG(3, 32, 10, plan="vgg12"), "plan must be one of vgg11, vgg13, vgg16, vgg19"),
        (lambda: VGG(3, 32, 10, plan=[8, "A"]), "plan must hold channels and \"M\", got 'A'"),
        (lambda: VGG(3, 32, 10, plan=[0]), "plan must be an integer of at least 1, got 0"),
        (lambda: VGG(3, 32, 10, width=0), "width must be finite and above 0, got 0"),
        (lambda: VGG(3, 32, 0), "outputs must be an integer of at least 1, got 0"),
        (lambda: VGG(0, 32, 10), "in_channels must be an integer of at least 1, got 0"),
        (lambda: VGG(3, 0, 10), "image_size must be an integer of at least 1, got 0"),
        (lambda: VGG(3, (1, 2, 3), 10), "image_size must be a number or height and width"),
        (lambda: VGG(3, 8, 1, plan=[2], init="he"), "init must be one of xavier_normal, kaiming"),
        (lambda: VGG(3, 8, 1, plan=[2], gain=0), "gain must be finite and above 0, got 0"),
        (lambda: ResNet(3, 32, 10, width=-1), "width must be finite and above 0, got -1"),
        (lambda: WideResNet(3, 32, 10, depth=12), r"depth must be 6n \+ 4, got 12"),
        (lambda: WideResNet(3, 32, 10, depth=4), "depth must be an integer of at least 10, got 4"),
        (lambda: WideResNet(3, 32, 10, dropout=1), "dropout must be below 1, got 1"),
        (lambda: WideResNet(3, 32, 10, dropout=-0.1), "dropout must be finite and at least 0"),
        (lambda: LewkowyczCNN(3, 14, 10), "image_size must be at least 15, got 14"),
        (lambda: LewkowyczCNN(3, 15, 10, hidden=0), "hidden must be an integer of at least 1"),
        (lambda: LewkowyczCNN(3, 15, 10, activation="elu"), "activation must be one of softplus"),
    ],
)
def test_bad_arguments(build, message):
    with pytest.raises(InputError, match=message), torch.device("meta"):
        build()
