"""Images of noise with the labels of real ones."""

import pytest
import torch

from lightning_lazy.data import ImageDataModule


def ready(**options: object) -> ImageDataModule:
    data = ImageDataModule("digits", n_train=200, n_val=50, **options)  # type: ignore[arg-type]
    data.setup()
    return data


def test_pixels_are_uniform_and_labels_those_of_the_images() -> None:
    # A mean of 12,800 uniform bytes has a standard error of 74/√12800 = 0.65.
    plain, noise = ready(), ready(random_pixels=True)
    for one, other in ((plain.train_set, noise.train_set), (plain.val_set, noise.val_set)):
        assert torch.equal(one.labels, other.labels)
        assert one.images.shape == other.images.shape
    pixels = noise.train_set.images.double()
    assert pixels.mean().item() == pytest.approx(127.5, abs=3)
    assert pixels.std().item() == pytest.approx(256 / 12**0.5, abs=2)
    flat = pixels.flatten(1) - 127.5
    assert (flat[0] @ flat[1]).abs() < 0.5 * flat[0].norm() * flat[1].norm()


def test_pixels_depend_on_the_subset_seed_alone_and_are_standardised_by_their_own_moments() -> None:
    first, second = ready(random_pixels=True), ready(random_pixels=True, seed=5)
    assert torch.equal(first.train_set.images, second.train_set.images)
    other = ready(random_pixels=True, subset_seed=1)
    assert not torch.equal(first.train_set.images, other.train_set.images)
    assert not torch.equal(first.train_set.images[:50], first.val_set.images)
    batch = first.train_set.__getitems__(list(range(200)))
    x, _ = first.transform(batch, torch.float64)
    assert x.mean().item() == pytest.approx(0, abs=1e-12)
    assert x.std(correction=0).item() == pytest.approx(1, abs=1e-12)
