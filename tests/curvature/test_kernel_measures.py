"""What kernels say, against numpy, closed forms and training of the linearised model."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_lazy import InputError, LinearizedModel
from lightning_lazy.curvature.functional import ModelFunction
from lightning_lazy.curvature.kernel_measures import (
    LazyTraining,
    alignment,
    condition,
    drift,
    kernel_regression,
    label_alignment,
    spectrum,
)
from lightning_lazy.curvature.ntk import tangent_kernel
from lightning_lazy.models import TwoLayerNet


@pytest.fixture(autouse=True)
def _in_double_precision() -> None:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)


def with_eigenvalues(*values: float) -> Tensor:
    basis = torch.linalg.qr(torch.randn(len(values), len(values)))[0]
    return basis @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ basis.T


def test_the_spectrum_falls_and_equals_numpys() -> None:
    kernel = with_eigenvalues(3.0, 0.5, 0.5, 0.0, 1e-3)
    wanted = np.linalg.eigvalsh(kernel.numpy())[::-1].copy()
    assert torch.allclose(spectrum(kernel), torch.from_numpy(wanted), atol=1e-14)


def test_the_condition_counts_eigenvalues_above_rounding_only() -> None:
    full = condition(spectrum(with_eigenvalues(4.0, 2.0, 1e-6)), torch.float64)
    assert full.number == pytest.approx(4e6, rel=1e-8)
    assert full.rank == 3
    single = condition(torch.tensor([4.0, 2.0, 1e-7]), torch.float32)
    assert (single.number, single.rank) == (2.0, 2)
    assert math.isnan(condition(torch.zeros(2), torch.float64).number)


def test_drift_and_alignment_have_closed_forms() -> None:
    start = torch.eye(3)
    assert drift(2 * start, start) == 1.0
    assert alignment(2 * start, start) == pytest.approx(1.0, abs=1e-15)
    other = torch.diag(torch.tensor([1.0, 0.0, 0.0]))
    assert alignment(other, start) == pytest.approx(1 / math.sqrt(3), abs=1e-15)
    assert drift(other, start) == pytest.approx(math.sqrt(2 / 3), abs=1e-15)


def test_label_alignment_is_that_of_the_outer_product() -> None:
    y = torch.randn(4, 2)
    full, summed = with_eigenvalues(*range(1, 9)), with_eigenvalues(1, 2, 3, 4)
    outer = y.flatten()[:, None] * y.flatten()
    assert label_alignment(full, y) == pytest.approx(alignment(full, outer), rel=1e-13)
    assert label_alignment(summed, y) == pytest.approx(alignment(summed, y @ y.T), rel=1e-13)
    assert label_alignment(outer, y) == pytest.approx(1.0, abs=1e-14)
    with pytest.raises(InputError, match="each of the kernel's 8 rows"):
        label_alignment(full, y[:3])


def test_ridge_regression_solves_its_equations() -> None:
    kernel, cross, y = with_eigenvalues(1, 2, 3, 4, 5, 6), torch.randn(4, 6), torch.randn(3, 2)
    dual = torch.linalg.solve(kernel + 0.3 * torch.eye(6), y.flatten())
    found = kernel_regression(kernel, cross, y, ridge=0.3)
    assert torch.allclose(found, (cross @ dual).view(2, 2), atol=1e-13)
    summed = with_eigenvalues(1, 2, 3)
    wanted = cross[:, :3] @ torch.linalg.solve(summed, y)
    assert torch.allclose(kernel_regression(summed, cross[:, :3], y), wanted, atol=1e-13)


def test_regression_without_ridge_leaves_alone_what_the_kernel_does_not_see() -> None:
    # Oracle: the pseudo-inverse of numpy.
    kernel, cross, y = with_eigenvalues(2, 1, 0, 0), torch.randn(3, 4), torch.randn(4)
    wanted = cross.numpy() @ np.linalg.pinv(kernel.numpy(), rcond=1e-12) @ y.numpy()
    found = kernel_regression(kernel, cross, y)
    assert found.shape == (3,)
    assert torch.allclose(found, torch.from_numpy(wanted), atol=1e-13)


class Case:
    """A small net, its linearisation, and data with two outputs."""

    def __init__(self) -> None:
        self.net = TwoLayerNet(5, 40, 2).double()
        self.x, self.x_new = torch.randn(6, 5), torch.randn(3, 5)
        self.y = torch.randn(6, 2)
        function = ModelFunction(self.net, lambda module, batch: module(batch))
        now = function.current()
        self.kernel = tangent_kernel(function.at, now, [self.x])
        self.cross = tangent_kernel(function.at, now, [self.x_new], [self.x])
        with torch.no_grad():
            self.start, self.start_new = self.net(self.x), self.net(self.x_new)
        self.weight = 1 / len(self.x)
        self.lr = 1.5 / (self.weight * float(spectrum(self.kernel)[0]))

    def loss(self, model: nn.Module) -> Tensor:
        return 0.5 * self.weight * (model(self.x) - self.y).square().sum()

    def descend(self, steps: int) -> tuple[nn.Module, list[float]]:
        model = LinearizedModel(copy.deepcopy(self.net))
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], self.lr)
        losses = []
        for _ in range(steps):
            optimizer.zero_grad()
            loss = self.loss(model)
            losses.append(loss.item())
            loss.backward()
            optimizer.step()
        return model, [*losses, self.loss(model).item()]


def test_the_predicted_losses_are_those_of_descent_on_the_linearised_model() -> None:
    # Oracle: the optimizer on LinearizedModel, step by step; both round some 1e-16 a step.
    case = Case()
    model, losses = case.descend(60)
    training = LazyTraining(case.kernel, case.start - case.y, case.weight)
    predicted = training.losses(range(61), case.lr)
    assert predicted.tolist() == pytest.approx(losses, rel=1e-9)
    with torch.no_grad():
        residual, change = model(case.x) - case.y, model(case.x_new) - case.start_new
    assert torch.allclose(training.residual_after_steps(60, case.lr), residual, atol=1e-9)
    assert torch.allclose(training.change_after_steps(case.cross, 60, case.lr), change, atol=1e-9)


def test_kernel_regression_is_the_linearised_model_trained_to_convergence() -> None:
    # 20,000 steps leave (1 − ηcλ_min)^20000 of the slowest part, below 1e-9 here.
    case = Case()
    training = LazyTraining(case.kernel, case.start - case.y, case.weight)
    slowest = 1 - case.lr * case.weight * float(training.eigenvalues[0])
    steps = int(math.log(1e-10) / math.log(slowest)) + 1
    assert steps < 20_000
    model, _ = case.descend(steps)
    found = case.start_new + kernel_regression(case.kernel, case.cross, case.y - case.start)
    with torch.no_grad():
        assert torch.allclose(model(case.x_new), found, atol=1e-7)


def test_gradient_flow_is_the_limit_of_small_steps_and_ends_at_the_regression() -> None:
    # Oracle: the matrix exponential; Euler's error is of the order of the step, 1e-4.
    case = Case()
    residual = case.start - case.y
    training = LazyTraining(case.kernel, residual, case.weight)
    decay = torch.linalg.matrix_exp(-case.weight * 3.0 * case.kernel)
    wanted = (decay @ residual.flatten()).view(6, 2)
    assert torch.allclose(training.residual_after_time(3.0), wanted, atol=1e-12)
    steps = training.residual_after_steps(30_000, 1e-4)
    assert torch.allclose(steps, wanted, atol=1e-3)
    on_train = training.change_after_time(case.kernel, 3.0)
    assert torch.allclose(on_train, wanted - residual, atol=1e-12)
    end = training.change_after_time(case.cross, 1e9)
    assert torch.allclose(end, kernel_regression(case.kernel, case.cross, -residual), atol=1e-8)


def test_directions_with_tiny_eigenvalues_grow_like_their_gradient() -> None:
    # Closed form: for λ → 0 the change is −Θ(x, X) c t r, without cancellation.
    values, cross, residual = torch.tensor([1.0, 1e-14]), torch.randn(2, 2), torch.randn(2)
    training = LazyTraining(torch.diag(values), residual, weight=0.5)
    for change, lost in (
        (training.change_after_time(cross, 2.0), 1 - math.exp(-1.0)),
        (training.change_after_steps(cross, 4, 0.5), 1 - 0.75**4),
    ):
        total = torch.tensor([lost, 1.0]) * residual
        assert torch.allclose(change, -(cross @ total), rtol=1e-12)


def test_negative_eigenvalues_of_rounding_do_not_grow() -> None:
    # A kernel of rank 3 in single precision has eigenvalues of some -1e-8 of the largest, and
    # e^(1e-8 · 1e10) is beyond any number. Oracle of the change: the pseudo-inverse.
    features, new = torch.randn(12, 3), torch.randn(4, 3)
    kernel, cross, residual = (features @ features.T).float(), new @ features.T, torch.randn(12)
    assert torch.linalg.eigvalsh(kernel.double())[0] < 0
    training = LazyTraining(kernel, residual, weight=1 / 12)
    assert training.residual_after_time(1e10).norm() <= residual.norm()
    losses = training.losses([0, 10**7, 10**10], lr=1.0)
    assert losses.sort(descending=True).values.equal(losses)
    regression = kernel_regression(kernel, cross.float(), -residual)
    assert torch.allclose(training.change_after_time(cross.float(), 1e3), regression, atol=1e-3)
