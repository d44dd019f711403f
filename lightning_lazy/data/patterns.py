"""The distribution of Li, Wei & Ma 2019, section 2: patterns P, noisy, and Q, easy to memorise."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lightning_lazy.checks import check_choice, check_number
from lightning_lazy.data import options
from lightning_lazy.data.counter import derive_seed
from lightning_lazy.data.dataset import ImageSet, RawBatch
from lightning_lazy.data.memory import MemoryDataModule
from lightning_lazy.errors import InputError
from lightning_lazy.laziness.pattern_learning import COMPONENTS

_VECTORS, _TRAIN, _VAL = range(3)
"""What is drawn; each has a random stream of its own."""


class Patterns(NamedTuple):
    """The fixed directions of the distribution, float64.

    Attributes:
        w_star: w*, unit vector of shape (d,): classifies P.
        z: Unit vector of shape (d',): the direction of Q with label +1.
        zeta: ζ ⟂ z of shape (d',), ‖ζ‖ = r: z ± ζ have label −1.
    """

    w_star: Tensor
    z: Tensor
    zeta: Tensor


class PatternSet(ImageSet):
    """Examples, their labels ±1 and their components.

    Args:
        images: x = (x₁, x₂), float64 of shape (n, d + d').
        labels: int64 of shape (n,).
        components: int64 of shape (n,): 0 for P only, 1 for Q only, 2 for both.
    """

    def __init__(self, images: Tensor, labels: Tensor, components: Tensor) -> None:
        super().__init__(images, labels)
        self.components = components


class PatternsDataModule(MemoryDataModule):
    r"""Examples x = (x₁, x₂) with labels ±1, with P only, Q only or both.

    .. math::
        P_y:\ x_1 = y \gamma_0 w^* + n, \; n \sim N(0, I/d) \text{ given } y \langle w^*, n \rangle
        \ge 0; \qquad Q_1:\ x_2 = \alpha z, \quad Q_{-1}:\ x_2 = \alpha (z + b \zeta)

    with α ~ U(0, 1) and b = ±1 (Li, Wei & Ma 2019, equations 2.1 to 2.5). With probability p₀ an
    example has x₂ = 0, with probability q₀ it has x₁ = 0. P is separable by a line with margin γ₀
    but takes many examples to learn; Q is three directions, which no line separates.

    There are three validation sets, ``p_only``, ``q_only`` and ``both``, of `n_val` examples each.
    What is not given has the scale of the theorems (Assumption 3.3). Everything depends on the seed
    alone, is drawn in float64 and handed out in the dtype of the run.

    Args:
        dimension: d, number of features of x₁.
        q_dimension: d', number of features of x₂, at least 2; ``None``: d. Weights across the plane
            of z and ζ never meet an input, so that 2 gives the same law of g at less cost.
        kappa: κ of the scales, between 0 and 1.
        n_train: N; ``None``: d/κ².
        n_val: Examples in each validation set.
        p0: p₀, probability of P only; ``None``: κ²/2.
        q0: q₀, probability of Q only.
        r: ‖ζ‖; ``None``: d^{-3/4}.
        margin: γ₀; ``None``: d^{-1/2}.
        shares: ``drawn``: each training example draws its component and its label, as in the text;
            ``exact``: the training shares are p₀ and q₀, and half of the labels of each component
            are +1, up to one example.
        batch_size: Training examples a step and device; "full" for all of them, made once.
        eval_batch_size: Validation examples a batch and device.
        seed: Seed of everything.

    Attributes:
        patterns: w*, z and ζ.
        in_features: d + d'.
        outputs: 1.

    Raises:
        InputError: An argument is out of range, or p₀ + q₀ is above 1.
    """

    outputs: int = 1

    def __init__(
        self,
        dimension: int = 100,
        *,
        q_dimension: int | None = None,
        kappa: float = 0.5,
        n_train: int | None = None,
        n_val: int = 1000,
        p0: float | None = None,
        q0: float = 0.2,
        r: float | None = None,
        margin: float | None = None,
        shares: Literal["drawn", "exact"] = "drawn",
        batch_size: int | Literal["full"] = "full",
        eval_batch_size: int = 1000,
        seed: int = 0,
    ) -> None:
        super().__init__()
        options.check_count("q_dimension", q_dimension, least=2, words=(None,))
        options.check_count("dimension", dimension, least=2)
        options.check_count("n_train", n_train, words=(None,))
        options.check_count("batch_size", batch_size, words=("full",))
        options.check_count("n_val", n_val)
        options.check_count("eval_batch_size", eval_batch_size)
        check_choice("shares", shares, ("drawn", "exact"))
        if check_number("kappa", kappa) >= 1:
            raise InputError(f"kappa must be below 1, got {kappa}; N = d/kappa² must exceed d")
        self.dimension = dimension
        self.q_dimension = dimension if q_dimension is None else q_dimension
        self.n_train = round(dimension / kappa**2) if n_train is None else n_train
        self.n_val = n_val
        self.p0 = check_number("p0", kappa**2 / 2 if p0 is None else p0, zero=True)
        self.q0 = check_number("q0", q0, zero=True)
        if self.p0 + self.q0 > 1:
            raise InputError(
                f"p0 + q0 must be at most 1, the share of all examples, got {self.p0:g} + "
                f"{self.q0:g}: lower one of them"
            )
        self.margin = check_number("margin", dimension**-0.5 if margin is None else margin)
        self.shares = shares
        self.batch_size, self.eval_batch_size, self.seed = batch_size, eval_batch_size, seed
        self.augment = self.drop_last = self.pin_memory = False
        self.num_workers = 0
        self.in_features = self.dimension + self.q_dimension
        self.patterns = self._directions(check_number("r", dimension**-0.75 if r is None else r))

    def setup(self, stage: str | None = None) -> None:
        """Draw the examples, once for all stages.

        Args:
            stage: Not used: training and validation examples are drawn together.
        """
        if self.preprocess is not None:
            return
        generator = self._generator(_TRAIN)
        self.train_set = self._draw(*self._kinds_and_labels(generator), generator)
        self.val_sets = {name: self._validation_set(kind) for kind, name in enumerate(COMPONENTS)}
        self.val_set = self.val_sets["both"]
        self.preprocess = _in_dtype

    def _directions(self, r: float) -> Patterns:
        generator = self._generator(_VECTORS)
        w_star = _unit(self.dimension, generator)
        z, other = (_unit(self.q_dimension, generator) for _ in range(2))
        across = other - (other @ z) * z
        return Patterns(w_star, z, r * across / across.norm())

    def _kinds_and_labels(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return components and labels of the training examples, in random order."""
        size = self.n_train
        if self.shares == "exact":
            order = torch.randperm(size, generator=generator)
            place, bits = (order + 0.5) / size, order % 2
        else:
            place = torch.rand(size, dtype=torch.float64, generator=generator)
            bits = torch.randint(2, (size,), generator=generator)
        kinds = torch.where(place < self.p0, 0, torch.where(place < self.p0 + self.q0, 1, 2))
        return kinds, 2 * bits - 1

    def _validation_set(self, kind: int) -> PatternSet:
        generator = self._generator(_VAL, kind)
        bits = torch.randint(2, (self.n_val,), generator=generator)
        return self._draw(torch.full_like(bits, kind), 2 * bits - 1, generator)

    def _draw(self, kinds: Tensor, labels: Tensor, generator: torch.Generator) -> PatternSet:
        x1, x2 = self._draw_p(labels, generator), self._draw_q(labels, generator)
        x1[kinds == 1] = 0
        x2[kinds == 0] = 0
        return PatternSet(torch.cat([x1, x2], dim=1), labels, kinds)

    def _draw_p(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return Gaussian vectors, put on the side of their label by reflection, and the margin."""
        shape, w_star = (len(labels), self.dimension), self.patterns.w_star
        noise = torch.randn(shape, dtype=torch.float64, generator=generator) / shape[1] ** 0.5
        along = noise @ w_star
        wanted = labels * (along.abs() + self.margin)
        return noise + torch.outer(wanted - along, w_star)

    def _draw_q(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        alpha = torch.rand(len(labels), 1, dtype=torch.float64, generator=generator)
        b = 2 * torch.randint(2, labels.shape, generator=generator) - 1
        across = torch.outer(b * (labels < 0), self.patterns.zeta)
        return alpha * (self.patterns.z + across)

    def _generator(self, *stream: int) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(self.seed, *stream))


def _unit(dimension: int, generator: torch.Generator) -> Tensor:
    vector = torch.randn(dimension, dtype=torch.float64, generator=generator)
    return vector / vector.norm()


def _in_dtype(raw: RawBatch, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return raw.images.to(dtype), raw.labels
