"""What the patches of a run look like."""

from pathlib import Path

import torch
from torch import Tensor

from lightning_lazy.build import build
from lightning_lazy.data.counter import make_keys
from lightning_lazy.data.images import ImageDataModule
from lightning_lazy.data.patches import KINDS
from lightning_lazy.errors import InputError
from lightning_lazy.figures.frames import read_config
from lightning_lazy.figures.style import new_figure, save

_SHOWN, _SEARCHED = 10, 2000
"""Images in a row; those among which all kinds are looked for."""


def patch_examples(folder: Path) -> list[Path]:
    """Draw training images of every kind, as the first epoch of a run shows them.

    Args:
        folder: Folder of a run on patch-augmented images, which are loaded anew.

    Returns:
        The path of the picture, ``figures/patch_examples.png``.

    Raises:
        InputError: The run's images have no patches.
    """
    data: ImageDataModule = build(read_config(folder)["data"])
    if data.patches is None:
        raise InputError(
            f"the images of {folder} have no patches: leave figures.patch_examples out, or set "
            "data=cifar10_patches"
        )
    data.setup()
    index = torch.arange(min(_SEARCHED, len(data.train_set)))
    kinds = data.patches.draw(make_keys(index, epoch=0)).kinds
    pictures = _pictures(data, index)
    labels = data.train_set.labels
    figure, axes = new_figure(_SHOWN, rows=len(KINDS), width=1.0, height=1.1)
    for number, (kind, row) in enumerate(zip(KINDS, axes, strict=True)):
        found = index[kinds == number]
        for one, place in zip(row, _varied(found, labels).tolist(), strict=False):
            one.imshow(pictures[place].numpy(), cmap="gray", vmin=0, vmax=1)
            name = data.class_names[int(labels[place].clamp(min=0))]
            one.set_title(name[:12], fontsize=7)
        for one in row:
            one.grid(False)
            one.set_xticks([])
            one.set_yticks([])
            one.spines[:].set_visible(False)
        row[0].set_ylabel(kind.replace("_", " "), fontsize=9)
    return [save(figure, folder, "patch_examples")]


def _pictures(data: ImageDataModule, index: Tensor) -> Tensor:
    """Return images with their patches, shape (n, height, width[, channels]), black 0 and white 1.

    The scale is that of the images without patches, channel by channel.
    """
    shape = (len(index), *data.image_shape)
    clean, _ = data.transform(data.train_set.__getitems__(index))
    x, _ = data.transform(data.train_set.__getitems__(make_keys(index, epoch=0)))
    low, high = (
        extreme(clean.view(shape), (0, 2, 3), keepdim=True) for extreme in (torch.amin, torch.amax)
    )
    pictures = ((x.view(shape) - low) / (high - low)).clamp(0, 1)
    return pictures.permute(0, 2, 3, 1).squeeze(-1)


def _varied(places: Tensor, labels: Tensor) -> Tensor:
    """Return up to `_SHOWN` of some places, of as many classes as there are, ordered by class."""
    own = labels[places].tolist()
    seen = [own[:i].count(label) for i, label in enumerate(own)]
    order = sorted(range(len(own)), key=lambda i: (seen[i], own[i]))[:_SHOWN]
    return places[sorted(order, key=lambda i: own[i])]
