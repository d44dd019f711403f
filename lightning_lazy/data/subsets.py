"""Which classes a task has, which labels they get, and which images are drawn."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_lazy.errors import InputError

ClassName = int | str


@dataclass(frozen=True)
class Task:
    """How the classes of a data set become the classes of a task.

    Attributes:
        names: Name of each of the task's k classes.
        lookup: int64 tensor, one entry a class of the data set: the task's class 0 … k − 1, or −1
            where the task leaves the class out.
        binary: Whether labels are −1 (first class) and +1 (second) rather than 0 … k − 1.
    """

    names: tuple[str, ...]
    lookup: Tensor
    binary: bool

    def labels(self, classes: Tensor) -> Tensor:
        """int64 labels of images of the task's classes `classes`."""
        return 2 * classes - 1 if self.binary else classes


def make_task(
    class_names: Sequence[str],
    classes: Sequence[ClassName] | None,
    binary: bool | Sequence[Sequence[ClassName]],
) -> Task:
    """The task that the user's choice of classes describes.

    Args:
        class_names: Names of the data set's classes, in the order of its labels.
        classes: Names or numbers of the classes to keep, in the order of the new labels; None
            for all.
        binary: False for k classes; True for two classes told apart by −1 and +1; or two lists of
            classes, those of the first labelled −1, those of the second +1.

    Returns:
        The task; the name of a group of classes joins theirs by "+".

    Raises:
        InputError: Where a class does not exist or comes twice, or the choice does not make a
            task.
    """
    groups = _groups(class_names, classes, binary)
    members = [member for group in groups for member in group]
    for member in members:
        if members.count(member) > 1:
            raise InputError(f"expected each class once, got {class_names[member]!r} twice")
    lookup = torch.full((len(class_names),), -1)
    for label, group in enumerate(groups):
        lookup[group] = label
    names = tuple("+".join(class_names[member] for member in group) for group in groups)
    return Task(names, lookup, binary is not False)


def draw_subset(
    labels: Tensor, task: Task, *, size: int | None, balanced: bool, seed: int, what: str
) -> tuple[Tensor, Tensor]:
    """Random images of a task's classes, in random order.

    A smaller subset of the same seed is the beginning of a larger one (with `balanced`, in each
    class), so that a sweep over n adds images and exchanges none. All images, too, come in random
    order: the first ones of the result are a fair sample also where files are sorted by class.

    Args:
        labels: int64 labels of the data set, shape (N,).
        task: The task.
        size: How many images to draw; None for all, or for as many as `balanced` allows.
        balanced: Whether every class of the task gets equally many.
        seed: Seed of the draw.
        what: What the images are called in error messages.

    Returns:
        Indices into the data set and the task's classes (0 … k − 1) of the images drawn, int64.

    Raises:
        InputError: Where there are too few images, or `size` does not divide by the classes.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    classes = task.lookup[labels[order]]
    order, classes = order[classes >= 0], classes[classes >= 0]
    if balanced:
        kept = _balanced(classes, task, size, what)
        return order[kept], classes[kept]
    if len(order) < (size or 1):
        raise InputError(f"expected at least {size or 1} {what} images, the set has {len(order)}")
    return order[:size], classes[:size]


def _balanced(classes: Tensor, task: Task, size: int | None, what: str) -> Tensor:
    """Sorted places of the first images of each class."""
    counts = torch.bincount(classes, minlength=len(task.names))
    fewest = int(counts.min())
    if size is not None and size % len(task.names):
        raise InputError(
            f"expected a number of balanced {what} images that {len(task.names)} classes divide, "
            f"got {size}: change it or use balanced=false"
        )
    each = fewest if size is None else size // len(task.names)
    if fewest < max(each, 1):
        scarce = task.names[int(counts.argmin())]
        raise InputError(
            f"expected {max(each, 1)} {what} images of each class, class {scarce!r} has {fewest}"
        )
    places = [(classes == label).nonzero()[:each, 0] for label in range(len(task.names))]
    return torch.cat(places).sort().values


def _groups(
    class_names: Sequence[str],
    classes: Sequence[ClassName] | None,
    binary: bool | Sequence[Sequence[ClassName]],
) -> list[list[int]]:
    if classes is not None and not _is_list(classes):
        raise InputError(f"expected a list of classes, got {classes!r}: write [{classes}]")
    chosen = range(len(class_names)) if classes is None else classes
    single = [_class_number(name, class_names) for name in chosen]
    if isinstance(binary, bool):
        if binary and len(single) != 2:
            raise InputError(
                f"expected two classes for binary=true, got {len(single)}: choose them by classes, "
                "or give binary two lists of classes"
            )
        if len(single) < 2:
            raise InputError(f"expected at least two classes, got {len(single)}")
        return [[number] for number in single]
    if not (_is_list(binary) and len(binary) == 2 and all(map(_is_list, binary)) and all(binary)):
        raise InputError(f"expected binary to be true, false or two lists of classes, got {binary}")
    pair = [[_class_number(name, class_names) for name in group] for group in binary]
    if classes is not None and sorted(single) != sorted(pair[0] + pair[1]):
        raise InputError("expected classes and binary to name the same classes: leave out classes")
    return pair


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _class_number(name: ClassName, class_names: Sequence[str]) -> int:
    if isinstance(name, str) and name in class_names:
        return class_names.index(name)
    if isinstance(name, int) and not isinstance(name, bool) and 0 <= name < len(class_names):
        return name
    raise InputError(
        f"expected classes among {', '.join(class_names)} (or their numbers from 0), got {name!r}"
    )
