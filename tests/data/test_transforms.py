"""Oracles: numpy block means, the defining sums of each normalisation, torchvision."""

import numpy as np
import pytest
import torch

from lightning_lazy.data.dataset import RawBatch
from lightning_lazy.data.transforms import Transform, channel_moments, pool, to_sphere
from lightning_lazy.errors import InputError


@pytest.fixture
def raw() -> RawBatch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (20, 3, 28, 28), dtype=torch.uint8, generator=generator)
    return RawBatch(images, torch.arange(20))


@pytest.mark.parametrize(("resolution", "side", "before"), [(8, 32, 2), (10, 30, 1), (14, 28, 0)])
def test_pool_is_the_mean_of_blocks(raw: RawBatch, resolution: int, side: int, before: int) -> None:
    after = side - 28 - before
    images = raw.images.numpy().astype(np.float64)
    padded = np.pad(images, ((0, 0), (0, 0), (before, after), (before, after)))
    block = side // resolution
    blocks = padded.reshape(20, 3, resolution, block, resolution, block)
    ours = pool(raw.images.double(), resolution)
    # Sums of at most 16 bytes are exact; the division rounds once.
    np.testing.assert_allclose(ours.numpy(), blocks.mean((3, 5)), rtol=1e-15)


def test_pool_treats_the_axes_on_their_own_and_puts_odd_padding_last() -> None:
    x = torch.ones(1, 1, 3, 8)
    pooled = pool(x, 4)  # rows: 3 padded to 4, below; columns: 8 in pairs
    assert pooled.shape == (1, 1, 4, 4)
    assert pooled[0, 0, :, 0].tolist() == [1, 1, 1, 0]


def test_standardize_equals_torchvision(raw: RawBatch) -> None:
    vision = pytest.importorskip("torchvision.transforms.functional")
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    x, labels = Transform(mean=mean, std=std, flatten=False)(raw, torch.float64)
    theirs = vision.normalize(raw.images.double() / 255, mean, std)
    torch.testing.assert_close(x, theirs, rtol=1e-14, atol=1e-14)  # other order of rounding
    assert labels is raw.labels


@pytest.mark.parametrize("resolution", [None, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sphere_has_sum_of_squares_d(
    raw: RawBatch, resolution: int | None, dtype: torch.dtype
) -> None:
    x, _ = Transform(normalize="sphere", resolution=resolution)(raw, dtype)
    d = 3 * (resolution or 28) ** 2
    assert x.shape == (20, d)
    squares = x.double().square().sum(1)
    # d terms, each with a relative error of a few units in the last place.
    torch.testing.assert_close(
        squares, torch.full_like(squares, d), rtol=8 * torch.finfo(dtype).eps, atol=0
    )


@pytest.mark.parametrize("side", [3, 28])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sphere_leaves_a_black_image_at_zero(side: int, dtype: torch.dtype) -> None:
    black = torch.zeros(2, 1, side, side, dtype=dtype)
    assert torch.equal(to_sphere(black), black)


def test_unit_maps_the_largest_value_to_one() -> None:
    raw = RawBatch(torch.tensor([[[[0, 8, 16]]]], dtype=torch.uint8), torch.zeros(1))
    x, _ = Transform(normalize="unit", max_value=16)(raw, torch.float32)
    assert x.tolist() == [[0, 0.5, 1]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_result_has_the_asked_dtype_and_rounds_once(raw: RawBatch, dtype: torch.dtype) -> None:
    transform = Transform(mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
    x, _ = transform(raw, dtype)
    exact, _ = transform(raw, torch.float64)
    assert x.dtype == dtype
    # One rounding to dtype; intermediate values reach |mean/std| = 2.5, whence the absolute part.
    eps = max(torch.finfo(dtype).eps, 1e-15)
    torch.testing.assert_close(x.double(), exact, rtol=eps, atol=4 * torch.finfo(torch.float32).eps)


def test_bytes_are_left_alone(raw: RawBatch) -> None:
    before = raw.images.clone()
    for normalize in ("standardize", "sphere", "unit"):
        Transform(normalize=normalize)(raw, torch.float32)
    assert torch.equal(raw.images, before)


def test_batches_without_keys_are_never_augmented(raw: RawBatch) -> None:
    clean, _ = Transform(augment=False)(raw, torch.float32)
    same, _ = Transform(augment=True)(raw, torch.float32)
    assert torch.equal(clean, same)


def test_crops_come_before_standardisation() -> None:
    # Padding is black, so that a window beyond the edge shows (0 − mean)/std, not 0.
    keys = torch.arange(1, 65) << 40
    raw = RawBatch(torch.full((64, 1, 4, 4), 255, dtype=torch.uint8), torch.zeros(64), keys)
    x, _ = Transform(mean=(0.5,), std=(0.25,), augment=True)(raw, torch.float32)
    assert sorted(x.unique().tolist()) == [-2.0, 2.0]


def test_moments_equal_numpy() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 17, (2500, 2, 5, 4), dtype=torch.uint8, generator=generator)
    mean, std = channel_moments(images, 16)
    pixels = images.numpy().astype(np.float64) / 16
    np.testing.assert_allclose(mean, pixels.mean((0, 2, 3)), rtol=1e-13)
    np.testing.assert_allclose(std, pixels.std((0, 2, 3)), rtol=1e-13)


def test_constant_channel_is_refused() -> None:
    images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    with pytest.raises(InputError, match="vary in every channel, got a constant channel: give"):
        channel_moments(images, 255)
