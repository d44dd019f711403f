"""The count of parameters whose updates are lost to rounding."""

import torch

from lightning_lazy.laziness import count_frozen


def test_counts_against_the_spacing_of_floats() -> None:
    # Closed form: adding u to 1 changes it iff u > 2^-53 (ties go to even) in double precision.
    before = torch.ones(4, dtype=torch.float64)
    gradient = torch.tensor([2.0**-52, 2.0**-54, 0.0, 1.0], dtype=torch.float64)
    frozen, live = count_frozen([before], [before + gradient], [gradient])
    assert (int(frozen), int(live)) == (1, 3)


def test_parameters_without_gradient_do_not_count() -> None:
    p = torch.ones(3)
    frozen, live = count_frozen([p, p], [p, p], [None, torch.ones(3)])
    assert (int(frozen), int(live)) == (3, 3)
