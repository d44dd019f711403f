"""ScaledModel: zero at initialisation, scale, and what survives a state_dict."""

import copy
import io

import pytest
import torch
from torch import nn

from lightning_lazy import InputError, ScaledModel


def small_net(batch_norm: bool = False) -> nn.Module:
    norm = nn.BatchNorm1d(8) if batch_norm else nn.Identity()
    return nn.Sequential(nn.Linear(5, 8), norm, nn.Tanh(), nn.Linear(8, 3))


def move(model: nn.Module) -> None:
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn_like(p))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("centering", ["subtract", "symmetrize"])
def test_output_at_initialisation_is_exactly_zero(
    centering: str, batch_norm: bool, training: bool
) -> None:
    model = ScaledModel(small_net(batch_norm), alpha=7.0, centering=centering).train(training)
    assert (model(torch.randn(6, 5)) == 0).all()


def test_subtract_is_alpha_times_the_difference_to_the_start() -> None:
    # Oracle: the definition, F = α (f(θ, x) − f(θ₀, x)), with a copy made by hand.
    net = small_net().double()
    start = copy.deepcopy(net)
    model = ScaledModel(net, alpha=3.0)
    move(model)
    x = torch.randn(6, 5, dtype=torch.float64)
    torch.testing.assert_close(model(x), 3.0 * (net(x) - start(x)), rtol=0, atol=0)


def test_none_is_alpha_times_the_net() -> None:
    net = small_net()
    x = torch.randn(6, 5)
    torch.testing.assert_close(ScaledModel(net, 3.0, "none")(x), 3.0 * net(x), rtol=0, atol=0)


def tangent_kernel(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Θ(x, x') summed over outputs, from explicit gradients."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters, retain_graph=True)])
        for value in model(x).flatten()
    ]
    jacobian = torch.stack(rows).view(len(x), -1, rows[0].numel())
    return torch.einsum("nop,mop->nm", jacobian, jacobian)


def test_difference_of_copies_keeps_the_tangent_kernel_of_the_net() -> None:
    # Oracle: Θ of the net itself; float64, both are sums of some hundred products.
    net = small_net().double()
    x = torch.randn(4, 5, dtype=torch.float64)
    expected = tangent_kernel(net, x)
    actual = tangent_kernel(ScaledModel(net, 1.0, "symmetrize"), x)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_only_the_net_is_trained() -> None:
    model = ScaledModel(small_net())
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {f"net.{name}" for name, _ in small_net().named_parameters()}


def test_a_model_from_a_state_dict_stays_centred_at_the_first_start() -> None:
    model = ScaledModel(small_net(), alpha=2.0)
    move(model)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = ScaledModel(small_net(), alpha=2.0)
    other.load_state_dict(torch.load(file, weights_only=True))
    x = torch.randn(6, 5)
    assert model(x).abs().min() > 0
    torch.testing.assert_close(other(x), model(x), rtol=0, atol=0)


def test_batch_norm_statistics_of_the_reference_are_its_own() -> None:
    model = ScaledModel(small_net(batch_norm=True)).train()
    move(model)
    model(torch.randn(6, 5) + 1)
    net_norm, reference_norm = model.net[1], model.reference.net[1]
    assert net_norm.num_batches_tracked == reference_norm.num_batches_tracked == 1
    assert not torch.equal(net_norm.running_mean, reference_norm.running_mean)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf"), "big", True])
def test_alpha_out_of_range(alpha: object) -> None:
    with pytest.raises(InputError, match="alpha must be"):
        ScaledModel(small_net(), alpha=alpha)


def test_unknown_centering() -> None:
    with pytest.raises(InputError, match="centering must be one of subtract, symmetrize, none"):
        ScaledModel(small_net(), centering="middle")


@pytest.mark.parametrize("centering", ["subtract", "symmetrize"])
def test_dropout_is_refused_where_a_copy_is_needed(centering: str) -> None:
    net = nn.Sequential(nn.Linear(5, 3), nn.Dropout(0.1))
    with pytest.raises(InputError, match=r"dropout layer '1' \(p=0.1\)"):
        ScaledModel(net, centering=centering)
    ScaledModel(net, centering="none")
    ScaledModel(nn.Sequential(nn.Linear(5, 3), nn.Dropout(0.0)), centering=centering)


@pytest.mark.parametrize("centering", ["subtract", "symmetrize"])
def test_a_first_layer_that_overwrites_the_inputs_is_refused(centering: str) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Sequential(nn.ReLU(inplace=True), nn.Linear(5, 3)))
    with pytest.raises(InputError, match=r"first layer '1.0' \(ReLU\) overwrites the inputs"):
        ScaledModel(net, centering=centering)
    ScaledModel(net, centering="none")
    # Behind another layer it overwrites what nobody else needs.
    later = nn.Sequential(nn.Linear(5, 4), nn.ReLU(inplace=True), nn.Linear(4, 3))
    assert (ScaledModel(later, centering=centering)(torch.randn(6, 5)) == 0).all()


def test_weights_of_another_scale_are_refused() -> None:
    state = ScaledModel(small_net(), alpha=2.0).state_dict()
    with pytest.raises(InputError, match=r"'alpha': 2.0.*'alpha': 3.0"):
        ScaledModel(small_net(), alpha=3.0).load_state_dict(state)
