"""Images of any size in files, decoded, cropped and scaled when they are asked for."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_lazy.data.counter import INDEX_BITS, INDEX_MASK, random_words
from lightning_lazy.data.dataset import KeyedSet
from lightning_lazy.data.folders import open_image

Box = tuple[int, int, int, int]
"""Left, upper, right and lower edge in pixels."""

_TRIES = 10
_AREAS = (0.08, 1.0)
_LOG_RATIOS = (math.log(3 / 4), math.log(4 / 3))
_DRAWS = 4 * _TRIES + 1


class ImageFiles(KeyedSet):
    """Square images cut out of files of any size.

    A plain index gives the centre of the image (`centre_crop`). A key of a training draw gives,
    with `augment`, a random part (`random_box`) scaled to the size and mirrored every other time: a
    pure function of (seed, epoch, image), whatever the number of workers or ranks.

    Args:
        files: The images; grey ones come with three equal channels.
        labels: int64 tensor, one entry a file.
        size: Side of the result in pixels.
        resize: What the shorter side is scaled to before the centre is cut out.
        augment: Whether training draws are random.
        seed: Seed of these draws.
    """

    def __init__(
        self,
        files: Sequence[Path],
        labels: Tensor,
        *,
        size: int,
        resize: int,
        augment: bool,
        seed: int = 0,
    ) -> None:
        super().__init__(labels)
        # One array of bytes: a million Path objects would be copied into every worker, page by
        # page, as their reference counts change.
        self._files = np.array([str(file).encode() for file in files])
        self.size, self.resize, self.augment, self.seed = size, resize, augment, seed

    def pixels(self, keys: Tensor) -> Tensor:
        """uint8 images of shape (n, 3, size, size) of int64 keys of shape (n,)."""
        images = np.empty((len(keys), self.size, self.size, 3), dtype=np.uint8)
        words = random_words(self.seed, keys, _DRAWS).T.tolist()
        for place, key, draws in zip(images, keys.tolist(), words, strict=True):
            image = open_image(self.file(key & INDEX_MASK)).convert("RGB")
            if self.augment and key >> INDEX_BITS:
                width, height = image.size
                box = random_box(width, height, draws)
                pixels = np.asarray(_scaled(image.crop(box), (self.size, self.size)))
                place[:] = pixels[:, ::-1] if draws[-1] >> 31 else pixels
            else:
                place[:] = centre_crop(image, self.size, self.resize)
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()

    def file(self, index: int) -> Path:
        """The file of an image."""
        return Path(self._files[index].decode())


def random_box(width: int, height: int, words: Sequence[int]) -> Box:
    """A random part of an image: 8 to 100 % of its area, sides in a ratio from 3:4 to 4:3.

    Area and logarithm of the ratio are uniform; of ten draws the first that fits into the image is
    put at a uniform place. If none does, the largest allowed part in the middle is taken. (Szegedy
    et al. 2015, as in torchvision's `RandomResizedCrop`.)

    Args:
        width: Of the image, in pixels.
        height: Of the image, in pixels.
        words: Forty integers, uniform in [0, 2³²).

    Returns:
        The part.
    """
    for start in range(0, 4 * _TRIES, 4):
        area, log_ratio, across, down = (word / 2**32 for word in words[start : start + 4])
        pixels = width * height * (_AREAS[0] + area * (_AREAS[1] - _AREAS[0]))
        ratio = math.exp(_LOG_RATIOS[0] + log_ratio * (_LOG_RATIOS[1] - _LOG_RATIOS[0]))
        w, h = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(across * (width - w + 1)), int(down * (height - h + 1))
            return left, top, left + w, top + h
    w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def centre_crop(image: Any, size: int, resize: int) -> Any:
    """The centre of an image, after scaling.

    Args:
        image: An image of PIL.
        size: Side of the result in pixels.
        resize: What the shorter side is scaled to; at least `size`.

    Returns:
        The square part as an image of PIL.
    """
    shorter = min(image.size)
    scaled = _scaled(image, tuple(resize * side // shorter for side in image.size))
    left, top = (round((side - size) / 2) for side in scaled.size)
    return scaled.crop((left, top, left + size, top + size))


def _scaled(image: Any, size: tuple[int, ...]) -> Any:
    """Scale an image of PIL, averaging where it shrinks."""
    return image.resize(size, 2)  # PIL.Image.Resampling.BILINEAR
