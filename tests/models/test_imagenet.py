"""ResNet-50. Oracles: torchvision's net with the same weights, and the conventions of all nets."""

import math

import pytest
import torch
from torch import nn

from lightning_lazy import InputError, ScaledModel
from lightning_lazy.models.imagenet import Bottleneck, ResNet50


def small(**options):
    return ResNet50(3, 33, 5, width=1 / 16, **options)


def images(n=4):
    return torch.randn(n, 3, 33, 33, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("training", [True, False])
def test_it_computes_what_torchvisions_net_computes(training):
    # The same operations in the same order: equal to the last bit. Its channels can't be narrowed,
    # so this is the whole net, with averages moved by one pass in training mode.
    models = pytest.importorskip("torchvision.models")
    ours, theirs = ResNet50(3, 40, 7), models.resnet50(num_classes=7)
    with torch.no_grad():
        for p, q in zip(theirs.parameters(), ours.parameters(), strict=True):
            p.copy_(q)
    x = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(ours(x), theirs(x))
        if not training:
            assert torch.equal(ours.eval()(x), theirs.eval()(x))


def test_the_published_number_of_parameters():
    with torch.device("meta"):
        assert sum(p.numel() for p in ResNet50(3, 224, 1000).parameters()) == 25_557_032


def test_initial_weights_are_those_of_lecun():
    # Five standard errors of a deviation, spread/√(2n).
    for layer in ResNet50(3, 32, 10, width=0.25, gain=1.5).modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 2000:
            spread = 1.5 / math.sqrt(layer.weight[0].numel())
            error = 5 * spread / math.sqrt(2 * layer.weight.numel())
            assert layer.weight.std().item() == pytest.approx(spread, abs=error)
            assert layer.bias is None


def test_activations_are_modules_of_one_place_and_not_in_place():
    net, calls = small().eval(), []
    for module in net.modules():
        assert not getattr(module, "inplace", False)
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda module, args, out: calls.append(module))
    net(images())
    assert len(calls) == len(set(calls)) == 1 + 3 * 16


@pytest.mark.parametrize("training", [True, False])
def test_the_centred_net_is_zero_at_initialisation(training):
    model = ScaledModel(small(), 1e3, "subtract").train(training)
    assert model(images()).count_nonzero() == 0


def test_batch_statistics_in_evaluation_where_there_are_no_running_averages():
    net = small(running_averages=False)
    assert torch.equal(net(images()), net.eval()(images()))
    assert not any("running" in name for name in net.state_dict())


def test_blocks_may_start_as_the_identity():
    net = small(zero_residual=True)
    blocks = [module for module in net.modules() if isinstance(module, Bottleneck)]
    assert len(blocks) == 16
    x = torch.rand(2, 16, 5, 5)  # above 0, which the activation leaves as it is
    for block in blocks[1:3]:
        assert torch.equal(block(x), x)
    for block in blocks:
        inputs = block.residual[0].in_channels
        assert block.residual(torch.rand(2, inputs, 4, 4)).count_nonzero() == 0


def test_draws_come_from_the_generator():
    state = torch.get_rng_state()
    first, second = (small(generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, first.parameters(), second.parameters()))


def test_bad_arguments():
    with pytest.raises(InputError, match="width must be finite and above 0, got 0"):
        ResNet50(3, 32, 10, width=0)
    with pytest.raises(InputError, match=r"takes images of shape \[batch, 3, 33, 33\], got"):
        small()(torch.zeros(2, 3, 32, 32))
