"""Second derivatives of normalised nets, against central differences."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vjp
from torch.nn import functional as F

from lightning_lazy.curvature.plain_norms import PlainNorms
from lightning_lazy.curvature.relative_scale import relative_scale


class Functional(nn.Module):
    """Calls the function instead of a module."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(5) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (5,), self.scale)


NORMS: dict[str, Callable[[], nn.Module]] = {
    "layer": lambda: nn.LayerNorm(5),
    "functional": Functional,
    "batch": lambda: nn.BatchNorm1d(5, track_running_stats=False),
    "running": lambda: nn.BatchNorm1d(5).eval(),
    "image": lambda: nn.Sequential(
        nn.Unflatten(1, (5, 1, 1)), nn.BatchNorm2d(5, track_running_stats=False), nn.Flatten()
    ),
    "instance": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 5)), nn.InstanceNorm1d(1, affine=True), nn.Flatten()
    ),
}


def net(norm: str) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), NORMS[norm](), nn.Tanh(), nn.Linear(5, 3)).double()


@pytest.mark.parametrize("norm", NORMS)
def test_values_are_those_of_torch_and_averages_stay(norm: str) -> None:
    one = net(norm)
    x = torch.randn(9, 4, dtype=torch.float64)
    before = {name: value.clone() for name, value in one.state_dict().items()}
    with PlainNorms():
        output = one(x)
    assert all(torch.equal(before[name], value) for name, value in one.state_dict().items())
    torch.testing.assert_close(output, one(x), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("norm", NORMS)
def test_forward_over_forward_and_reverse_over_forward_are_right(norm: str) -> None:
    # Oracle: central differences of Dh(w)[v], error ε² ≈ 1e-10 times higher derivatives.
    one = net(norm)
    x = torch.randn(9, 4, dtype=torch.float64)
    w = {name: p.detach() for name, p in one.named_parameters()}
    u, v = ({name: torch.randn_like(p) for name, p in w.items()} for _ in range(2))

    def outputs(p: dict[str, Tensor]) -> Tensor:
        return functional_call(one, p, (x,))

    def slope(p: dict[str, Tensor]) -> Tensor:
        return jvp(outputs, (p,), (v,))[1]

    shifted = [{name: w[name] + s * u[name] for name in w} for s in (1e-5, -1e-5)]
    with PlainNorms():
        expected = (slope(shifted[0]) - slope(shifted[1])) / 2e-5
        forward = jvp(slope, (w,), (u,))[1]
        z = torch.randn_like(expected)
        reverse = vjp(slope, w)[1](z)[0]
    torch.testing.assert_close(forward, expected, rtol=1e-5, atol=1e-6)
    product = sum((reverse[name] * u[name]).sum() for name in w)
    torch.testing.assert_close(product, (z * expected).sum(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_the_relative_scale_of_a_normalised_net_is_right(norm: str) -> None:
    # Oracle: the dense tensor of second derivatives, from Hessians of single outputs in reverse
    # mode (right in torch), maximised by alternating between z and the top eigenvector of H_z.
    one = net(norm)
    x = torch.randn(4, 4, dtype=torch.float64)
    w = {name: p.detach() for name, p in one.named_parameters()}

    def outputs(p: dict[str, Tensor], batch: Tensor) -> Tensor:
        return functional_call(one, p, (batch,))

    found = relative_scale(outputs, w, [x], [torch.zeros(4, 3, dtype=torch.float64)])
    flat, sizes = torch.cat([p.flatten() for p in w.values()]), [p.numel() for p in w.values()]

    def output(vector: Tensor, number: int) -> Tensor:
        parts = vector.split(sizes)
        named = {n: t.view_as(p) for t, (n, p) in zip(parts, w.items(), strict=True)}
        return outputs(named, x).flatten()[number]

    dense = torch.stack(
        [torch.autograd.functional.hessian(partial(output, number=i), flat) for i in range(12)]
    )
    best = 0.0
    for _ in range(20):
        u = nn.functional.normalize(torch.randn_like(flat), dim=0)
        for _ in range(100):
            z = nn.functional.normalize(torch.einsum("kij,i,j->k", dense, u, u), dim=0)
            values, vectors = torch.linalg.eigh(torch.einsum("kij,k->ij", dense, z))
            u = vectors[:, values.abs().argmax()]
        best = max(best, float(values.abs().max()))
    assert 0.95 * best < found.second <= best * (1 + 1e-6)
