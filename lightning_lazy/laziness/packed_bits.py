"""Boolean patterns, one bit each."""

import torch
from torch import Tensor
from torch.nn.functional import pad

# Multiplying eight bytes of 0 or 1 by this number gathers them in the top byte of the product.
_GATHER = 0x0102040810204080
_M1, _M2, _M4 = 0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F
_H01 = 0x0101010101010101


def pack_bits(pattern: Tensor) -> Tensor:
    """Pack a boolean tensor of shape ``(n, units)`` into bytes, eight units in one.

    Returns:
        A uint8 tensor of shape ``(n, ceil(units / 8))``; bits beyond the last unit are 0.
    """
    n, units = pattern.shape
    padded = pad(pattern, (0, -units % 8)).contiguous().view(torch.int64)
    return ((padded * _GATHER) >> 56).to(torch.uint8).view(n, -1)


def count_ones(packed: Tensor) -> int:
    """Return the number of ones among the bits of a uint8 tensor."""
    flat = packed.flatten()
    words = pad(flat, (0, -flat.numel() % 8)).view(torch.int64)
    words = words - ((words >> 1) & _M1)
    words = (words & _M2) + ((words >> 2) & _M2)
    words = (words + (words >> 4)) & _M4
    return int((((words * _H01) >> 56) & 0xFF).sum())
