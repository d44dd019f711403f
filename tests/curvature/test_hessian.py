"""Products against dense Hessians from torch.func.hessian, float64, to 1e-10."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian
from torch.nn import functional as F

from lightning_lazy.curvature.functional import (
    ModelFunction,
    Parameters,
    batch_statistics,
    trained_parameters,
)
from lightning_lazy.curvature.hessian import HessianOperator, Loss, Route
from lightning_lazy.curvature.micro_batches import count_examples, split_batch
from lightning_lazy.curvature.vectors import as_vector
from lightning_lazy.errors import InputError

ROUTES = get_args(Route)


class Tied(nn.Module):
    """Two layers that share a weight, a frozen one and one that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.unused = nn.Linear(2, 2)
        self.frozen = nn.Linear(4, 2).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.frozen(torch.tanh(self.second(torch.tanh(self.first(x)))))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def convnet() -> nn.Module:
    head = (nn.Flatten(), nn.Linear(12, 3))
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2), *head)


def batch_norm() -> nn.Module:
    head = (nn.Flatten(), nn.Linear(48, 3))
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Softplus(), *head)


class PlainBatchNorm(nn.Module):
    """BatchNorm with batch statistics from elementary operations."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = x.mean((0, 2, 3), True), x.var((0, 2, 3), correction=0, keepdim=True)
        scale = self.weight[:, None, None] / (variance + self.eps).sqrt()
        return (x - mean) * scale + self.bias[:, None, None]


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "mlp": (mlp, (4,), 3),
    "convnet with max pooling": (convnet, (2, 6, 6), 3),
    "BatchNorm": (batch_norm, (2, 6, 6), 3),
    "tied, frozen, unused": (Tied, (4,), 2),
    "one output": (lambda: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)), (4,), 1),
}


def problem(name: str) -> tuple[nn.Module, Loss, tuple[Tensor, Tensor]]:
    """Return a net in evaluation mode, its loss and seven samples."""
    build, shape, outputs = NETS[name]
    torch.manual_seed(0)
    net = build().double()
    x = torch.randn(7, *shape).double()
    y = torch.randn(7, 1).double() if outputs == 1 else torch.arange(7) % outputs
    if name == "BatchNorm":
        net(x)  # moves the running averages
    criterion = F.mse_loss if outputs == 1 else F.cross_entropy
    model = ModelFunction(net.eval(), lambda m, batch: criterion(m(batch[0]), batch[1]))
    return net, model.at, (x, y)


def dense(loss: Callable[[Parameters], Tensor], parameters: Parameters) -> Tensor:
    at = {name: p.detach() for name, p in parameters.items()}
    blocks = hessian(loss)(at)
    rows = [torch.cat([blocks[a][b].reshape(at[a].numel(), -1) for b in at], dim=1) for a in at]
    return torch.cat(rows)


def all_products(operator: Callable[[Tensor], Tensor], dim: int) -> Tensor:
    return torch.stack([operator(row) for row in torch.eye(dim, dtype=torch.float64)], dim=1)


def assert_same(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", NETS)
def test_products_are_those_of_the_dense_hessian(name: str, route: Route) -> None:
    net, loss, batch = problem(name)
    parameters = trained_parameters(net)
    buffers = {key: value.clone() for key, value in net.state_dict().items()}
    operator = HessianOperator(loss, parameters, [batch], route=route)
    assert operator.dim == sum(p.numel() for p in parameters.values())
    expected = dense(lambda w: loss(w, batch), parameters)
    assert_same(all_products(operator, operator.dim), expected)
    assert operator.products == operator.dim
    assert all(torch.equal(value, buffers[key]) for key, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("route", ROUTES)
def test_micro_batches_of_unequal_size_make_the_mean_over_all_samples(route: Route) -> None:
    net, loss, batch = problem("convnet with max pooling")
    parts = split_batch(batch, 3)
    weights = [count_examples(part) / 7 for part in parts]
    assert [count_examples(part) for part in parts] == [3, 3, 1]
    parameters = trained_parameters(net)
    operator = HessianOperator(loss, parameters, parts, weights=weights, route=route)
    expected = dense(lambda w: loss(w, batch), parameters)
    assert_same(all_products(operator, operator.dim), expected)
    whole = HessianOperator(loss, parameters, [batch])
    assert_same(operator.gradient(), whole.gradient())
    assert_same(operator.value(), whole.value())
    assert_same(whole.value(), loss(parameters, batch).detach())
    expected = torch.func.grad(lambda w: loss(w, batch))(
        {n: p.detach() for n, p in parameters.items()}
    )
    assert_same(whole.gradient(), as_vector(expected))


@pytest.mark.parametrize("route", ROUTES)
def test_batch_statistics_on_a_fixed_partition_leave_the_buffers(route: Route) -> None:
    # The oracle computes BatchNorm from elementary operations: torch.func.hessian of the fused one,
    # in training mode, is not even symmetric (torch 2.14; finite differences side with ours).
    net, loss, batch = problem("BatchNorm")
    parts = [tuple(t[:4] for t in batch), tuple(t[4:] for t in batch)]
    parameters = trained_parameters(net)
    buffers = [value.clone() for value in net.buffers()]
    with batch_statistics(net):
        operator = HessianOperator(loss, parameters, parts, route=route)
        products = all_products(operator, operator.dim)
    assert all(torch.equal(a, b) for a, b in zip(buffers, net.buffers(), strict=True))
    plain = nn.Sequential(net[0], PlainBatchNorm(net[1]), *net[2:])

    def mean(w: Parameters, batches: list[Any]) -> Tensor:
        losses = [F.cross_entropy(functional_call(plain, w, (x,)), y) for x, y in batches]
        return torch.stack(losses).mean()

    assert_same(products, dense(lambda w: mean(w, parts), parameters))
    whole = dense(lambda w: mean(w, [batch]), parameters)
    assert (products - whole).abs().max() > 1e-3  # the partition is part of the definition


@pytest.mark.parametrize("route", ROUTES)
def test_the_operator_stays_the_same_when_the_parameters_move(route: Route) -> None:
    net, loss, batch = problem("mlp")
    operator = HessianOperator(loss, trained_parameters(net), [batch], route=route)
    v = torch.linspace(-1, 1, operator.dim, dtype=torch.float64)
    before = operator(v)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(1)
    assert torch.equal(before, operator(v))


def test_auto_keeps_a_graph_for_one_micro_batch_only() -> None:
    net, loss, batch = problem("mlp")
    parameters = trained_parameters(net)
    assert HessianOperator(loss, parameters, [batch]).route == "kept_graph"
    assert HessianOperator(loss, parameters, split_batch(batch, 4)).route == "reverse"


def test_ranks_add_up_to_one_process() -> None:
    # Three ranks, one without a sample; each `reduce` gives the sum of what all of them hold.
    net, loss, batch = problem("mlp")
    parameters = trained_parameters(net)
    shares = [split_batch(tuple(t[:5] for t in batch), 2), [], [tuple(t[5:] for t in batch)]]
    v = torch.randn(43, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    held: list[Tensor] = []

    def partial(share: list[Any]) -> Tensor:
        weights = [count_examples(part) / 7 for part in share]
        return HessianOperator(
            loss, parameters, share, weights=weights, reduce=lambda t: held.append(t) or t
        )(v)

    total = sum(partial(share) for share in shares)
    assert len(held) == len(shares)
    assert_same(total, HessianOperator(loss, parameters, [batch])(v))


@pytest.mark.parametrize("route", ROUTES)
def test_parts_that_a_loss_is_linear_in_or_ignores_have_rows_of_zeros(route: Route) -> None:
    w = {
        "square": torch.ones(2).double(),
        "linear": torch.ones(2).double(),
        "no": torch.ones(1).double(),
    }
    operator = HessianOperator(
        lambda w, x: (x * w["square"] ** 2).sum() + w["linear"].sum(),
        w,
        [torch.ones(2)],
        route=route,
    )
    assert_same(all_products(operator, 5), torch.diag(torch.tensor([2.0, 2, 0, 0, 0]).double()))
    flat = HessianOperator(lambda w, x: w["linear"].sum(), w, [None], route=route)
    assert_same(flat(torch.ones(5)), torch.zeros(5).double())


def test_single_precision_stays_single_and_agrees() -> None:
    # Rounding of float32 through two backward passes.
    net, loss, batch = problem("mlp")
    parameters = trained_parameters(net)
    double = HessianOperator(loss, parameters, [batch])
    single = HessianOperator(
        lambda w, b: F.cross_entropy(functional_call(net, w, (b[0].float(),)), b[1]),
        {name: p.detach().float() for name, p in parameters.items()},
        [batch],
    )
    v = torch.ones(single.dim)
    assert single(v).dtype == torch.float32
    torch.testing.assert_close(single(v).double(), double(v), rtol=1e-4, atol=1e-5)


def test_it_works_without_gradients_and_draws_nothing() -> None:
    net, loss, batch = problem("mlp")
    before = torch.get_rng_state()
    operator = HessianOperator(loss, trained_parameters(net), [batch])
    v = torch.ones(operator.dim).double()
    with torch.no_grad():
        product, gradient = operator(v), operator.gradient()
    assert not product.requires_grad
    assert not gradient.requires_grad
    assert torch.equal(before, torch.get_rng_state())


class Once(torch.autograd.Function):
    """Doubles its input; can be differentiated once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * gradient


@contextmanager
def fused_attention() -> Iterator[None]:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        yield


def attention(w: Parameters, x: Tensor) -> Tensor:
    q = x * w["w"]
    with fused_attention():
        return F.scaled_dot_product_attention(q, q, q).square().mean()


@pytest.mark.parametrize("route", ["reverse", "kept_graph", "forward_over_reverse"])
@pytest.mark.parametrize(
    ("loss", "shape"),
    [(lambda w, x: (Once.apply(x * w["w"]) ** 2).sum(), (3,)), (attention, (1, 1, 4, 8))],
)
def test_what_can_not_be_differentiated_twice_is_said_in_one_line(
    loss: Loss, shape: tuple[int, ...], route: Route
) -> None:
    operator = HessianOperator(loss, {"w": torch.ones(1)}, [torch.ones(shape)], route=route)
    with pytest.raises(InputError, match="can't be differentiated twice") as caught:
        operator(torch.ones(1))
    assert "\n" not in str(caught.value)


def test_batches_are_split_in_order_whatever_holds_the_tensors() -> None:
    batch = {"x": torch.arange(5), "pair": (torch.arange(5) * 2, [torch.tensor(7)]), "name": "a"}
    parts = split_batch(batch, 2)
    assert [count_examples(part) for part in parts] == [2, 2, 1]
    assert torch.equal(torch.cat([part["pair"][0] for part in parts]), torch.arange(5) * 2)
    assert all(part["pair"][1] == [torch.tensor(7)] and part["name"] == "a" for part in parts)
    assert torch.equal(split_batch(torch.arange(3), 9)[0], torch.arange(3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"route": "fast"}, "route must be one of auto, reverse"),
        ({"parameters": {}}, "parameters must not be empty"),
        ({"parameters": {"w": torch.ones(2, dtype=torch.int64)}}, "one floating type"),
        ({"parameters": {"w": torch.ones(2), "b": torch.ones(2).double()}}, "one floating type"),
        ({"weights": [1.0, 2.0]}, "a weight for each of 1 batches, got 2"),
        ({"loss": lambda w, x: w["w"] * x}, r"the loss must be a scalar, got shape \[2\]"),
        ({"loss": lambda w, x: x.sum()}, "the loss must depend on the parameters"),
    ],
)
def test_bad_input_gets_one_clear_line(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "loss": lambda w, x: (w["w"] ** 2 * x).sum(),
        "parameters": {"w": torch.ones(2)},
        "batches": [torch.ones(2)],
    }
    with pytest.raises(InputError, match=message):
        HessianOperator(**(arguments | changes))(torch.ones(2))


def test_a_vector_or_a_batch_of_another_shape_is_refused() -> None:
    operator = HessianOperator(lambda w, x: (w["w"] ** 2).sum(), {"w": torch.ones(2)}, [None])
    with pytest.raises(InputError, match=r"expected a vector of shape \[2\], got \[3\]"):
        operator(torch.ones(3))
    with pytest.raises(InputError, match=r"one length of their first axis, got \[2, 3\]"):
        split_batch((torch.ones(2), torch.ones(3)), 1)
    with pytest.raises(InputError, match="got none"):
        split_batch(torch.ones(()), 1)
    with pytest.raises(InputError, match="max_examples_at_once must be an integer"):
        split_batch(torch.ones(2), 0)
