"""Patches that are easy to fit: a pattern for each class, in the middle of most images."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from lightning_lazy.checks import check_number, check_size
from lightning_lazy.data.counter import INDEX_BITS, INDEX_MASK, derive_seed, make_keys, random_words
from lightning_lazy.data.dataset import ImageSet, PatchDraw, RawBatch
from lightning_lazy.errors import InputError

_STREAM = 2
"""Keeps these draws apart from those of crops and mixup, which have the same seed and keys."""
_TRAIN, _VAL = 0, 1
_WORDS = 2**32
"""Values of a random word."""

KINDS = ("none", "both", "patch_only")
"""The kinds of images: as they are, with a patch, a patch on an image of zeros."""


class Patches:
    r"""Patches as in Li, Wei & Ma 2019, §6, for any set of images.

    Once a seed, a window z ~ N(0, std²) that all classes share and a pattern p ~ U(−w, w) for each
    class are drawn, and for every image whether it is *augmented*. Each time an augmented image is
    seen in training it is, by chance,

    - ``both``: its window in the middle is replaced by z + s p, s = ±1;
    - ``patch_only``: the whole image becomes 0, its window z + s p with s = ± f·U(0, 1).

    So a net can tell classes by the patch of many images and by that alone of some, while the
    others need the image. All this happens in standardised pixels.

    Args:
        size: Side length of the window.
        position: Row and column of its upper left corner; ``None``: in the middle.
        shared_std: std.
        class_width: w.
        patch_only_factor: f.
        fractions: Shares of ``none``, ``both`` and ``patch_only``, in expectation.
        fixed_kinds: Whether an image stays of one kind instead of changing between ``both`` and
            ``patch_only`` from epoch to epoch.
        n_patch_only: Images of the validation set ``patch_only``.
        seed: Seed of all draws.

    Raises:
        InputError: A number is out of range, or the fractions do not add up to 1.
    """

    def __init__(
        self,
        size: int = 7,
        position: Sequence[int] | None = None,
        *,
        shared_std: float = 1.25,
        class_width: float = 0.1,
        patch_only_factor: float = 1.75,
        fractions: Sequence[float] = (0.2, 0.64, 0.16),
        fixed_kinds: bool = False,
        n_patch_only: int = 1000,
        seed: int = 0,
    ) -> None:
        self.size = check_size("size", size)
        self.position: tuple[int, ...] | None = None
        if position is not None:
            self.position = tuple(check_size("position", one, minimum=0) for one in position)
            if len(self.position) != 2:
                raise InputError(
                    f"position must be a row and a column, got {list(position)}; or pass None"
                )
        self.shared_std = check_number("shared_std", shared_std, zero=True)
        self.class_width = check_number("class_width", class_width, zero=True)
        self.patch_only_factor = check_number("patch_only_factor", patch_only_factor, zero=True)
        self.fractions = tuple(check_number("fractions", one, zero=True) for one in fractions)
        if len(self.fractions) != 3 or abs(sum(self.fractions) - 1) > 1e-9:
            raise InputError(
                "fractions must be the shares of none, both and patch_only and add up to 1, got "
                f"{list(self.fractions)}; change fractions"
            )
        self.fixed_kinds = fixed_kinds
        self.n_patch_only = check_size("n_patch_only", n_patch_only)
        self.seed = seed

    def draw(self, keys: Tensor, part: int = _TRAIN) -> PatchDraw:
        """Draw for images what is a pure function of the seed and their keys.

        Args:
            keys: int64, shape (n,), see `counter`.
            part: Number of the set that they belong to.
        """
        rarely, often = (derive_seed(self.seed, _STREAM, part, number) for number in (0, 1))
        which, *fixed = random_words(rarely, keys & INDEX_MASK, 1 + self.fixed_kinds)
        sign_and_size, *changing = random_words(often, keys, 2 - self.fixed_kinds)
        (kind,) = fixed or changing
        none, both, patch_only = (share * _WORDS for share in self.fractions)
        is_both = kind < both / (both + patch_only or 1) * _WORDS
        kinds = torch.where(which < none, 0, torch.where(is_both, 1, 2))
        signed = sign_and_size.float() * (2 / _WORDS) - 1  # uniform in (−1, 1)
        sign = 1 - 2 * (sign_and_size < _WORDS // 2).float()
        return PatchDraw(kinds, torch.where(is_both, sign, self.patch_only_factor * signed))

    def patterns(self, channels: int, classes: int) -> tuple[Tensor, Tensor]:
        """Return z, shape (channels, size, size), and p, shape (classes, channels, size, size)."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, _STREAM))
        shape = (channels, self.size, self.size)
        shared = torch.randn(shape, generator=generator, dtype=torch.float64)
        by_class = torch.rand((classes, *shape), generator=generator, dtype=torch.float64)
        return shared * self.shared_std, (2 * by_class - 1) * self.class_width

    def corner(self, height: int, width: int) -> tuple[int, int]:
        """Return row and column of the window in images of this size.

        Raises:
            InputError: The window does not fit.
        """
        row, column = self.position or ((height - self.size) // 2, (width - self.size) // 2)
        if min(row, column) < 0 or row + self.size > height or column + self.size > width:
            raise InputError(
                f"a patch of {self.size}×{self.size} at {(row, column)} must fit in images of "
                f"{height}×{width}: choose a smaller size or another position"
            )
        return row, column

    def training_set(self, images: ImageSet) -> "PatchedSet":
        """Return the images as they are seen in training."""
        return PatchedSet(images.images, images.labels, self, _TRAIN)

    def validation_sets(self, images: ImageSet) -> Mapping[str, ImageSet]:
        """Return ``clean``, ``mixed`` and ``patch_only``, drawn once.

        Args:
            images: The validation images.

        Returns:
            The images as they are; as in training, drawn once; and images of zeros that all carry
            the patch of a random label.
        """
        generator = torch.Generator().manual_seed(derive_seed(self.seed, _STREAM, _VAL))
        known = torch.unique(images.labels)
        number = torch.randint(len(known), (self.n_patch_only,), generator=generator)
        labels = known[number]
        zeros = images.images.new_zeros(self.n_patch_only, *images.images.shape[1:])
        return {
            "clean": images,
            "mixed": PatchedSet(images.images, images.labels, self, _VAL, constant=True),
            "patch_only": PatchedSet(zeros, labels, self, _VAL + 1, constant=True, blank=True),
        }


class PatchedSet(ImageSet):
    """Images with what is drawn for their patches; of training, plain indices give them clean.

    Args:
        images: uint8 tensor of shape (n, channels, height, width).
        labels: int64 tensor of shape (n,).
        patches: What to draw.
        part: Number of the set in these draws.
        constant: Whether plain indices have patches, too, always the same.
        blank: Whether all images carry a patch and are 0 around it.
    """

    def __init__(  # noqa: PLR0917
        self,
        images: Tensor,
        labels: Tensor,
        patches: Patches,
        part: int,
        constant: bool = False,
        blank: bool = False,
    ) -> None:
        super().__init__(images, labels)
        self.patches, self.part = patches, part
        self.constant, self.blank = constant, blank
        self._epoch: int | None = None
        self._draws: PatchDraw | None = None

    def drawn(self, epoch: int) -> PatchDraw:
        """Return what is drawn for all images in an epoch, kept until another epoch comes."""
        if self._draws is None or self._epoch != epoch:
            keys = make_keys(torch.arange(len(self)), epoch)
            draws = self.patches.draw(keys, self.part)
            if self.blank:
                draws = draws._replace(kinds=torch.full_like(draws.kinds, 2))
            self._epoch, self._draws = epoch, draws
        return self._draws

    def __getitems__(self, keys: Tensor | Sequence[int]) -> RawBatch:
        """The images of many keys, all of one epoch, as one batch, with their patches."""
        batch = super().__getitems__(keys)
        if batch.keys is None and not self.constant:
            return batch
        epoch = 0 if batch.keys is None else (int(batch.keys[0]) >> INDEX_BITS) - 1
        others = None if batch.partners is None else self._patched(batch.partners, epoch)
        return self._patched(batch._replace(partners=others), epoch)

    def _patched(self, batch: RawBatch, epoch: int) -> RawBatch:
        if batch.where is None:
            return batch
        kinds, strengths = self.drawn(epoch)
        places = batch.where.places
        patch = PatchDraw(kinds.index_select(0, places), strengths.index_select(0, places))
        return batch._replace(patch=patch)


class PatchTransform:
    """Puts the patches of a batch on its images, vectorised.

    Args:
        transform: Makes inputs and labels of bytes; inputs of images of kind 2 are 0.
        patches: What the patches look like.
        shape: Channels, height and width of an image after the transform.
        classes: Classes of the task.

    Raises:
        InputError: The window does not fit.
    """

    def __init__(
        self,
        transform: Callable[[RawBatch, torch.dtype], tuple[Tensor, Tensor]],
        patches: Patches,
        shape: tuple[int, int, int],
        classes: int,
    ) -> None:
        self.transform, self.shape = transform, shape
        row, column = patches.corner(*shape[1:])
        self._window = slice(row, row + patches.size), slice(column, column + patches.size)
        self._patterns = patches.patterns(shape[0], classes)
        self._moved: dict[tuple[torch.device, torch.dtype], tuple[Tensor, ...]] = {}

    def __call__(self, raw: RawBatch, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Inputs, of the transform's shape, and labels of a batch."""
        x, y = self.transform(raw, dtype)
        if raw.patch is None:
            return x, y
        kinds, strengths = (one.view(-1, 1, 1, 1) for one in raw.patch)
        place = (x.device, x.dtype)
        if place not in self._moved:
            self._moved[place] = tuple(one.to(x) for one in self._patterns)
        shared, by_class = self._moved[place]
        classes = y.clamp(min=0) if len(by_class) == 2 else y  # a binary task has −1 and 1
        patch = torch.addcmul(shared, by_class.index_select(0, classes), strengths.to(x))
        window = x.view(-1, *self.shape)[:, :, self._window[0], self._window[1]]
        window.lerp_(patch, (kinds > 0).to(x))  # 0 and 1 pick one of both exactly
        return x, y
