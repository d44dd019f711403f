"""Shares on convolutional nets and winners of poolings, against plain float computations."""

import copy

import pytest
import torch
from convnets import WrittenOut, move
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_lazy import InputError
from lightning_lazy.laziness import (
    activation_modules,
    activation_patterns,
    count_changes,
    pooling_winners,
    stability,
    undisturbed,
)
from lightning_lazy.models import VGG, LewkowyczCNN, ResNet, WideResNet

PLAN = [8, "M", 16, 16, "M", 32, 32, "M", 32, 32]


def written_out(net: nn.Module, x: Tensor, batch_norm: bool) -> WrittenOut:
    written = WrittenOut(net, batch_norm)
    if isinstance(net, VGG):
        written.vgg(x, PLAN)
    elif isinstance(net, ResNet):
        written.resnet(x)
    elif isinstance(net, WideResNet):
        written.wide_resnet(x, 1, True)
    else:
        written.cnn(x)
    return written


def shares(before: list[Tensor], after: list[Tensor]) -> tuple[list[float], float, float]:
    """By layer, over units and over layers."""
    same = [(old == new).double() for old, new in zip(before, after, strict=True)]
    by_layer = [layer.mean().item() for layer in same]
    over_units = torch.cat([layer.flatten() for layer in same]).mean().item()
    return by_layer, over_units, sum(by_layer) / len(by_layer)


def check(result: object, expected: tuple[list[float], float, float]) -> None:
    assert list(result.by_layer.values()) == pytest.approx(expected[0], abs=1e-12)
    assert result.over_units == pytest.approx(expected[1], abs=1e-12)
    assert result.over_layers == pytest.approx(expected[2], abs=1e-12)
    assert 0.4 < result.over_units < 0.999


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(
    ("kind", "size", "options"),
    [
        (VGG, 16, {"plan": PLAN}),
        (ResNet, 12, {"width": 1 / 8}),
        (WideResNet, 12, {"depth": 10, "width": 0.5}),
        (LewkowyczCNN, 16, {"channels": 4, "hidden": 5, "running_averages": False}),
    ],
)
def test_shares_equal_those_of_the_net_written_out(
    kind: type[nn.Module], size: int, options: dict[str, object], batch_norm: bool
) -> None:
    # Oracle: signs of the pre-activations of the formulas. In double precision a sign that rounding
    # decides, |z| < 1e-14, does not come up among some 1e5 of order 1.
    net = kind(3, size, 10, batch_norm=batch_norm, **options).double().eval()
    move(net)  # BatchNorm: statistics that are not 0 and 1
    start, x = copy.deepcopy(net), torch.randn(12, 3, size, size, dtype=torch.float64)
    modules = activation_modules(net)
    batches = x.split(12 if kind is LewkowyczCNN else 5)
    first = activation_patterns(net, modules, batches)
    move(net)
    result = stability(count_changes(first, activation_patterns(net, modules, batches)))
    signs = [
        [z > 0 for z in written_out(one, x, batch_norm).pre_activations] for one in (start, net)
    ]
    check(result, shares(*signs))


def winners(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Positions of the largest inputs, by argmax over explicit windows."""
    windows = x.unfold(2, kernel, stride).unfold(3, kernel, stride)
    return windows.flatten(4).argmax(4)


@pytest.mark.parametrize(
    ("kind", "size", "options", "pool"),
    [
        (VGG, 16, {"plan": PLAN}, (2, 2)),
        (LewkowyczCNN, 16, {"channels": 4, "hidden": 5}, (6, 1)),
    ],
)
def test_with_pooling_the_winners_are_further_layers(
    kind: type[nn.Module], size: int, options: dict[str, object], pool: tuple[int, int]
) -> None:
    # Oracle: argmax over explicit windows of the net written out.
    net = kind(3, size, 10, **options).double().eval()
    start, x = copy.deepcopy(net), torch.randn(12, 3, size, size, dtype=torch.float64)
    modules = activation_modules(net, pooling=True)
    first = activation_patterns(net, modules, x.split(5))
    move(net)
    changes = count_changes(first, activation_patterns(net, modules, x.split(7)))
    seen = []
    for one in (start, net):
        written = written_out(one, x, False)
        signs = [z > 0 for z in written.pre_activations]
        seen.append(signs + [winners(z, *pool) for z in written.pools])
    # In the order of the formulas: activations first.
    pools = {name for name, part in modules.items() if isinstance(part, nn.MaxPool2d)}
    ordered = {n: c for n, c in changes.items() if n not in pools}
    ordered |= {n: c for n, c in changes.items() if n in pools}
    assert len(pools) == len(written.pools)
    check(stability(ordered), shares(*seen))


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(1),
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, stride=1, padding=1),
        nn.MaxPool2d(6, stride=1),
        nn.MaxPool2d((2, 3), stride=(3, 1), padding=(1, 0)),
        nn.MaxPool2d(3, stride=2, padding=1, dilation=2),
        nn.MaxPool2d((3, 2), dilation=(1, 3), ceil_mode=True),
        nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True, return_indices=True),
        nn.MaxPool2d((2, 8), padding=(0, 4)),  # wider than the image
    ],
    ids=str,
)
@pytest.mark.parametrize("ties", [False, True])
def test_winners_are_those_that_torch_reports(pool: nn.MaxPool2d, ties: bool) -> None:
    # Oracle: the indices of F.max_pool2d. A winner's position in its window fixes its index in the
    # image and the other way round, so both must tell the same windows apart, and the position must
    # lead back to the index.
    x = torch.randn(7, 3, 10, 7)
    x = (x * 2).round().relu() if ties else x
    settings = (pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode)
    pooled, index = F.max_pool2d(x, *settings, return_indices=True)
    bits = pooling_winners(pool, x, pooled)
    kernel, stride, padding, dilation = (
        (value, value) if isinstance(value, int) else value for value in settings[:4]
    )
    assert bits.shape[1] == max(1, (kernel[0] * kernel[1] - 1).bit_length())
    position = sum(bits[:, plane].long() << plane for plane in range(bits.shape[1]))
    position = position.view_as(index)
    row, column = position // kernel[1], position % kernel[1]
    row = row * dilation[0] + torch.arange(index.shape[2])[:, None] * stride[0] - padding[0]
    column = column * dilation[1] + torch.arange(index.shape[3]) * stride[1] - padding[1]
    assert torch.equal(row * x.shape[3] + column, index)


def test_a_pooling_that_returns_indices_is_watched_as_well() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu, self.pool = nn.ReLU(), nn.MaxPool2d(2, return_indices=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(self.relu(x))[0]

    net, x = Net(), torch.randn(3, 2, 4, 4)
    patterns = activation_patterns(net, activation_modules(net, pooling=True), [x])
    assert patterns.units == {"relu": 32, "pool": 8}
    assert [tuple(bits.shape) for bits in patterns.bits.values()] == [(3, 1, 4), (3, 2, 1)]


def test_a_net_without_poolings_is_refused() -> None:
    with pytest.raises(InputError, match=r"ResNet has no nn.MaxPool2d modules .* pooling=False"):
        activation_modules(ResNet(1, 4, 2, width=0.1), pooling=True)


def test_patterns_of_other_layers_or_images_are_not_compared() -> None:
    net, x = VGG(1, 4, 2, plan=[3, "M"]), torch.randn(6, 1, 4, 4)
    plain = activation_patterns(net, activation_modules(net), [x])
    pooled = activation_patterns(net, activation_modules(net, pooling=True), [x])
    fewer = activation_patterns(net, activation_modules(net), [x[:4]])
    for other in (pooled, fewer):
        with pytest.raises(InputError, match=r"the settings \(size, types, pooling\) of the first"):
            count_changes(plain, other)


def in_place(net: nn.Module) -> nn.Module:
    net = copy.deepcopy(net)
    for part in net.modules():
        if hasattr(part, "inplace"):
            part.inplace = True
    return net


def test_an_in_place_twin_gives_the_same_numbers_and_trains_in_place() -> None:
    # Oracle: the out-of-place net. Its first layer is an activation, which in place would overwrite
    # the images that are measured on.
    net = nn.Sequential(nn.LeakyReLU(), VGG(3, 8, 4, plan=[6, "M", 8, "M"]))
    twin, x = in_place(net), torch.randn(9, 3, 8, 8)
    before = x.clone()
    results = []
    for one in (net, twin):
        patterns = []
        for seed in (1, 2):
            with undisturbed(one):
                assert not any(getattr(part, "inplace", False) for part in one.modules())
                modules = activation_modules(one, pooling=True)
                patterns.append(activation_patterns(one, modules, x.split(4)))
            torch.manual_seed(seed)
            move(one)
        results.append(count_changes(*patterns))
    assert results[0] == results[1]
    assert torch.equal(x, before)
    flags = [part.inplace for part in twin.modules() if hasattr(part, "inplace")]
    assert flags == [True, True, True]
    assert not torch.equal(twin(x), twin(x))  # the first call has overwritten x


def test_flags_are_restored_after_an_error_and_those_that_are_false_are_left() -> None:
    net = nn.Sequential(nn.ReLU(inplace=True), nn.ReLU())

    def measure() -> None:
        with undisturbed(net):
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        measure()
    assert [part.inplace for part in net] == [True, False]


@pytest.mark.parametrize("in_place_compile", [False, True])
def test_compiled_modules_are_measured_as_if_they_were_not(in_place_compile: bool) -> None:
    # Oracle: the net that is not compiled. A compiled module runs no hooks of its parts that were
    # registered after its first call, so that without care nothing would be recorded.
    net = VGG(1, 4, 2, plan=[3, "M", 4])
    x = torch.randn(6, 1, 4, 4)
    expected = activation_patterns(net, activation_modules(net), [x])
    compiled = copy.deepcopy(net)
    if in_place_compile:
        compiled.compile(backend="eager")
    else:
        compiled = torch.compile(compiled, backend="eager")
    with torch.no_grad():
        compiled(x)
    for _ in range(2):
        with undisturbed(compiled), undisturbed(compiled):
            patterns = activation_patterns(compiled, activation_modules(compiled), [x])
        for one, other in zip(expected.bits.values(), patterns.bits.values(), strict=True):
            assert torch.equal(one, other)
        torch.testing.assert_close(compiled(x), net(x))
    # And without care:
    with pytest.raises(InputError, match="none of the activation modules"):
        activation_patterns(compiled, activation_modules(compiled), [x])
