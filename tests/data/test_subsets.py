"""Oracle: counting by hand on small label vectors."""

from typing import Any

import pytest
import torch

from lightning_lazy.data.subsets import draw_subset, make_task
from lightning_lazy.errors import InputError

NAMES = ("cat", "dog", "fox", "hen")
LABELS = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 3, 3])


def test_classes_are_renumbered_in_the_given_order() -> None:
    task = make_task(NAMES, ["hen", 0], False)
    assert task.names == ("hen", "cat")
    assert task.lookup.tolist() == [1, -1, -1, 0]
    assert task.labels(torch.tensor([0, 1])).tolist() == [0, 1]


def test_binary_labels_the_first_class_minus_one() -> None:
    task = make_task(NAMES, ["fox", "dog"], True)
    index, classes = draw_subset(LABELS, task, size=None, balanced=False, seed=0, what="training")
    expected = [-1 if LABELS[i] == 2 else 1 for i in index]
    assert task.labels(classes).tolist() == expected
    assert task.labels(classes).dtype == torch.int64


def test_binary_groups_label_their_members() -> None:
    task = make_task(NAMES, None, [[0, 2], ["dog"]])
    assert task.names == ("cat+fox", "dog")
    assert task.lookup.tolist() == [0, 1, 0, -1]


def test_subsets_of_one_seed_are_nested_and_of_others_differ() -> None:
    task = make_task(NAMES, None, False)
    labels = torch.arange(400) % 4

    def draw(size: int, seed: int, balanced: bool) -> list[int]:
        return draw_subset(labels, task, size=size, balanced=balanced, seed=seed, what="training")[
            0
        ].tolist()

    assert draw(200, 0, False)[:100] == draw(100, 0, False)
    assert set(draw(100, 0, True)) <= set(draw(200, 0, True))
    assert draw(100, 0, False) != draw(100, 1, False)
    assert len(set(draw(400, 0, False))) == 400


def test_all_images_come_in_random_order() -> None:
    task = make_task(NAMES, None, False)
    labels = torch.arange(400) // 100
    index, classes = draw_subset(labels, task, size=None, balanced=False, seed=0, what="training")
    assert sorted(index.tolist()) == list(range(400))
    # Hypergeometric: 25 ± 3.8 of each class among the first hundred.
    assert torch.bincount(classes[:100], minlength=4).min() > 8


@pytest.mark.parametrize(("size", "each"), [(8, 2), (4, 1), (None, 2)])
def test_balanced_counts(size: int | None, each: int) -> None:
    task = make_task(NAMES, None, False)
    index, classes = draw_subset(LABELS, task, size=size, balanced=True, seed=3, what="training")
    assert torch.bincount(classes).tolist() == [each] * 4
    assert torch.equal(task.lookup[LABELS[index]], classes)


def test_balanced_counts_the_sides_of_a_binary_task() -> None:
    task = make_task(NAMES, None, [["cat", "dog", "hen"], ["fox"]])
    _, classes = draw_subset(LABELS, task, size=6, balanced=True, seed=0, what="training")
    assert torch.bincount(classes).tolist() == [3, 3]


BAD_TASKS: list[tuple[Any, Any, str]] = [
    (["cow"], False, "expected classes among cat, dog, fox, hen .* got 'cow'"),
    ([0, 4], False, "or their numbers from 0.*, got 4"),
    ([0, -1], False, "got -1"),
    ([0, True], False, "got True"),
    ("cat", False, r"expected a list of classes, got 'cat': write \[cat\]"),
    ([0, "cat"], False, "expected each class once, got 'cat' twice"),
    ([0], False, "expected at least two classes, got 1"),
    (None, True, "expected two classes for binary=true, got 4"),
    (None, [[0], [1], [2]], "expected binary to be true, false or two lists"),
    (None, [[0], []], "expected binary to be true, false or two lists"),
    (None, [0, 1], "expected binary to be true, false or two lists"),
    (None, "yes", "expected binary to be true, false or two lists"),
    (None, [[0, 1], [1]], "expected each class once, got 'dog' twice"),
    ([0, 1, 2], [[0], [1]], "to name the same classes"),
]


@pytest.mark.parametrize(("classes", "binary", "message"), BAD_TASKS)
def test_choices_that_make_no_task_are_refused(classes: Any, binary: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make_task(NAMES, classes, binary)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("size", "balanced", "message"),
    [
        (15, False, "expected at least 15 training images, the set has 14"),
        (6, True, "expected a number of balanced training images that 4 classes divide, got 6"),
        (12, True, "expected 3 training images of each class, class 'hen' has 2"),
    ],
)
def test_subsets_that_do_not_exist_are_refused(size: int, balanced: bool, message: str) -> None:
    task = make_task(NAMES, None, False)
    with pytest.raises(InputError, match=message):
        draw_subset(LABELS, task, size=size, balanced=balanced, seed=0, what="training")


def test_a_class_without_images_is_refused_where_balance_is_asked() -> None:
    task = make_task((*NAMES, "owl"), None, False)
    with pytest.raises(InputError, match="expected 1 training images of each class, class 'owl'"):
        draw_subset(LABELS, task, size=None, balanced=True, seed=0, what="training")
