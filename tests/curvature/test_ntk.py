"""The tangent kernel of nets of all kinds, by every route.

Oracle: explicit Jacobians by `torch.func.jacrev` of the whole batch, in float64, contracted by
einsum. Both are sums of the same products in another order, so they agree to some 1e-13; the
tolerance is 1e-12 of the largest entry.
"""

from collections import UserDict
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from lightning_lazy import InputError, LinearizedModel
from lightning_lazy.curvature import contractions, grouped_kernel, layerwise
from lightning_lazy.curvature.functional import ModelFunction, batch_statistics
from lightning_lazy.curvature.layerwise import find_layers
from lightning_lazy.curvature.ntk import tangent_kernel
from lightning_lazy.models import VGG, FullyConnected, TwoLayerNet


class TwiceUsed(nn.Module):
    """One layer used twice, one parameter in front, one that nothing depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 3)
        self.gain = nn.Parameter(torch.rand(6))
        self.idle = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(1)[:, :6]).relu_()
        return self.last(self.first(x) * self.gain)


class Elsewhere(nn.Module):
    """A weight that enters through its layer and in another way as well."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(192, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1)) + self.layer.weight.square().sum(1)


class TiedHalves(nn.Module):
    """Two layers of which the second has the weight of the first."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.out = nn.Linear(192, 5), nn.Linear(192, 5), nn.Linear(5, 2)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return self.out((self.one(x) * self.two(x)).tanh())


class Pairs(nn.Module):
    """The outputs of a sample depend on its neighbour."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(192, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(1)).tanh()
        return self.last(x + torch.roll(x, 1, dims=0))


class Transposed(nn.Module):
    """A layer that sees the channels first, of which there are as many as samples."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 4), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(2).transpose(0, 1)).tanh()
        return self.last(x.transpose(0, 1).flatten(1))


def flat(net: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), net)


PLAN: list[int | str] = [5, "M", 6, 6, "M", 7]
NETS: dict[str, Callable[[], nn.Module]] = {
    "convolutions": lambda: VGG(3, 8, 4, plan=PLAN),
    "batch norm": lambda: VGG(3, 8, 4, plan=PLAN, batch_norm=True),
    "factors in front": lambda: flat(TwoLayerNet(192, 8, 3)),
    "ntk parametrisation": lambda: flat(
        FullyConnected(192, 7, 2, 3, parametrization="ntk", sigma_b=0.3)
    ),
    "paired units": lambda: flat(TwoLayerNet(192, 8, 3, symmetric=True)),
    "used twice": TwiceUsed,
    "used elsewhere": Elsewhere,
    "tied": TiedHalves,
    "groups, one axis, overwriting": lambda: nn.Sequential(
        nn.Flatten(2),
        nn.Conv1d(3, 6, 3, stride=2, padding=1, dilation=2, groups=3),
        nn.GroupNorm(2, 6),
        nn.ReLU(inplace=True),
        nn.Conv1d(6, 4, 3, padding="same"),
        nn.Flatten(),
        nn.LayerNorm(124),
        nn.Linear(124, 2),
    ),
    "tokens": lambda: nn.Sequential(
        nn.Flatten(2),
        nn.Linear(64, 7),
        nn.Tanh(),
        nn.LayerNorm((3, 7)),
        nn.Flatten(),
        nn.Linear(21, 3, bias=False),
    ),
    "as many outputs as samples": lambda: flat(
        nn.Sequential(nn.Linear(192, 8), nn.RMSNorm(8), nn.PReLU(), nn.Linear(8, 3))
    ),
    "linearised": lambda: LinearizedModel(VGG(3, 8, 2, plan=[3, "M"])),
}
COVERED = {"convolutions", "batch norm", "factors in front", "ntk parametrisation", "tokens"}


@pytest.fixture(autouse=True)
def _in_double_precision() -> None:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)


def images(*sizes: int) -> list[Any]:
    return [(torch.randn(size, 3, 8, 8),) for size in sizes]


def function_of(net: nn.Module) -> ModelFunction:
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2.0)
            nn.init.normal_(part.weight)
    return ModelFunction(net.eval(), lambda module, batch: module(batch[0]))


def dense(
    function: ModelFunction, batches: list[Any], others: list[Any] | None, outputs: str = "full"
) -> Tensor:
    at = function.current()

    def rows(batch: Any) -> Tensor:
        parts = jacrev(lambda w: function.at(w, batch))(at)
        return torch.cat([part.flatten(2) for part in parts.values()], dim=2)

    left = torch.cat([rows(batch) for batch in batches])
    right = left if others is None else torch.cat([rows(batch) for batch in others])
    if outputs == "sum":
        return torch.einsum("ipk,jpk->ij", left, right)
    return torch.einsum("ipk,jqk->ipjq", left, right).flatten(0, 1).flatten(1)


def check(found: Tensor, wanted: Tensor, tolerance: float = 1e-12) -> None:
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= tolerance * wanted.abs().max()


@pytest.mark.filterwarnings("ignore:Jacobians take a backward pass:UserWarning")  # of RMSNorm
@pytest.mark.parametrize("outputs", ["full", "sum"])
@pytest.mark.parametrize("name", NETS)
def test_every_route_gives_the_kernel_of_explicit_jacobians(name: str, outputs: Any) -> None:
    function = function_of(NETS[name]())
    batches = images(3, 5)
    for others in (None, images(4)):
        wanted = dense(function, batches, others, outputs)
        for route in ("auto", "jacobian", "products", *(["layers"] if name in COVERED else [])):
            check(
                tangent_kernel(
                    function.at, function.current(), batches, others, outputs=outputs, route=route
                ),
                wanted,
            )


@pytest.mark.parametrize("outputs", ["full", "sum"])
@pytest.mark.parametrize("factors", [False, True])
def test_layers_keep_gradients_or_their_factors_with_the_same_kernel(
    monkeypatch: pytest.MonkeyPatch, outputs: Any, factors: bool
) -> None:
    monkeypatch.setattr("lightning_lazy.curvature.layerwise.keeps_factors", lambda *_: factors)
    monkeypatch.setattr(contractions, "_LARGEST", 5000)  # several blocks
    for name in COVERED | {"groups, one axis, overwriting"}:
        function = function_of(NETS[name]())
        batches = images(3, 4)
        for others in (None, images(2)):
            kernel = tangent_kernel(
                function.at, function.current(), batches, others, outputs=outputs
            )
            check(kernel, dense(function, batches, others, outputs))


def test_groups_of_parameters_add_up_where_not_all_can_be_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(grouped_kernel, "_HELD", 3000)
    batches = images(3, 5)
    for name in ("convolutions", "paired units", "linearised"):
        function = function_of(NETS[name]())
        for route in ("auto", "jacobian"):
            kernel = tangent_kernel(function.at, function.current(), batches, route=route)
            check(kernel, dense(function, batches, None))


@pytest.mark.parametrize("make", [Pairs, Transposed, NETS["batch norm"]])
def test_layers_behind_which_samples_mix_are_left_to_the_jacobian(
    make: Callable[[], nn.Module],
) -> None:
    net = make()
    function = function_of(net)
    batches = images(3, 3)
    at = {name: p.requires_grad_() for name, p in function.current().items()}
    with batch_statistics(net):
        found = find_layers(lambda b: function.at(at, b), at, batches[0], "full")
        names = {name for layer in found for name in layer.names}
        last = [name for name in at if name.startswith(("last", "layers.1"))]
        assert names
        assert names < set(at)
        assert names <= set(last)
        kernel = tangent_kernel(function.at, function.current(), batches)
        check(kernel, dense(function, batches, None))


def test_frozen_parameters_and_single_weights_or_biases_count_as_asked() -> None:
    function = function_of(VGG(3, 8, 4, plan=PLAN))
    weights = [p for name, p in function.module.named_parameters() if name.endswith("weight")]
    for number, p in enumerate(weights):
        p.requires_grad_(number % 2 == 0)
    for name, p in function.module.named_parameters():
        if name.endswith("0.bias"):
            p.requires_grad_(False)
    batches = images(3, 2)
    kernel = tangent_kernel(function.at, function.current(), batches, route="layers")
    check(kernel, dense(function, batches, None))


def test_functional_code_needs_no_module() -> None:
    at = {"w": torch.randn(5, 6), "v": torch.randn(2, 5), "b": torch.randn(2)}

    def function(w: dict[str, Tensor], x: Tensor) -> Tensor:
        return F.linear(torch.tanh(F.linear(x, w["w"] * 0.5 * 3)), 0.1 * w["v"], w["b"])

    x = torch.randn(7, 6)
    jacobian = torch.cat([j.flatten(2) for j in jacrev(function)(at, x).values()], dim=2)
    wanted = torch.einsum("ipk,jqk->ipjq", jacobian, jacobian).reshape(14, 14)
    check(tangent_kernel(function, at, list(x.split(3)), route="layers"), wanted)


def test_a_scaled_weight_that_is_overwritten_is_not_taken_for_what_it_was() -> None:
    at = {"w": torch.randn(2, 6), "v": torch.randn(6)}

    def function(w: dict[str, Tensor], x: Tensor) -> Tensor:
        scaled = w["w"] * 2.0
        scaled.mul_(3.0)
        return F.linear(x, scaled) + F.linear(x, w["v"]).unsqueeze(1)

    x = torch.randn(5, 6)
    jacobian = torch.cat([j.flatten(2) for j in jacrev(function)(at, x).values()], dim=2)
    wanted = torch.einsum("ipk,jqk->ipjq", jacobian, jacobian).reshape(10, 10)
    check(tangent_kernel(function, at, [x]), wanted)


def test_a_net_that_changes_its_way_with_the_batch_falls_back() -> None:
    class Fickle(TwiceUsed):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) < 3:
                return super().forward(x)
            return self.last(self.first(x.flatten(1)[:, :6]))

    function = function_of(Fickle())
    batches = images(4, 2)
    kernel = tangent_kernel(function.at, function.current(), batches)
    check(kernel, dense(function, batches, None))


class Clipped(nn.Module):
    """A layer whose outputs are scaled down to a norm of 1 over the batch, where that is larger."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(192, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(1))
        return self.last(x / x.norm().clamp(min=1.0))


def test_samples_that_mix_in_one_of_the_batches_only_are_noticed() -> None:
    net = Clipped()
    nn.init.zeros_(net.first.bias)
    function = function_of(net)
    small, large = images(4, 3)
    batches = [(small[0] * 1e-3,), large]
    assert function(batches[0]).norm() > 0
    for others in (None, batches[::-1]):
        kernel = tangent_kernel(function.at, function.current(), batches, others)
        check(kernel, dense(function, batches, others))


@pytest.mark.parametrize("outputs", [1, 3, 4])
def test_one_or_several_outputs_are_kept_at_a_time(
    monkeypatch: pytest.MonkeyPatch, outputs: int
) -> None:
    monkeypatch.setattr(layerwise, "_AT_ONCE", 5 * outputs)
    function = function_of(NETS["convolutions"]())
    batches = images(3, 5)
    kernel = tangent_kernel(function.at, function.current(), batches, route="layers")
    check(kernel, dense(function, batches, None))


class Fails(torch.autograd.Function):
    """The identity, without a derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, change: Tensor) -> Tensor:
        raise RuntimeError("no derivative of my own")


class Own(nn.Module):
    """Two layers with a function of the net's own in between."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.between = nn.Linear(192, 4), nn.Linear(4, 2), between

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.first(x.flatten(1)).tanh()))


def test_parts_that_run_again_in_the_backward_pass_take_a_slower_way_which_is_said() -> None:
    net = Own(nn.Identity())
    x = images(3)

    def function(w: dict[str, Tensor], batch: Any) -> Tensor:
        def of(x: Tensor) -> Tensor:
            return functional_call(net, w, (x,))

        return checkpoint(of, batch[0], use_reentrant=False)

    at = dict(net.named_parameters())
    with (
        pytest.warns(UserWarning, match="can't go by the net's layers"),
        pytest.warns(UserWarning, match="a backward pass for every sample and output"),
    ):
        kernel = tangent_kernel(function, at, x)
    check(kernel, dense(function_of(net), x, None))
    with pytest.raises(RuntimeError):
        tangent_kernel(function, at, x, route="layers")


class NeedsTwo(nn.Module):
    """A layer in front of code that fails on a single sample."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gain = nn.Linear(192, 4), nn.Parameter(torch.rand(4))

    def forward(self, x: Tensor) -> Tensor:
        if len(x) < 2:
            raise LookupError("two samples, please")
        return self.first(x.flatten(1)) * self.gain


def test_code_that_fails_on_one_sample_takes_a_slower_way_which_is_said() -> None:
    function = function_of(NeedsTwo())
    batches = images(3, 5)
    with pytest.warns(UserWarning, match=r"every sample .* \(LookupError: two samples, please\)"):
        kernel = tangent_kernel(function.at, function.current(), batches, route="jacobian")
    check(kernel, dense(function, batches, None))


@pytest.mark.parametrize("route", ["auto", "layers", "jacobian", "products"])
def test_an_error_of_the_nets_own_code_comes_through(route: Any) -> None:
    function = function_of(NeedsTwo())
    with pytest.raises(LookupError, match="two samples, please"):
        tangent_kernel(function.at, function.current(), images(3, 1), route=route)


@pytest.mark.filterwarnings("ignore:the kernel can't go by:UserWarning")
@pytest.mark.filterwarnings("ignore:Jacobians take a backward pass:UserWarning")
@pytest.mark.parametrize("route", ["auto", "layers", "jacobian", "products"])
def test_an_error_of_its_derivatives_comes_through_as_well(route: Any) -> None:
    function = function_of(Own(Fails.apply))
    with pytest.raises(RuntimeError, match="no derivative of my own"):
        tangent_kernel(function.at, function.current(), images(3), route=route)


def test_outputs_that_depend_on_no_parameter_have_a_kernel_of_zero() -> None:
    function = function_of(Own(nn.Identity()))
    for route in ("auto", "layers", "jacobian", "products"):
        kernel = tangent_kernel(
            lambda w, x: function.at(w, x).detach(), function.current(), images(3), route=route
        )
        assert not kernel.any()


class Record(UserDict):
    """A mapping that gives its keys as attributes, as batches of some libraries do."""

    def __getattr__(self, name: str) -> Any:
        return self.__dict__["data"][name]


def test_batches_of_any_mapping_keep_their_class() -> None:
    net, gain = nn.Linear(4, 2), torch.rand(2).requires_grad_()

    def function(w: dict[str, Tensor], batch: Record) -> Tensor:
        return F.linear(batch.x, w["weight"]) * w["gain"]

    at = {"weight": net.weight, "gain": gain}
    x = torch.randn(5, 4)
    outputs = x @ net.weight.T
    kernel = tangent_kernel(function, at, [Record(x=x)])
    wanted = torch.zeros(5, 2, 5, 2)
    for q in range(2):  # product rule, by hand
        wanted[:, q, :, q] = gain[q] ** 2 * (x @ x.T) + outputs[:, q, None] * outputs[:, q]
    check(kernel, wanted.detach().view(10, 10))


def test_outputs_of_one_axis_and_batches_of_mappings() -> None:
    net = nn.Linear(4, 1)
    at = dict(net.named_parameters())

    def function(w: dict[str, Tensor], batch: dict[str, Any]) -> Tensor:
        return functional_call(net, w, (batch["x"],)).squeeze(1) * batch["scale"]

    x = torch.randn(5, 4)
    for route in ("auto", "jacobian", "products"):
        kernel = tangent_kernel(function, at, [{"x": x, "scale": 2.0}], route=route)
        check(kernel, 4 * (x @ x.T + 1))


def test_single_precision_is_kept_and_close() -> None:
    # Rounding of float32 in sums of some hundred products: 1e-5 of the largest entry.
    function = function_of(VGG(3, 8, 4, plan=PLAN))
    batches = images(3, 5)
    wanted = dense(function, batches, None)
    single = ModelFunction(function.module.float(), lambda module, batch: module(batch[0].float()))
    kernel = tangent_kernel(single.at, single.current(), batches)
    assert kernel.dtype == torch.float32
    check(kernel.double(), wanted, 1e-5)


def test_nothing_is_left_behind() -> None:
    net = VGG(3, 8, 4, plan=PLAN, batch_norm=True)
    function = function_of(net)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    tangent_kernel(function.at, function.current(), images(3))
    torch.manual_seed(0)
    torch.set_rng_state(state)
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_a_kernel_is_symmetric_to_the_last_bit() -> None:
    function = function_of(NETS["convolutions"]())
    kernel = tangent_kernel(function.at, function.current(), images(20, 20))
    assert torch.equal(kernel, kernel.T)
    assert all(a >= b for a, b in pairwise(torch.linalg.eigvalsh(kernel).flip(0).tolist()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"outputs": "mean"}, "outputs must be one of full, sum, got 'mean'"),
        ({"route": "fast"}, "route must be one of auto, layers, jacobian, products, got 'fast'"),
        ({"parameters": {}}, "parameters must not be empty"),
        ({"batches": []}, "expected samples that all have the same number of outputs"),
        ({"route": "layers"}, "route='layers' can't cover the parameters first.weight, first.bias"),
    ],
)
def test_mistakes_are_said_in_one_line(arguments: dict[str, Any], message: str) -> None:
    function = function_of(Pairs())
    given = {"parameters": function.current(), "batches": images(3)} | arguments
    with pytest.raises(InputError, match=message):
        tangent_kernel(function.at, **given)
