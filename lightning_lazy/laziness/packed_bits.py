"""Boolean patterns, one bit each."""

import sys

import torch
from torch import Tensor
from torch.nn.functional import pad

# Multiplying eight bytes of 0 or 1 by this number gathers them in the top byte of the product.
_GATHER = 0x0102040810204080
_TOP = 7 if sys.byteorder == "little" else 0
_M1, _M2, _M4 = 0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F
_H01 = 0x0101010101010101


def pack_bits(pattern: Tensor) -> Tensor:
    """Pack a boolean tensor of shape ``(..., units)`` into bytes, eight units in one.

    Returns:
        A uint8 tensor of shape ``(..., ceil(units / 8))``; bits beyond the last unit are 0.
    """
    missing = -pattern.shape[-1] % 8
    padded = pad(pattern, (0, missing)) if missing else pattern
    words = padded.contiguous().view(torch.int64) * _GATHER
    return words.view(torch.uint8)[..., _TOP::8].contiguous()


def count_ones(packed: Tensor) -> int:
    """Return the number of ones among the bits of a uint8 tensor."""
    flat = packed.flatten()
    words = pad(flat, (0, -flat.numel() % 8)).view(torch.int64)
    words = words - ((words >> 1) & _M1)
    words = (words & _M2) + ((words >> 2) & _M2)
    words = (words + (words >> 4)) & _M4
    return int((((words * _H01) >> 56) & 0xFF).sum())
