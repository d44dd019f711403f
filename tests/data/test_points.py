"""Oracles: the sets as the paper gives them, geometry of the balls, moments of the uniform ball."""

from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_lazy import InputError
from lightning_lazy.data import PointsDataModule


def ready(points: Any, **arguments: Any) -> PointsDataModule:
    data = PointsDataModule(points, **arguments)
    data.setup()
    return data


def training_batch(data: PointsDataModule) -> tuple[Tensor, Tensor]:
    x, y = next(iter(data.train_dataloader()))
    return x, y


@pytest.mark.parametrize(("points", "x"), [("degenerate", [1, 1]), ("non_separable", [1, 2])])
def test_fixed_sets_are_those_of_the_paper(points: str, x: list[float]) -> None:
    data = ready(points)
    images, labels = training_batch(data)
    assert images.flatten().tolist() == x
    assert labels.tolist() == [1, -1]
    assert (data.in_features, data.outputs) == (1, 1)
    assert data.val_set is data.train_set


def test_a_hyperplane_through_the_origin_separates_blobs() -> None:
    data = ready("blobs", dimension=3, n_train=400, distance=1.5, radius=1.4)
    for part in (data.train_set, data.val_set):
        y, x = part.labels, part.images
        assert y.sum() == 0
        centre = (y.unsqueeze(1) * x).mean(0)
        assert (y * (x @ centre) > 0).all()
    assert not torch.equal(data.train_set.images[:200], data.val_set.images)
    # Uniform in a ball of radius R: E ‖r‖² = R² d/(d + 2), here within five standard errors.
    noise = x - y.unsqueeze(1) * centre
    square = noise.square().sum(1)
    error = 5 * square.std() / len(square) ** 0.5
    assert abs(square.mean() - 1.4**2 * 3 / 5) < error
    assert data.in_features == 3


def test_the_share_of_flipped_labels_is_exact_and_points_are_the_same() -> None:
    clean, flipped = (ready(name, n_train=50, flipped=0.1) for name in ("blobs", "flipped_blobs"))
    assert torch.equal(clean.train_set.images, flipped.train_set.images)
    assert int((clean.train_set.labels != flipped.train_set.labels).sum()) == 5
    assert torch.equal(clean.val_set.labels, flipped.val_set.labels)


def test_points_are_a_function_of_the_seed() -> None:
    one, same, other = (ready("flipped_blobs", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.train_set.images, same.train_set.images)
    assert torch.equal(one.train_set.labels, same.train_set.labels)
    assert not torch.equal(one.train_set.images, other.train_set.images)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"points": "rings"}, "points must be one of degenerate, non_separable"),
        ({"points": "blobs", "n_train": 0}, "expected n_train to be a whole number"),
        ({"points": "blobs", "radius": -1.0}, "radius must be finite and above 0"),
        ({"points": "blobs", "flipped": 1.5}, "flipped must be a share between 0 and 1, got 1.5"),
        ({"points": "blobs", "batch_size": "all"}, "expected batch_size to be a whole number"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PointsDataModule(**arguments)
