"""The share of parameters whose updates are lost to rounding."""

from collections.abc import Sequence

import torch
from torch import Tensor


def count_frozen(
    before: Sequence[Tensor], after: Sequence[Tensor], gradients: Sequence[Tensor | None]
) -> tuple[Tensor, Tensor]:
    """Count the parameters that an update should have moved and did not.

    A parameter is *live* if its gradient is not zero, and *frozen* if it is live and the update
    left it as it was, bit for bit: lr·gradient is below the spacing of floats at its value.
    Parameters without gradient, such as weights of pixels that are zero in every image, count as
    neither.

    Args:
        before: Parameters before the update.
        after: The same parameters after it.
        gradients: Their gradients, of the same shapes; ``None`` where there is none.

    Returns:
        The numbers of frozen and of live parameters, two integer scalars.
    """
    frozen = live = torch.zeros((), dtype=torch.int64)
    for old, new, gradient in zip(before, after, gradients, strict=True):
        if gradient is None:
            continue
        moves = gradient != 0
        live = live.to(old.device) + moves.sum()
        frozen = frozen.to(old.device) + (moves & (old == new)).sum()
    return frozen, live
