"""Oracle: wide ReLU nets trained by gradient descent with L2, in double precision.

Twenty inputs on a sphere with labels ±1; ηγ_max = 0.17. The bounds are those that finite width
leaves, some twice what these seeds give.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_lazy.curvature.ntk import tangent_kernel
from lightning_lazy.models import FullyConnected
from lightning_lazy.theory.weight_decay import evolve_outputs, kernel_decay

L2 = 0.02


@dataclass
class Trained:
    """A run next to its prediction.

    Attributes:
        slip: Time of the loss's minimum over that of the theory.
        errors: Relative errors of the loss up to its minimum.
        linear: Loss at the minimum over what k = 1 predicts there.
        kernel: Largest deviation of λ_max/λ_max(0) from the theory.
    """

    slip: float
    errors: np.ndarray
    linear: float
    kernel: float


def trained(width: int, seed: int, *, depth: int, lr: float, time: float) -> Trained:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(20, 20, dtype=torch.float64, generator=generator)
    x *= 20**0.5 / x.norm(dim=1, keepdim=True)
    y = torch.randint(2, (20,), generator=generator).double() * 2 - 1
    net = FullyConnected(
        20, width, depth, 1, parametrization="ntk", sigma_w=2**0.5,
        generator=torch.Generator().manual_seed(seed),
    ).double()  # fmt: skip
    parameters = dict(net.named_parameters())

    def output(at: dict[str, Tensor], batch: Tensor) -> Tensor:
        return torch.func.functional_call(net, at, (batch,))

    start, f = tangent_kernel(output, parameters, [x]), net(x).detach()[:, 0]
    times = lr * np.arange(round(time / lr) + 1)
    losses, tops = [], {}
    for step in range(len(times)):
        loss = 0.5 * (net(x)[:, 0] - y).square().sum()
        losses.append(loss.item())
        if step % (len(times) // 5) == 0:
            tops[step] = torch.linalg.eigvalsh(tangent_kernel(output, parameters, [x]))[-1].item()
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        with torch.no_grad():
            for parameter, gradient in zip(parameters.values(), gradients, strict=True):
                parameter.mul_(1 - lr * L2).sub_(lr * gradient)

    def predicted(k: int) -> np.ndarray:
        found = evolve_outputs(start, y, f, l2=L2, times=times, k=k)
        return 0.5 * np.square(found - y.numpy()).sum(axis=1)

    theory, lowest = predicted(depth + 1), int(np.argmin(losses))
    at = list(tops)
    decay = np.array(list(tops.values())) / tops[0] - kernel_decay(times[at], l2=L2, k=depth + 1)
    return Trained(
        slip=times[lowest] / times[theory.argmin()],
        errors=np.abs(np.array(losses) / theory - 1)[: lowest + 1],
        linear=losses[lowest] / predicted(1)[lowest],
        kernel=float(np.abs(decay).max()),
    )


@pytest.mark.slow
def test_two_layer_nets_follow_theorem_2_the_better_the_wider() -> None:
    runs = {
        width: [trained(width, seed, depth=1, lr=0.01, time=6.0) for seed in (0, 2)]
        for width in (512, 2048)
    }
    for run in runs[2048]:
        assert run.slip == pytest.approx(1, abs=0.03)
        assert run.errors.max() < 0.1
        assert np.median(run.errors) < 0.04
        assert run.kernel < 0.01
        assert run.linear > 2  # a linear model's loss would be less than half of it
    worst = {width: np.mean([run.errors.max() for run in group]) for width, group in runs.items()}
    assert worst[2048] < 0.5 * worst[512]


@pytest.mark.slow
def test_three_layer_nets_decay_with_their_own_exponent() -> None:
    run = trained(512, 0, depth=2, lr=0.005, time=3.5)
    assert run.slip == pytest.approx(1, abs=0.12)
    assert run.kernel < 0.03  # e^{-4λt} falls to 0.76, e^{-2λt} to 0.87
    assert run.linear > 2
