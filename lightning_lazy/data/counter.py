"""Randomness as a pure function of (seed, key, draw): no state, any device, any batch composition.

A *key* is an int64 that names one drawing of one image: its lower 40 bits are the image's index in
the data set, the bits above hold the epoch plus one. A plain index is a key as well: upper bits of
zero mean "the image as it is", without augmentation.

The hash is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
OOPSLA 2014), in int64 arithmetic that wraps around, since torch has no unsigned 64-bit kernels.
"""

import torch
from torch import Tensor

INDEX_BITS = 40
INDEX_MASK = (1 << INDEX_BITS) - 1

_WORD = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15  # 2⁶⁴ / golden ratio, made odd: the step of SplitMix64
_STAGES = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_LAST_SHIFT = 31


def make_keys(index: Tensor, epoch: int) -> Tensor:
    """Keys of training draws.

    Args:
        index: int64 tensor of image indices, each below 2⁴⁰.
        epoch: Number of the epoch, from 0, below 2²³ − 1.

    Returns:
        int64 tensor of the shape of `index`.

    >>> [hex(key) for key in make_keys(torch.tensor([0, 5]), epoch=0).tolist()]
    ['0x10000000000', '0x10000000005']
    """
    return index | ((epoch + 1) << INDEX_BITS)


def derive_seed(*parts: int) -> int:
    """A seed that depends on every part and on their order.

    Neighbouring seeds or epochs give unrelated results, which adding them up would not: seed 0 in
    epoch 1 would then repeat seed 1 in epoch 0.

    Args:
        *parts: Integers of any size and sign; they count modulo 2⁶⁴.

    Returns:
        An integer in [0, 2⁶³), fit for `torch.Generator.manual_seed`.
    """
    return _chain(parts) >> 1


def random_words(seed: int, keys: Tensor, draws: int) -> Tensor:
    """Uniform 32-bit words, a pure function of (seed, key, number of the draw).

    Args:
        seed: Seed of the stream.
        keys: int64 tensor of shape (n,), on any device.
        draws: How many words each key gets.

    Returns:
        int64 tensor of shape (draws, n) on the device of `keys`, values in [0, 2³²).
    """
    state = _mix(keys + _signed(_chain((seed,))))
    number = torch.arange(1, draws + 1, device=keys.device).unsqueeze(1)
    return _shift_right(_mix(state + number * _signed(_GOLDEN)), 32)


def below(words: Tensor, bound: int) -> Tensor:
    """Map 32-bit words to integers in [0, bound), with a bias under bound / 2³²."""
    return (words * bound) >> 32


def _chain(parts: tuple[int, ...]) -> int:
    state = 0
    for part in parts:
        state = (state + part + _GOLDEN) & _WORD
        for shift, factor in _STAGES:
            state = ((state ^ (state >> shift)) * factor) & _WORD
        state ^= state >> _LAST_SHIFT
    return state


def _mix(z: Tensor) -> Tensor:
    for shift, factor in _STAGES:
        z = (z ^ _shift_right(z, shift)) * _signed(factor)
    return z ^ _shift_right(z, _LAST_SHIFT)


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """Shift in zeros from the left: torch's `>>` on int64 copies the sign bit instead."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word
