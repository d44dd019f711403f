"""Distance of the parameters and the gap to the linearisation, against closed forms."""

import math
from collections import UserDict

import pytest
import torch
from torch import Tensor, nn

from lightning_lazy import InputError, LinearizedModel
from lightning_lazy.curvature.functional import (
    ModelFunction,
    batch_statistics,
    cast_floats,
    directional_derivative,
)
from lightning_lazy.laziness import (
    as_outputs,
    gap_sums,
    judge,
    linearization_gap,
    parameter_distance,
)


def test_distance_is_the_ratio_of_euclidean_norms() -> None:
    # Closed form: ‖(3, 4)‖ / ‖(0, 2, 0, 0)‖ by layers, and over everything.
    start = {"a.weight": torch.tensor([0.0, 2.0]), "a.bias": torch.zeros(1), "b.w": torch.ones(4)}
    now = {
        "a.weight": torch.tensor([3.0, 2.0]),
        "a.bias": torch.tensor([4.0]),
        "b.w": torch.ones(4),
    }
    distance = parameter_distance(now, start)
    assert distance.by_layer == {"a": 2.5, "b": 0.0}
    assert distance.overall == pytest.approx(5 / math.sqrt(8), rel=1e-15)


def test_a_layer_that_starts_at_zero_has_no_relative_distance() -> None:
    distance = parameter_distance({"a.w": torch.ones(1)}, {"a.w": torch.zeros(1)})
    assert distance.by_layer == {}
    assert distance.overall == math.inf
    assert parameter_distance({"w": torch.zeros(1)}, {"w": torch.zeros(1)}).overall == 0


class Product(nn.Module):
    """h(u, v; x) = u v x: its linearisation misses exactly Δu Δv x."""

    def __init__(self) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
        self.v = nn.Parameter(torch.tensor(3.0, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.u * self.v * x


def test_the_gap_of_a_product_is_known() -> None:
    # Closed form with Δu = 0.5, Δv = -1: h = 5x, h(w₀) = 6x, h − h̄ = −0.5x; y = x.
    net = Product()
    function = ModelFunction(net, lambda module, x: module(x))
    start = function.current()
    now = {"u": start["u"] + 0.5, "v": start["v"] - 1.0}
    x = torch.randn(7, 1, dtype=torch.float64)
    result = linearization_gap(gap_sums(function, start, now, x.split(3), lambda x, _: x))
    assert result.gap == pytest.approx(0.5 / 5, rel=1e-12)
    assert result.nonlinear_share == pytest.approx(0.5, rel=1e-12)
    without = linearization_gap(gap_sums(function, start, now, [x], lambda *_: None))
    assert math.isnan(without.gap)
    assert without.nonlinear_share == pytest.approx(0.5, rel=1e-12)
    assert linearization_gap(gap_sums(function, start, start, [x], lambda x, _: x)).gap == 0


def test_the_linearised_model_has_no_gap() -> None:
    # Zero up to rounding of outputs of order 1 in double precision.
    net = nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 2)).double()
    model = LinearizedModel(net)
    function = ModelFunction(model, lambda module, x: module(x))
    start = function.current()
    assert all(name.startswith("net.") for name in start)
    now = {name: w + torch.randn_like(w) for name, w in start.items()}
    x = torch.randn(6, 4, dtype=torch.float64)
    sums = gap_sums(function, start, now, [x], lambda *_: None)
    assert linearization_gap(sums).nonlinear_share < 1e-14


def test_double_precision_sees_gaps_that_rounding_hides_in_single() -> None:
    # Closed form: relative to the change, the gap of tanh(wx) at w₀ = 0.3 is |f''/f'| Δw x/2.
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Tanh())
    nn.init.constant_(net[0].weight, 0.3)
    x = torch.ones(1, 1)
    slope = 1 - math.tanh(0.3) ** 2
    expected = math.tanh(0.3) * 1e-4  # |f''| / (2 f') = |tanh|, Δw = 1e-4
    assert slope > 0
    found = {}
    for dtype in (torch.float32, torch.float64):
        function = ModelFunction(net, lambda module, x: module(x), dtype)
        start = function.current()
        now = {name: w + 1e-4 for name, w in start.items()}
        sums = gap_sums(function, start, now, [x], lambda *_: None)
        found[dtype] = linearization_gap(sums).nonlinear_share
    assert found[torch.float64] == pytest.approx(expected, rel=1e-3)
    assert not 0.9 * expected < found[torch.float32] < 1.1 * expected


@pytest.mark.parametrize(
    "target",
    [torch.tensor([1, 0]), torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])],
)
def test_labels_become_one_hot_and_floats_stay(target: Tensor) -> None:
    expected = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    assert torch.equal(as_outputs(torch.zeros(2, 3), target), expected)


def test_labels_of_one_output_become_signs_and_of_maps_one_hot_along_axis_1() -> None:
    assert as_outputs(torch.zeros(3, 1), torch.tensor([0, 1, 1])).flatten().tolist() == [-1, 1, 1]
    labels = torch.randint(4, (2, 5, 6))
    encoded = as_outputs(torch.zeros(2, 4, 5, 6), labels)
    assert torch.equal(encoded.argmax(1), labels)
    assert torch.equal(encoded.sum(1), torch.ones(2, 5, 6))


def test_targets_that_do_not_fit_name_the_way_out() -> None:
    with pytest.raises(InputError, match=r"outputs of shape \[2, 3\] with targets of shape \[5\]"):
        as_outputs(torch.zeros(2, 3), torch.zeros(5))


class NoForwardMode(torch.autograd.Function):
    """x³ with reverse mode, twice differentiable, and without forward mode."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x**3

    @staticmethod
    def setup_context(ctx: object, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)  # type: ignore[attr-defined]

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return 3 * x**2 * grad


def test_operations_without_forward_mode_are_differentiated_in_reverse() -> None:
    w, v = torch.randn(5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    value, change = directional_derivative(
        lambda p: NoForwardMode.apply(p["w"]), {"w": w}, {"w": v}
    )
    torch.testing.assert_close(value, w**3, rtol=1e-14, atol=0)
    torch.testing.assert_close(change, 3 * w**2 * v, rtol=1e-14, atol=0)


def test_batch_statistics_leave_no_trace() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x = torch.randn(8, 3)
    with batch_statistics(net):
        output = net(x)
    # Oracle: normalisation written out, with the biased variance that BatchNorm uses.
    hidden = net[0](x)
    spread = (hidden.var(0, unbiased=False) + net[1].eps).sqrt()
    torch.testing.assert_close(output, (hidden - hidden.mean(0)) / spread, rtol=1e-5, atol=1e-6)
    assert not net[1].training
    assert net[1].track_running_stats
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_casting_keeps_structure_and_integers() -> None:
    batch = {"x": torch.zeros(1), "y": [torch.zeros(1, dtype=torch.int64), "text"]}
    cast = cast_floats(batch, torch.float64)
    assert cast["x"].dtype == torch.float64
    assert cast["y"][0].dtype == torch.int64
    assert cast["y"][1] == "text"
    assert cast_floats(batch, None) is batch
    assert batch["x"].dtype == torch.float32
    encoded = cast_floats(UserDict(batch), torch.float64)
    assert isinstance(encoded, UserDict)
    assert encoded["x"].dtype == torch.float64


@pytest.mark.parametrize(
    ("stability", "share", "verdict"),
    [
        (0.995, 0.05, "lazy"),
        (0.99, 0.1, "lazy"),
        (0.95, 0.05, "intermediate"),
        (0.995, 0.7, "intermediate"),
        (0.9, 0.5, "active"),
        (0.6, math.inf, "active"),
        (0.6, math.nan, "unknown"),
    ],
)
def test_a_claim_needs_every_measure(stability: float, share: float, verdict: str) -> None:
    evidence = {"activation_stability": stability, "nonlinear_share": share, "param_distance": 9.0}
    result = judge(evidence)
    assert result.verdict == verdict
    assert result.evidence == evidence or math.isnan(share)
    assert set(result.votes) == {"activation_stability", "nonlinear_share"}


def test_nothing_measured_is_unknown_and_a_kernel_that_drifts_counts() -> None:
    assert judge({"param_distance": 0.1}).verdict == "unknown"
    assert judge({"nonlinear_share": 0.05, "kernel_drift": 0.3}).verdict == "intermediate"
