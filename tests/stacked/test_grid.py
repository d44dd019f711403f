"""Axes, cells and shards."""

from typing import Any

import pytest

from lightning_lazy import InputError
from lightning_lazy.stacked import Grid
from lightning_lazy.stacked.grid import parse_shard


def test_cells_are_all_combinations_with_the_learning_rate_fastest() -> None:
    grid = Grid({"lr": [1, 2], "alpha": [3.0, 4.0], "optimizer": ["sgd", "adam"], "width": [5, 6]})
    rows = [(dict(c.knobs)["width"], c.optimizer, c.alpha, c.lr) for c in grid.cells]
    assert rows == [
        (w, o, a, r) for w in (5, 6) for o in ("sgd", "adam") for a in (3, 4) for r in (1, 2)
    ]
    assert [cell.index for cell in grid.cells] == list(range(16))
    assert grid.cells[0].columns == {
        "cell": 0, "optimizer": "sgd", "lr": 1.0, "alpha": 3.0, "l2": 0.0, "seed": 0, "width": 5,
    }  # fmt: skip


def test_a_range_has_equal_ratios_and_round_numbers() -> None:
    grid = Grid({"lr": "1e-4:1e2:7", "alpha": 2.0})
    assert grid.axes["lr"] == [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0]
    assert grid.axes["alpha"] == [2.0]


def test_a_range_of_whole_numbers_is_one_of_integers_as_widths_and_seeds_must_be() -> None:
    grid = Grid({"width": "10:1000:3", "seed": "1:4:3", "tau": "0.1:10:3"})
    assert grid.axes["width"] == [10, 100, 1000]
    assert all(isinstance(value, int) for value in grid.axes["width"] + grid.axes["seed"])
    assert grid.axes["tau"] == [0.1, 1.0, 10.0]


def test_what_is_left_out_has_the_value_of_a_plain_run() -> None:
    (cell,) = Grid({}).cells
    assert (cell.optimizer, cell.seed, cell.l2, cell.alpha, cell.lr) == ("sgd", 0, 0.0, 1.0, 1.0)


def test_shards_hold_every_cell_once_and_mix_the_grid() -> None:
    grid = Grid({"lr": "1e-3:1e3:7", "alpha": [1, 2, 3]})
    shards = [grid.shard(f"{i}/4") for i in (1, 2, 3, 4)]
    assert sorted(c.index for shard in shards for c in shard) == list(range(21))
    assert [c.index for c in shards[1]] == [1, 5, 9, 13, 17]
    assert grid.shard("1/1") == grid.cells


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"lr": [0.1, 0.0]}, r"axes.lr must be finite and above 0, got 0.0"),
        ({"alpha": [-1]}, r"axes.alpha must be finite and above 0, got -1"),
        ({"alpha": ["big"]}, r"axes.alpha must be a number above 0, got 'big'"),
        ({"lr": "0:1:3"}, r"axes.lr must be finite and above 0, got 0.0"),
        ({"alpha": "1:-2:3"}, r"axes.alpha must be finite and above 0, got -2.0"),
        ({"lr": "1:2"}, r"must be low:high:count such as 1e-4:1e4:9, got '1:2'; or give a list"),
        ({"lr": "1:2:1"}, r"the count of axes.lr must be an integer of at least 2, got 1"),
        ({"lr": {"low": 1}}, r"axes.lr must be a number above 0, got {'low': 1}"),
        ({"alpha": [1e200]}, r"axes.alpha must be between 1e-150 and 1e150, got 1e\+200"),
        ({"lr": []}, r"axes.lr must have a value, got an empty list"),
        ({"lr": [1, 1.0]}, r"axes.lr has the value 1.0 twice; drop one"),
        ({"l2": [-0.1]}, r"axes.l2 must be finite and at least 0"),
        ({"sizes": [[3], [4]]}, r"axes.sizes must have numbers, words, true or false, got \[3\]"),
        ({"seed": [0.5]}, r"axes.seed must be an integer of at least 0"),
        ({"optimizer": ["lion"]}, r"axes.optimizer must be one of sgd, momentum, rmsprop"),
    ],
)
def test_a_bad_axis_gets_one_line(axes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Grid(axes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0/4", "with i from 1 to n, got '0/4'; the last one is 4/4"),
        ("5/4", "with i from 1 to n, got '5/4'"),
        ("2", "must be i/n such as 1/4, got '2'"),
        ("a/b", "must be i/n such as 1/4, got 'a/b'"),
        ("-1/4", "must be i/n such as 1/4, got '-1/4'"),
    ],
)
def test_a_bad_shard_gets_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_shard(text)
