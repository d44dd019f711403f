"""Activation stability and its packed bits, against plain float computations."""

import pytest
import torch
from torch import Tensor, nn

from lightning_lazy import InputError, LinearizedModel, ScaledModel
from lightning_lazy.laziness import (
    activation_modules,
    activation_patterns,
    count_changes,
    count_ones,
    pack_bits,
    stability,
    undisturbed,
)


@pytest.mark.parametrize("units", [1, 7, 8, 9, 64, 100])
@pytest.mark.parametrize("images", [1, 3, 8])
def test_packing_keeps_every_bit(images: int, units: int) -> None:
    # Oracle: the bits taken out again one by one.
    pattern = torch.rand(images, units) > 0.5
    packed = pack_bits(pattern)
    assert packed.shape == (images, -(-units // 8))
    unit = torch.arange(units)
    unpacked = (packed[:, unit // 8] >> (unit % 8).to(torch.uint8)) & 1
    # The gathering product puts the first unit of a byte in its lowest bit.
    assert torch.equal(unpacked.bool(), pattern)
    assert count_ones(packed) == int(pattern.sum())


def test_bits_take_a_thirtieth_of_float_activations() -> None:
    pattern = torch.rand(1000, 512) > 0.5
    packed = pack_bits(pattern)
    assert packed.numel() * packed.element_size() * 30 <= pattern.numel() * 4


class Residual(nn.Module):
    """One activation module that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 10), nn.Linear(10, 10)
        self.relu = nn.ReLU()
        self.out = nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.relu(self.first(x))
        return self.out(self.relu(self.second(hidden) + hidden))

    def pre_activations(self, x: Tensor) -> list[Tensor]:
        first = self.first(x)
        hidden = first.clamp(min=0)
        return [first, self.second(hidden) + hidden]


def perturb(net: nn.Module, size: float) -> None:
    with torch.no_grad():
        for p in net.parameters():
            p.add_(size * torch.randn_like(p))


def test_shares_equal_those_of_float_pre_activations() -> None:
    # Oracle: signs of pre-activations computed in the open and averaged as floats.
    net, x = Residual(), torch.randn(50, 6)
    modules = activation_modules(net)
    before = [z > 0 for z in net.pre_activations(x)]
    first = activation_patterns(net, modules, x.split(20))
    perturb(net, 0.3)
    result = stability(count_changes(first, activation_patterns(net, modules, x.split(30))))
    same = [
        (old == (z > 0)).double().mean().item()
        for old, z in zip(before, net.pre_activations(x), strict=True)
    ]
    assert list(result.by_layer) == ["relu", "relu#1"]
    assert list(result.by_layer.values()) == pytest.approx(same, abs=1e-12)
    assert result.over_units == pytest.approx(sum(same) / 2, abs=1e-12)
    assert result.over_layers == pytest.approx(sum(same) / 2, abs=1e-12)
    assert 0.5 < result.over_units < 1


def test_layers_of_unequal_width_weigh_by_units_or_alike() -> None:
    result = stability({"wide": (10, 100), "narrow": (5, 10)})
    assert result.over_units == pytest.approx(1 - 15 / 110)
    assert result.over_layers == pytest.approx((0.9 + 0.5) / 2)


def test_unchanged_net_is_perfectly_stable() -> None:
    net, x = Residual(), torch.randn(9, 6)
    modules = activation_modules(net)
    patterns = [activation_patterns(net, modules, [x]) for _ in range(2)]
    assert stability(count_changes(*patterns)).over_units == 1.0


def test_the_frozen_reference_does_not_count() -> None:
    model = ScaledModel(Residual())
    assert list(activation_modules(model)) == ["net.relu"]


def test_in_place_activations_are_read_before_they_overwrite() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True))
    x = torch.randn(5, 6)
    expected = pack_bits(net[0](x) > 0)
    patterns = activation_patterns(net, activation_modules(net), [x])
    assert torch.equal(patterns.bits["1"], expected[:, None])


def test_no_activation_modules() -> None:
    with pytest.raises(InputError, match=r"Linear has no activation modules .*nn.ReLU\(\)"):
        activation_modules(nn.Linear(3, 3))


def test_a_linearised_net_has_no_activation_modules() -> None:
    net = LinearizedModel(nn.Sequential(nn.Linear(3, 3), nn.ReLU()))  # they run at θ₀ only
    with pytest.raises(InputError, match="LinearizedModel has no activation modules"):
        activation_modules(net)


def test_activation_modules_that_never_run() -> None:
    net = nn.ModuleDict({"used": nn.Linear(3, 3), "idle": nn.ReLU()})
    with pytest.raises(InputError, match="none of the activation modules idle ran"):
        activation_patterns(net["used"], activation_modules(net), [torch.randn(2, 3)])


def test_undisturbed_restores_modes_and_random_state_after_an_error() -> None:
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5)).train()
    net[0].eval()
    state = torch.get_rng_state()

    def measure() -> None:
        with undisturbed(net):
            assert not any(part.training for part in net.modules())
            torch.randn(3)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        measure()
    assert [part.training for part in net.modules()] == [True, False, True]
    assert torch.equal(torch.get_rng_state(), state)


def test_units_that_differ_between_batches_are_refused_in_one_line() -> None:
    net = nn.Sequential(nn.ReLU(), nn.Flatten(0))
    batches = [torch.randn(3, 4), torch.randn(3, 40)]
    with pytest.raises(InputError, match=r"layer 0 has other units .* in one batch") as caught:
        activation_patterns(net, activation_modules(net), batches)
    assert "\n" not in str(caught.value)
