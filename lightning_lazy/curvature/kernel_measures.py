"""What a tangent kernel says: spectrum, drift, alignment, and the lazy limit's predictions."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_lazy.checks import check_number
from lightning_lazy.errors import InputError


def spectrum(kernel: Tensor) -> Tensor:
    """Return the eigenvalues of a symmetric kernel in decreasing order, float64 of shape (r,).

    Args:
        kernel: Shape (r, r). Divide it by the number of samples for eigenvalues of Θ/n, as in the
            gradient descent of a mean over samples.
    """
    return torch.linalg.eigvalsh(kernel.double()).flip(0)


@dataclass(frozen=True)
class Condition:
    """How ill-conditioned a kernel is, as far as its precision tells.

    Attributes:
        number: λ₁/λ_r, the largest eigenvalue over the smallest that is not rounding: the condition
            number where the rank is full, else a bound from below.
        rank: r, the number of eigenvalues above rounding.
    """

    number: float
    rank: int


def condition(eigenvalues: Tensor, dtype: torch.dtype) -> Condition:
    """Return the condition of a kernel.

    Rounding moves eigenvalues by up to the number of rows times the spacing of floats at λ₁; what
    is smaller tells nothing, and in single precision that is most of an ill-conditioned spectrum.

    Args:
        eigenvalues: In decreasing order, shape (r,).
        dtype: Type that the kernel was computed in.
    """
    floor = eigenvalues[0] * len(eigenvalues) * torch.finfo(dtype).eps
    rank = int((eigenvalues > floor).sum())
    number = float(eigenvalues[0] / eigenvalues[rank - 1]) if rank else float("nan")
    return Condition(number, rank)


def drift(kernel: Tensor, start: Tensor) -> float:
    """Return the relative change of a kernel, ‖Θ_t − Θ₀‖/‖Θ₀‖ in Frobenius norms; 0 is lazy."""
    return float((kernel.double() - start.double()).norm() / start.double().norm())


def alignment(kernel: Tensor, other: Tensor) -> float:
    """Return ⟨Θ, Θ'⟩/(‖Θ‖ ‖Θ'‖), the cosine of two kernels; scale does not count."""
    one, two = kernel.double(), other.double()
    return float((one * two).sum() / (one.norm() * two.norm()))


def label_alignment(kernel: Tensor, targets: Tensor) -> float:
    """Return the alignment with the targets' kernel, ⟨Θ, y yᵀ⟩/(‖Θ‖ ‖y yᵀ‖).

    (Cristianini et al. 2001.)

    Args:
        kernel: Shape (n·o, n·o), or (n, n): then y yᵀ is summed over the outputs as well.
        targets: y, shape (n, o) or (n,).

    Raises:
        InputError: The shapes do not fit.
    """
    y = _columns(kernel, targets).double()
    inner = (y * (kernel.double() @ y)).sum()
    return float(inner / (kernel.double().norm() * (y.T @ y).norm()))


def kernel_regression(kernel: Tensor, cross: Tensor, targets: Tensor, ridge: float = 0.0) -> Tensor:
    r"""Return what kernel regression predicts, Θ(x, X) (Θ(X, X) + ridge)⁻¹ y.

    With y − h(w₀, X) as targets and h(w₀, x) added to the result it is the lazy limit's prediction:
    that of the model linearised at w₀, trained by the squared loss until gradient flow, or descent
    with a small enough step, has converged. Without ridge the pseudo-inverse is taken, as training
    leaves alone what the kernel can't see.

    Args:
        kernel: Θ(X, X), shape (n·o, n·o); or (n, n), applied to every output.
        cross: Θ(x, X), shape (m·o, n·o) or (m, n).
        targets: Shape (n, o) or (n,).
        ridge: Coefficient of the ridge, at least 0, in units of the kernel.

    Returns:
        Shape (m, o), or (m,) where targets have that of (n,); float64.

    Raises:
        InputError: The shapes do not fit, or ``ridge`` is negative.
    """
    check_number("ridge", ridge, zero=True)
    values, vectors = torch.linalg.eigh(kernel.double())
    floor = float(values[-1]) * len(values) * torch.finfo(kernel.dtype).eps if ridge == 0 else 0.0
    inverse = torch.where(values > floor, 1 / (values + ridge), 0.0)
    y = _columns(kernel, targets).double()
    dual = vectors @ (inverse[:, None] * (vectors.T @ y))
    return (cross.double() @ dual).reshape(-1, *targets.shape[1:])


class LazyTraining:
    r"""Training of the linearised model by the squared loss, in closed form.

    .. math:: L = \tfrac12 c \, \|h - y\|^2, \qquad \dot r = -c \, \Theta \, r, \quad r = h - y

    Gradient descent with learning rate η multiplies the part of r along an eigenvector of Θ with
    eigenvalue λ by 1 − η c λ in every step, and gradient flow by e^{−cλt} in a time t. In units
    where the model is αh and the loss is divided by α², Θ stays that of h and α drops out of r/α.
    A tangent kernel has no negative eigenvalues; those that rounding gives count as zero, and
    training leaves alone what they belong to.

    Args:
        kernel: Θ, shape (n·o, n·o); or (n, n), applied to every output.
        residual: r at the start, h(w₀) − y, shape (n, o) or (n,).
        weight: c: 1/n for ½ the squared error's mean over samples, 2/(n·o) for its mean over
            samples and outputs.

    Attributes:
        eigenvalues: Those of Θ, in increasing order.

    Raises:
        InputError: The shapes do not fit, or ``weight`` is not positive.
    """

    def __init__(self, kernel: Tensor, residual: Tensor, weight: float) -> None:
        self.weight = check_number("weight", weight)
        values, self._vectors = torch.linalg.eigh(kernel.double())
        self.eigenvalues = values.clamp(min=0)
        self._parts = self._vectors.T @ _columns(kernel, residual).double()
        self._shape = residual.shape

    def residual_after_steps(self, steps: int, lr: float) -> Tensor:
        """Return h − y after steps of gradient descent, in the shape of that at the start."""
        return self._residual(self._per_step(lr) ** steps)

    def residual_after_time(self, time: float) -> Tensor:
        """Return h − y after gradient flow, in the shape of that at the start."""
        return self._residual((-self.weight * self.eigenvalues * time).exp())

    def change_after_steps(self, cross: Tensor, steps: int, lr: float) -> Tensor:
        """Return h − h(w₀) on other samples after steps of gradient descent.

        Args:
            cross: Θ(x, X), shape (m·o, n·o) or (m, n).
            steps: Number of steps.
            lr: η.
        """
        rate = lr * self.weight * self.eigenvalues
        slow = torch.expm1(steps * torch.log1p(-rate.clamp(max=0.5)))  # without cancellation
        return self._change(cross, torch.where(rate < 0.5, -slow, 1 - (1 - rate) ** steps))

    def change_after_time(self, cross: Tensor, time: float) -> Tensor:
        """Return h − h(w₀) on other samples after gradient flow, see `change_after_steps`."""
        return self._change(cross, -torch.expm1(-self.weight * self.eigenvalues * time))

    def losses(self, steps: Sequence[int] | Tensor, lr: float) -> Tensor:
        """Return the loss ½c‖h − y‖² after so many steps of gradient descent, each from the start.

        Args:
            steps: Numbers of steps; 0 is the start.
            lr: η.
        """
        numbers = torch.as_tensor(steps, dtype=torch.float64, device=self.eigenvalues.device)
        squares = self._parts.square().sum(dim=1)
        decays = self._per_step(lr).square() ** numbers[:, None]
        return 0.5 * self.weight * (decays @ squares)

    def _per_step(self, lr: float) -> Tensor:
        return 1 - lr * self.weight * self.eigenvalues

    def _residual(self, decay: Tensor) -> Tensor:
        return (self._vectors @ (decay[:, None] * self._parts)).reshape(self._shape)

    def _change(self, cross: Tensor, lost: Tensor) -> Tensor:
        """Return −Θ(x, X) Σ λ⁻¹ lost over the eigenvectors that are seen."""
        seen = self.eigenvalues > 0
        total = torch.where(seen, lost / torch.where(seen, self.eigenvalues, 1.0), 0.0)
        dual = self._vectors @ (total[:, None] * self._parts)
        return -(cross.double() @ dual).reshape(-1, *self._shape[1:])


def _columns(kernel: Tensor, targets: Tensor) -> Tensor:
    """Return targets with a row for each of a kernel: all in one column, or one an output."""
    if targets.numel() == len(kernel):
        return targets.reshape(-1, 1)
    if len(targets) == len(kernel):
        return targets.flatten(1)
    raise InputError(
        f"expected a target for each of the kernel's {len(kernel)} rows (n·o or n), got targets of "
        f"shape {list(targets.shape)}; pass those of the same samples and outputs"
    )
