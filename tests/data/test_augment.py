"""Oracle: pad, slice and flip of one image at a time, with draws from Python integers."""

import numpy as np
import pytest
import torch

from lightning_lazy.data.augment import crop_and_flip
from lightning_lazy.data.counter import make_keys, random_words

WORD = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def reference_words(seed: int, key: int) -> list[int]:
    def mix(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
        return z ^ (z >> 31)

    state = mix((key + mix((seed + GOLDEN) & WORD)) & WORD)
    return [mix((state + draw * GOLDEN) & WORD) >> 32 for draw in (1, 2, 3)]


def reference_crop(image: np.ndarray, seed: int, key: int, padding: int) -> np.ndarray:
    if key >> 40 == 0:
        return image
    top, left, coin = reference_words(seed, key)
    top, left = top * (2 * padding + 1) >> 32, left * (2 * padding + 1) >> 32
    padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
    window = padded[:, top : top + image.shape[1], left : left + image.shape[2]]
    return window[:, :, ::-1] if coin >> 31 else window


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (50, 3, 6, 9), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("padding", [0, 1, 4])
def test_equals_pad_slice_flip_of_single_images(images: torch.Tensor, padding: int) -> None:
    keys = make_keys(torch.arange(50), epoch=3)
    keys[::5] &= 2**40 - 1  # plain indices in between stay as they are
    ours = crop_and_flip(images, keys, padding=padding, seed=7)
    expected = [
        reference_crop(image, 7, key, padding)
        for image, key in zip(images.numpy(), keys.tolist(), strict=True)
    ]
    assert np.array_equal(ours.numpy(), np.stack(expected))
    assert torch.equal(ours[::5], images[::5])


def test_an_image_looks_the_same_in_any_batch(images: torch.Tensor) -> None:
    keys = make_keys(torch.arange(50), epoch=0)
    whole = crop_and_flip(images, keys, padding=4, seed=0)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    shuffled = crop_and_flip(images[order], keys[order], padding=4, seed=0)
    assert torch.equal(shuffled, whole[order])
    alone = crop_and_flip(images[13:14], keys[13:14], padding=4, seed=0)
    assert torch.equal(alone, whole[13:14])


def test_epochs_and_seeds_differ(images: torch.Tensor) -> None:
    def run(epoch: int, seed: int) -> torch.Tensor:
        keys = make_keys(torch.arange(50), epoch)
        return crop_and_flip(images, keys, padding=4, seed=seed)

    first = run(0, 0)
    for other in (run(1, 0), run(0, 1), run(1, 1)):
        same = (other == first).flatten(1).all(1).sum()
        assert same <= 5  # each image has a chance of 1/162 to look alike twice


def chi_square(cells: torch.Tensor, count: int) -> float:
    observed = torch.bincount(cells, minlength=count).double()
    expected = len(cells) / count
    return float(((observed - expected).square() / expected).sum())


def bound(count: int) -> float:
    """Mean and six standard deviations of chi-square: passed with probability above 1 − 1e-6."""
    degrees = count - 1
    return degrees + 6 * (2 * degrees) ** 0.5


# Neighbouring images, neighbouring epochs of one image, and neighbouring seeds.
@pytest.mark.parametrize("along", ["images", "epochs", "seeds"])
def test_offsets_and_flips_are_uniform_and_independent(along: str) -> None:
    size = 162 * (40 if along == "seeds" else 200)  # seeds can't be hashed all at once
    steps = torch.arange(size)
    if along == "images":
        words = random_words(0, make_keys(steps, epoch=0), 3)
    elif along == "epochs":
        words = random_words(0, (steps + 1) << 40 | 5, 3)
    else:
        key = make_keys(torch.tensor([5]), epoch=0)
        words = torch.cat([random_words(seed, key, 3) for seed in range(size)], dim=1)
    top, left, coin = words[0] * 9 >> 32, words[1] * 9 >> 32, words[2] >> 31
    cells = (top * 9 + left) * 2 + coin
    assert chi_square(cells, 162) < bound(162)
    pairs = top[:-1] * 9 + top[1:]  # one step and the next
    assert chi_square(pairs, 81) < bound(81)


def test_torchvision_pads_the_same_way() -> None:
    # The corner windows of torchvision's padded image are those of ours.
    functional = pytest.importorskip("torchvision.transforms.functional")
    image = torch.randint(1, 256, (1, 3, 8, 8), dtype=torch.uint8)
    padded = functional.pad(image, 4)
    keys = make_keys(torch.arange(400), epoch=0)
    ours = crop_and_flip(image.expand(400, -1, -1, -1), keys, padding=4, seed=0)
    places = [(top, left) for top in range(9) for left in range(9)]
    windows = [padded[0, :, top : top + 8, left : left + 8] for top, left in places]
    theirs = torch.stack(windows + [window.flip(-1) for window in windows])
    match = (ours[:, None] == theirs[None]).flatten(2).all(2)
    assert bool(match.any(1).all())


@pytest.mark.parametrize("padding", [1, 4])
def test_reflected_borders_equal_numpys(images: torch.Tensor, padding: int) -> None:
    # Oracle: numpy's padding of each image; the draws are those of the test with zeros.
    keys = make_keys(torch.arange(50), epoch=3)
    mirrored = crop_and_flip(images, keys, padding=padding, padding_mode="reflect", seed=7)
    for image, key, ours in zip(images.numpy(), keys.tolist(), mirrored.numpy(), strict=True):
        padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)), mode="reflect")
        top, left, coin = reference_words(7, key)
        top, left = top * (2 * padding + 1) >> 32, left * (2 * padding + 1) >> 32
        window = padded[:, top : top + 6, left : left + 9]
        assert np.array_equal(ours, window[:, :, ::-1] if coin >> 31 else window)
