"""Oracles: SplitMix64's published first outputs; the same hash in Python's unbounded integers."""

import pytest
import torch

from lightning_lazy.data.counter import below, derive_seed, make_keys, random_words

WORD = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def reference_mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
    return z ^ (z >> 31)


def reference_words(seed: int, key: int, draws: int) -> list[int]:
    stream = reference_mix((seed + GOLDEN) & WORD)
    state = reference_mix((key + stream) & WORD)
    return [reference_mix((state + draw * GOLDEN) & WORD) >> 32 for draw in range(1, draws + 1)]


def test_the_hash_is_splitmix64() -> None:
    # First output of SplitMix64 from state 0, as printed in the test of many implementations.
    assert reference_mix(GOLDEN) == 0xE220A8397B1DCDAF
    assert derive_seed(0) == 0xE220A8397B1DCDAF >> 1


# 1 and 7 run through torch's scalar loop, 1000 through its vectorised one with a remainder.
@pytest.mark.parametrize("count", [1, 7, 1000])
@pytest.mark.parametrize("seed", [0, 1, -1, 2**63 + 11, 2**70])
def test_words_equal_the_hash_in_python_integers(seed: int, count: int) -> None:
    keys = make_keys(torch.arange(count) * 977, epoch=count)
    words = random_words(seed, keys, 3)
    expected = [reference_words(seed, key, 3) for key in keys.tolist()]
    assert words.T.tolist() == expected


def test_below_covers_its_range_and_nothing_else() -> None:
    words = torch.tensor([0, 2**32 - 1, 2**31])
    assert below(words, 9).tolist() == [0, 8, 4]


def test_seeds_depend_on_every_part_and_on_the_order() -> None:
    seeds = {derive_seed(a, b) for a in range(50) for b in range(50)}
    assert len(seeds) == 2500
    assert len({seed & 0xFFFFFFFF for seed in seeds}) == 2500  # all that torch's CPU engine uses
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_keys_hold_index_and_epoch() -> None:
    keys = make_keys(torch.tensor([3]), epoch=6)
    assert (int(keys) & (2**40 - 1), int(keys) >> 40) == (3, 7)
