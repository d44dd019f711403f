"""The net of two parts. Oracles: equations 3.5 and 3.6 by hand, moments of the initial weights."""

import math
from typing import Any

import pytest
import torch

from lightning_lazy import InputError
from lightning_lazy.models import TwoPartNet


def net(**arguments: Any) -> TwoPartNet:
    generator = torch.Generator().manual_seed(0)
    return TwoPartNet(**({"in_features": 10, "width": 400} | arguments), generator=generator)


def test_outputs_are_those_of_the_two_parts() -> None:
    model, x = net(v_features=4, v_width=30).double(), torch.randn(7, 10, dtype=torch.float64)
    hidden = {name: p.detach() for name, p in model.named_parameters()}
    r = (x[:, :6] @ hidden["w.hidden.weight"].T).relu() @ hidden["w.output.weight"].T
    g = (x[:, 6:] @ hidden["v.hidden.weight"].T).relu() @ hidden["v.output.weight"].T
    found = model.parts(x)
    torch.testing.assert_close(found[0], r)
    torch.testing.assert_close(found[1], g)
    torch.testing.assert_close(model(x), r + g)
    assert model(x).shape == (7, 1)


def test_the_second_layers_are_signs_and_frozen() -> None:
    model = net(v_width=100, tau=0.3)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"w.hidden.weight", "v.hidden.weight"}
    for part, width in ((model.w, 400), (model.v, 100)):
        values = part.output.weight * math.sqrt(width)
        torch.testing.assert_close(values.abs(), torch.ones(1, width))
        assert abs(values.mean()) < 4 / math.sqrt(width)
        # Entries of U are N(0, τ²): Σ u²/τ² is χ².
        weight = part.hidden.weight.detach()
        statistic = float(weight.square().sum()) / 0.3**2
        assert abs(statistic - weight.numel()) < 4 * math.sqrt(2 * weight.numel())


def test_halves_are_the_default() -> None:
    model = net()
    assert model.split == 5
    assert model.v.hidden.weight.shape == model.w.hidden.weight.shape == (400, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"v_features": 10}, "v_features must be below in_features=10, got 10"),
        ({"v_features": 0}, "v_features must be an integer of at least 1, got 0"),
        ({"in_features": 1}, "in_features must be an integer of at least 2, got 1"),
        ({"v_width": 0}, "out_features must be an integer of at least 1, got 0"),
        ({"tau": 0.0}, "std must be finite and above 0, got 0"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        net(**arguments)
