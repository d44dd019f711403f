"""What all losses share: reduction, factor and the encoding of labels."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor, nn

from lightning_lazy.checks import check_choice, check_number
from lightning_lazy.errors import InputError
from lightning_lazy.losses.targets import Targets, encode_targets

Reduction = Literal["mean", "sum"]


class Loss(nn.Module):
    """A loss of a net with outputs `[batch, outputs]`, in one place all that its kinds share.

    L = factor · (mean or sum over samples) (mean or sum over outputs) ℓ(f, y).

    Args:
        samples: `mean` or `sum` over the batch.
        outputs: `mean` or `sum` over the outputs.
        factor: constant that multiplies the loss, above 0.
        targets: how integer labels are encoded, see `encode_targets`.

    Raises:
        InputError: an unknown option, an encoding that makes no sense for the loss, or a factor
            that is not above 0.
    """

    encodings: tuple[str, ...] = get_args(Targets)

    def __init__(
        self,
        samples: Reduction = "mean",
        outputs: Reduction = "mean",
        factor: float = 1.0,
        targets: Targets = "one_vs_all",
    ) -> None:
        super().__init__()
        check_choice("samples", samples, get_args(Reduction))
        check_choice("outputs", outputs, get_args(Reduction))
        check_choice("targets", targets, self.encodings)
        self.samples: Reduction = samples
        self.outputs: Reduction = outputs
        self.factor = check_number("factor", factor)
        self.targets: Targets = targets

    @property
    def takes_mixtures(self) -> bool:
        """Whether it can be fitted to shares of the classes, or for one output to shares of ±1."""
        return self.targets != "one_vs_all"

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Reduced loss: the mean or sum of `per_sample`.

        Args:
            output: shape `[batch, outputs]`.
            target: integer labels `[batch]`, or encoded float targets of the output's shape (for
                one output also `[batch]`), which are converted to the output's dtype.

        Returns:
            A scalar in the output's dtype.

        Raises:
            InputError: shapes or labels that do not fit.
        """
        weight = self._output_weight(output)
        if self.samples == "mean" and len(output):
            weight /= len(output)
        return self._total(output, self._encode(output, target), weight)

    def per_sample(self, output: Tensor, target: Tensor) -> Tensor:
        """Loss of each sample, factor included, before the reduction over samples.

        Args:
            output: shape `[batch, outputs]`.
            target: as for `forward`.

        Returns:
            Shape `[batch]`, in the output's dtype.

        Raises:
            InputError: shapes or labels that do not fit.
        """
        weight = self._output_weight(output)
        return self._sum(self._elements(output, self._encode(output, target)), weight, 1)

    def target_outputs(self, output: Tensor, target: Tensor) -> Tensor:
        """What the outputs are compared with: labels as encoded by `targets`, floats as they are.

        Args:
            output: shape `[batch, outputs]`.
            target: as for `forward`.

        Returns:
            Shape `[batch, outputs]`, in the output's dtype.

        Raises:
            InputError: shapes or labels that do not fit.
        """
        return Loss._encode(self, output, target)

    def _output_weight(self, output: Tensor) -> float:
        if output.dim() != 2:
            raise InputError(
                f"output must be of shape [batch, outputs], got {list(output.shape)}; reshape it"
            )
        return self.factor / output.shape[1] if self.outputs == "mean" else self.factor

    def _encode(self, output: Tensor, target: Tensor) -> Tensor:
        """Float targets of the output's shape and dtype."""
        if target.is_floating_point():
            return match_targets(output, target)
        if target.shape != output.shape[:1]:
            raise shape_error(output, target)
        return encode_targets(target, output.shape[1], self.targets, output.dtype)

    def _elements(self, output: Tensor, target: Tensor) -> Tensor:
        """ℓ(f, y) of each sample and output, shape `[batch, outputs]`."""
        raise NotImplementedError

    def _sum(self, elements: Tensor, weight: float, dim: int | None) -> Tensor:
        return elements.sum(dim) * weight

    def _total(self, output: Tensor, target: Tensor, weight: float) -> Tensor:
        return self._sum(self._elements(output, target), weight, None)

    def extra_repr(self) -> str:
        """Options, for printing."""
        return (
            f"samples={self.samples!r}, outputs={self.outputs!r}, factor={self.factor:.6g}, "
            f"targets={self.targets!r}"
        )


def match_targets(output: Tensor, target: Tensor) -> Tensor:
    """Float targets in the output's dtype, `[batch]` as `[batch, 1]`.

    Raises:
        InputError: the shapes do not fit, which torch would broadcast without a word.
    """
    if target.dim() == 1 and output.shape[1] == 1:
        target = target.unsqueeze(1)
    if target.shape != output.shape:
        raise shape_error(output, target)
    return target.to(output.dtype)


def shape_error(output: Tensor, target: Tensor) -> InputError:
    """Say which shapes do not fit."""
    return InputError(
        f"target must be integer labels of shape {[len(output)]} or floats of shape "
        f"{list(output.shape)}, got {target.dtype} of shape {list(target.shape)}; reshape or encode"
    )
