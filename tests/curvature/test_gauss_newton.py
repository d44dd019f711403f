"""Products against the explicit matrix Jᵀ H J from torch.func Jacobians, float64, to 1e-10."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev
from torch.nn import functional as F

from lightning_lazy.curvature.functional import Parameters, trained_parameters
from lightning_lazy.curvature.gauss_newton import GaussNewtonOperator
from lightning_lazy.curvature.hessian import HessianOperator
from lightning_lazy.errors import InputError

Criterion = Callable[[Tensor, Tensor], Tensor]


def net_of(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "linear":
        return nn.Linear(4, 3).double()
    if kind == "mlp":
        return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    flat = (nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 3, 2, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(*flat, nn.Flatten(), nn.Linear(3, 3)).double()


def explicit(net: nn.Module, criterion: Criterion, x: Tensor, y: Tensor) -> Tensor:
    at = {name: p.detach() for name, p in trained_parameters(net).items()}
    blocks = jacrev(lambda w: functional_call(net, w, (x,)))(at)
    outputs = functional_call(net, at, (x,))
    jacobian = torch.cat([block.reshape(outputs.numel(), -1) for block in blocks.values()], dim=1)
    curvature = hessian(lambda f: criterion(f, y))(outputs).reshape(outputs.numel(), -1)
    return jacobian.T @ curvature @ jacobian


def operator_of(
    net: nn.Module, criterion: Criterion, batches: list[tuple[Tensor, Tensor]], **options: object
) -> GaussNewtonOperator:
    def outputs(w: Parameters, batch: tuple[Tensor, Tensor]) -> Tensor:
        return functional_call(net, w, (batch[0],))

    return GaussNewtonOperator(
        outputs,
        lambda output, batch: criterion(output, batch[1]),
        trained_parameters(net),
        batches,
        **options,
    )


def data(labels: bool) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(7, 4, dtype=torch.float64, generator=generator)
    y = torch.randn(7, 3, dtype=torch.float64, generator=generator)
    return x, y.argmax(dim=1) if labels else y


@pytest.mark.parametrize("criterion", [F.cross_entropy, F.mse_loss])
@pytest.mark.parametrize("kind", ["linear", "mlp", "convnet"])
@pytest.mark.parametrize("sizes", [[7], [3, 4]])
def test_products_are_those_of_the_explicit_matrix(
    kind: str, criterion: Criterion, sizes: list[int]
) -> None:
    net, (x, y) = net_of(kind), data(labels=criterion is F.cross_entropy)
    batches = list(zip(x.split(sizes), y.split(sizes), strict=True))
    operator = operator_of(net, criterion, batches, weights=[n / 7 for n in sizes])
    products = [operator(row) for row in torch.eye(operator.dim, dtype=torch.float64)]
    assert operator.products == operator.dim
    expected = explicit(net, criterion, x, y)
    torch.testing.assert_close(torch.stack(products), expected, rtol=0, atol=1e-10)
    assert torch.linalg.eigvalsh(expected).min() > -1e-12


def test_it_is_the_hessian_where_the_net_is_linear() -> None:
    net, batch = net_of("linear"), data(labels=True)
    hessian_operator = HessianOperator(
        lambda w, batch: F.cross_entropy(functional_call(net, w, (batch[0],)), batch[1]),
        trained_parameters(net),
        [batch],
    )
    v = torch.linspace(-1, 1, hessian_operator.dim, dtype=torch.float64)
    product = operator_of(net, F.cross_entropy, [batch])(v)
    torch.testing.assert_close(product, hessian_operator(v), rtol=0, atol=1e-10)


def test_a_loss_linear_in_the_outputs_has_none_and_reduce_sees_each_product() -> None:
    seen: list[Tensor] = []

    def keep(value: Tensor) -> Tensor:
        seen.append(value)
        return 2 * value

    net, batch = net_of("mlp"), data(labels=False)
    flat = operator_of(net, lambda output, y: (output * y).mean(), [batch], reduce=keep)
    v = torch.ones(flat.dim, dtype=torch.float64)
    assert torch.equal(flat(v), torch.zeros_like(v))
    doubled = operator_of(net, F.mse_loss, [batch], reduce=keep)(v)
    assert torch.equal(doubled, 2 * operator_of(net, F.mse_loss, [batch])(v))
    assert len(seen) == 2


@pytest.mark.parametrize("at_once", [1, 3, 7])
def test_batches_are_split_to_bound_the_memory_and_the_matrix_is_the_same(at_once: int) -> None:
    net, batch = net_of("mlp"), data(labels=True)
    v = torch.linspace(-1, 1, 43, dtype=torch.float64)
    split = operator_of(net, F.cross_entropy, [batch], max_examples_at_once=at_once)(v)
    whole = operator_of(net, F.cross_entropy, [batch])(v)
    torch.testing.assert_close(split, whole, rtol=0, atol=1e-12)


class OldFunction(torch.autograd.Function):
    """Doubles its input; knows no forward mode."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * gradient


def test_what_can_not_be_differentiated_forward_is_said_in_one_line() -> None:
    operator = GaussNewtonOperator(
        lambda w, batch: OldFunction.apply(batch * w["w"]),
        lambda output, batch: output.square().mean(),
        {"w": torch.ones(1)},
        [torch.ones(3, 1)],
    )
    with pytest.raises(InputError, match="can't be differentiated") as caught:
        operator(torch.ones(1))
    assert "\n" not in str(caught.value)
