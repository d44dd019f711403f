"""Figures of grids. Oracles: made-up tables whose edges and rates are closed forms, pixels of the
pictures, and a real grid of a few cells."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from diagrams import AXES, CRITICAL, EPS, ROOT, made_up_cells, write_grid
from grids import fit, make_grid
from matplotlib import colormaps
from matplotlib.colors import Normalize, to_hex
from matplotlib.image import imread

from lightning_lazy import InputError
from lightning_lazy.figures.kanoh import paper_figures, phase_diagram
from lightning_lazy.figures.kanoh.cells import (
    Diagram,
    over_seeds,
    read_diagram,
    scored_by,
    some_rates,
    with_panels,
)
from lightning_lazy.figures.kanoh.effective_rate import effective_factor, second_moment_root
from lightning_lazy.figures.kanoh.lattice import Lattice, Plane, lattice, matrix
from lightning_lazy.figures.kanoh.maps import draw_cells, map_figure
from lightning_lazy.figures.kanoh.overlays import MISSING
from lightning_lazy.figures.kanoh.regions import find_regions
from lightning_lazy.figures.kanoh.slices import best_rates
from lightning_lazy.figures.style import new_figure

SMALL: dict[str, Any] = {"optimizer": ["sgd", "rmsprop"], "alpha": [0.1, 1.0], "lr": [0.1, 1.0]}
PAPER = ("fig1_2", "fig6", "fig7", "fig8", "fig9", "slices", "boundary")


def diagram_of(axes: dict[str, Any], **columns: Any) -> Diagram:
    cells = made_up_cells(axes).assign(data="mnist", grid="MNIST", eps=EPS, **columns)
    cells["untrusted"] = cells["frozen_throughout"] > 0.5
    cells["sharpness"] = cells["curvature/hessian_top1_start"] + cells["l2"]
    return Diagram(cells, [name for name in axes if name not in ("optimizer", "seed")])


def points_of(axes: dict[str, Any], x: str = "alpha", y: str = "lr") -> pd.DataFrame:
    return over_seeds(with_panels(diagram_of(axes), x, y), x, y)


# --- the table ------------------------------------------------------------------------------------


def test_shards_are_merged_and_what_is_missing_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = [write_grid(tmp_path / str(i), SMALL, shard=f"{i}/3") for i in (1, 3)]
    diagram = read_diagram(tmp_path)
    assert capsys.readouterr().out == "missing: shard 2/3: 3 cells\n"
    expected = pd.concat(written)["cell"].sort_values().tolist()
    assert diagram.cells["cell"].tolist() == expected
    assert set(diagram.knobs) == {"lr", "alpha", "l2"}
    write_grid(tmp_path / "elsewhere" / "2", SMALL, shard="2/3")
    merged = read_diagram([tmp_path / "1", tmp_path / "3", tmp_path / "elsewhere"]).cells
    assert merged["cell"].tolist() == list(range(8))
    assert capsys.readouterr().out == ""


def test_a_shard_by_itself_does_not_speak_of_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # It draws when it ends; what is missing is said once, by the figure of the sweep.
    places = [tmp_path / "0", tmp_path / "1"]
    for number, place in enumerate(places, start=1):
        write_grid(place, SMALL, shard=f"{number}/3")
    read_diagram(places[0])
    assert capsys.readouterr().out == ""
    read_diagram(places)
    assert capsys.readouterr().out == "missing: shard 3/3: 2 cells\n"
    table = pd.read_parquet(places[0] / "cells.parquet")
    table.iloc[1:].to_parquet(places[0] / "cells.parquet", index=False)
    read_diagram(places[0])
    assert capsys.readouterr().out == "missing: shard 1/3: 1 cells\n"


def test_grids_on_several_data_sets_are_panels_of_one_diagram(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_grid(tmp_path / "0", SMALL, dataset="mnist")
    write_grid(tmp_path / "1", SMALL, dataset="cifar10", shard="1/2")
    cells = with_panels(read_diagram(tmp_path), "alpha", "lr")
    assert capsys.readouterr().out == "missing: CIFAR-10, shard 2/2: 4 cells\n"
    assert cells["panel"].value_counts().to_dict() == {"MNIST": 8, "CIFAR-10": 4}
    assert set(cells["data"]) == {"mnist", "cifar10"}


def test_grids_on_the_same_data_are_told_apart_by_what_differs(tmp_path: Path) -> None:
    for number, width in enumerate((10, 20)):
        axes = SMALL | {"lr": [0.1, 1.0 + number]}
        write_grid(tmp_path / str(number), axes, model={"width": width})
    names = read_diagram(tmp_path).cells["grid"].unique()
    assert list(names) == ["MNIST, model.width = 10", "MNIST, model.width = 20"]


def test_other_axes_are_panels_and_seeds_are_means() -> None:
    axes = SMALL | {"width": [3, 5], "seed": [0, 1]}
    points = points_of(axes)
    assert list(points["panel"].unique()) == ["MNIST, width = 3", "MNIST, width = 5"]
    assert len(points) == 16
    raw = made_up_cells(axes)
    group = raw[(raw["width"] == 3) & (raw["optimizer"] == "rmsprop")]
    wanted = group.groupby(["alpha", "lr"])["val/acc"].mean().tolist()
    got = points[(points["panel"] == "MNIST, width = 3") & (points["optimizer"] == "rmsprop")]
    assert got.sort_values(["alpha", "lr"])["val/acc"].tolist() == pytest.approx(wanted, rel=1e-15)


def test_a_point_has_diverged_where_half_of_its_seeds_have() -> None:
    # Four seeds at one point; the mean is over those that have not diverged.
    axes = {"optimizer": "sgd", "alpha": [1.0], "lr": [0.1, 1.0], "seed": [0, 1, 2, 3]}
    diagram = diagram_of(axes)
    # Cells in their order: seeds 0 to 3, in each of them η = 0.1 and 1.
    diagram.cells["val/acc"] = [0.0, 0.0, 0.2, 0.2, 0.4, 0.4, 0.4, 0.4]
    diagram.cells["diverged"] = [True, True, False, True, False, False, False, False]
    points = over_seeds(with_panels(diagram, "alpha", "lr"), "alpha", "lr").set_index("lr")
    assert points["diverged"].to_dict() == {0.1: False, 1.0: True}
    assert points.loc[0.1, "val/acc"] == pytest.approx(1 / 3)
    assert np.isnan(points.loc[1.0, "score"])


@pytest.mark.parametrize(
    ("x", "y", "axes", "message"),
    [
        ("wdith", "lr", SMALL, r"x must be an axis of the grid \(.*lr.*\), got 'wdith'"),
        ("lr", "optimizer", SMALL, "y must be an axis of the grid .*, got 'optimizer'"),
        ("lr", "lr", SMALL, "x and y must be two axes of the grid, got 'lr' for both"),
        (
            "width", "alpha", SMALL | {"width": [1, 2], "lr": "1e-4:1e4:9"},
            "must have at most 8 panels, got 9, one for each grid, lr: give the others one value",
        ),
    ],
)  # fmt: skip
def test_a_mistake_gets_one_line(x: str, y: str, axes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        with_panels(diagram_of(axes), x, y)


# --- pixels ---------------------------------------------------------------------------------------


def test_diverged_cells_are_white_missing_ones_grey_and_untrusted_ones_hatched() -> None:
    axes = {"optimizer": "sgd", "alpha": [1.0, 10.0, 100.0], "lr": [1.0, 10.0, 100.0]}
    points = points_of(axes).drop(index=0)  # α = 1, η = 1
    points.loc[points["alpha"] == 100.0, "untrusted"] = True
    figure, axs = new_figure(1)
    plane = Plane(lattice(points, "alpha"), lattice(points, "lr"))
    marks = draw_cells(axs[0][0], points, plane, "val/acc", Normalize(0, 1))
    assert marks == {"diverged", "untrusted", "missing"}
    colors = axs[0][0].images[0].get_array()
    white = (colors[..., :3] == 1).all(-1)
    # η > 3α: rows are η = 1, 10, 100, columns α = 1, 10, 100.
    assert white.tolist() == [[False] * 3, [True, False, False], [True, True, False]]
    assert MISSING == "#cfcfcf"
    assert colors[0, 0, 0] == pytest.approx(0xCF / 0xFF)
    acc = points.set_index(["alpha", "lr"])["val/acc"][10.0, 1.0]
    assert np.array(colors[0, 1]) == pytest.approx(np.array(colormaps["viridis"](acc)))
    hatched = [c for c in axs[0][0].collections if c.get_hatch()]
    assert sum(len(c.get_paths()) for c in hatched) == 3
    assert axs[0][0].get_xlim() == (-0.5, 2.5)


@pytest.mark.parametrize(("acc", "ink", "end"), [(0.05, "white", 0.0), (0.95, "black", 1.0)])
def test_the_legend_is_hatched_as_the_cells_are(acc: float, ink: str, end: float) -> None:
    points = points_of(SMALL)
    points[["untrusted", "diverged", "val/acc"]] = True, False, acc
    (legend,) = map_figure(points, "alpha", "lr", "val/acc").legends
    names = [text.get_text() for text in legend.get_texts()]
    patch = legend.get_patches()[names.index("updates lost to rounding")]
    assert to_hex(patch.get_edgecolor()) == to_hex(ink)
    assert to_hex(patch.get_facecolor()) == to_hex(colormaps["viridis"](end))


def test_lines_are_placed_by_their_logarithm_on_any_lattice() -> None:
    even = Lattice("lr", (0.1, 1.0, 10.0))
    # The outer cells end half a decade out.
    wanted = [0.5, 2.0, 2.4, np.nan, np.nan, -0.4]
    placed = even.place([10**-0.5, 10.0, 10**1.4, 10**1.6, np.nan, 10**-1.4])
    assert placed == pytest.approx(wanted, nan_ok=True)
    with_zero = Lattice("l2", (0.0, 0.01, 0.1, 1.0))
    assert with_zero.place([0.1, 10**-1.5, 0.0]) == pytest.approx([2, 1.5, np.nan], nan_ok=True)
    words = Lattice("activation", ("relu", "linear"))
    assert np.isnan(words.place([1.0])).all()
    assert words.ticks() == ([0, 1], ["relu", "linear"])


def test_ticks_are_powers_of_ten_where_there_are_enough() -> None:
    halves = Lattice("lr", tuple(10 ** (k / 2) for k in range(-16, 13)))
    places, names = halves.ticks()
    assert len(places) <= 7
    assert [f"$10^{{{k}}}$" for k in (-6, -3, 0, 3, 6)] == names
    assert [halves.values[place] for place in places] == pytest.approx([1e-6, 1e-3, 1, 1e3, 1e6])
    assert Lattice("width", (10, 20, 50)).ticks() == ([0, 1, 2], ["10", "20", "50"])


def test_a_matrix_has_a_hole_where_a_cell_is_missing() -> None:
    points = points_of(SMALL)
    own = points[points["optimizer"] == "rmsprop"].iloc[1:]
    plane = Plane(lattice(points, "alpha"), lattice(points, "lr"))
    values = matrix(own, "lr", plane)
    assert values == pytest.approx(np.array([[np.nan, 0.1], [1.0, 1.0]]), nan_ok=True)


# --- what is extracted ----------------------------------------------------------------------------


def test_edges_best_points_and_bands_of_a_made_up_diagram() -> None:
    # Gradient descent diverges for η > 3α, so between α and 10 α on whole decades; its accuracy is
    # highest at η = α, where α ≤ 1 by 0.1 higher.
    points = points_of(AXES)
    regions = find_regions(points[points["optimizer"] == "sgd"], "alpha", "lr")
    assert (regions.along, regions.against) == ("lr", "alpha")
    inside = regions.lines[regions.lines["alpha"] < 1e6]
    assert inside["low"].to_numpy() == pytest.approx(inside["alpha"].to_numpy())
    assert inside["critical"].to_numpy() == pytest.approx(10**0.5 * inside["alpha"].to_numpy())
    assert np.isnan(regions.lines["critical"].iloc[-1]), "the grid ends below the edge"
    assert regions.lines["best"].tolist() == pytest.approx(regions.lines["alpha"].tolist())
    assert regions.law is not None
    assert regions.law.points == 12
    assert abs(regions.law.exponent - 1) < regions.law.error < 0.1
    assert CRITICAL / 2 < regions.law.factor < CRITICAL * 2
    assert regions.best is not None
    assert regions.best["best"] == regions.best["alpha"] == 1e-6
    # train/acc = 0.05 + val/acc ≥ 0.95 only at the best η: one decade, up to α = 1.
    assert regions.lines["decades"].tolist() == pytest.approx([1.0] * 7 + [0.0] * 6)


@pytest.mark.parametrize(("first", "found"), [(0.2, False), (0.01, True)])
def test_a_law_needs_three_different_edges(first: float, found: bool) -> None:
    # By hand: edges at 3α = 0.6, 0.3, 0.9 lie between η = 0.1 and 1, those at 3 and 6 between 1
    # and 10; the one at 0.03 between 0.01 and 0.1.
    axes = {"optimizer": "sgd", "alpha": [first, 0.1, 0.3, 1.0, 2.0], "lr": "1e-2:1e1:4"}
    regions = find_regions(points_of(axes), "alpha", "lr")
    assert regions.lines["critical"].nunique() == 2 + found
    assert (regions.law is not None) == found


def test_the_critical_value_of_another_knob_may_lie_above_or_below() -> None:
    axes = {"optimizer": "sgd", "alpha": "1e-3:1e3:7", "l2": [0.0, 0.1, 1.0], "lr": [1.0]}
    diagram = diagram_of(axes)
    points = over_seeds(with_panels(diagram, "alpha", "l2"), "alpha", "l2")
    regions = find_regions(points, "alpha", "l2")
    # Diverged where α < η/3: the edge lies between 0.1 and 1, for each l2.
    assert regions.lines[["low", "high"]].to_numpy().tolist() == [[0.1, 1.0]] * 3
    assert regions.law is None, "l2 = 0 has no logarithm, and two points no error"


def test_the_best_rate_is_the_slowest_of_equals_that_can_be_trusted() -> None:
    points = points_of({"optimizer": "rmsprop", "alpha": [1.0], "lr": "1e-2:1e2:5"})
    points["score"] = [np.nan, 0.5, 0.9, 0.9, 0.7]
    assert best_rates(points)["lr"].tolist() == [1.0]


def test_the_formula_of_the_effective_rate_meets_what_was_measured() -> None:
    # Oracle: the made-up table, η/(√v/α + ε) and η/(√v + ε).
    points = points_of(AXES)
    original, folded = (points[points["optimizer"] == n] for n in ("rmsprop", "scaled_rmsprop"))
    assert second_moment_root(folded, True) == pytest.approx(ROOT, rel=1e-6)
    assert second_moment_root(original, False) == pytest.approx(ROOT, rel=1e-6)
    for own, is_folded in ((original, False), (folded, True)):
        factor = effective_factor(own["alpha"], ROOT, EPS, is_folded)
        assert factor * own["lr"].to_numpy() == pytest.approx(
            own["effective_lr"].to_numpy(), rel=1e-12
        )
    # At α* = √v/ε half of the largest rate is left.
    assert effective_factor(ROOT / EPS, ROOT, EPS, False) == pytest.approx(0.5 / EPS)


def test_rates_of_slices_are_powers_of_ten_if_there_are_enough() -> None:
    points = pd.DataFrame({"lr": [10 ** (k / 2) for k in range(-4, 5)]})
    assert some_rates(points, 8) == pytest.approx([0.01, 0.1, 1, 10, 100])
    assert some_rates(points, 3) == pytest.approx([0.01, 1, 100])
    assert some_rates(pd.DataFrame({"lr": [3.0, 0.3]}), 8) == [0.3, 3.0]


# --- whole figures --------------------------------------------------------------------------------


def test_all_figures_of_the_paper_are_drawn_from_two_data_sets(tmp_path: Path) -> None:
    axes = AXES | {"alpha": "1e-6:1e6:5", "lr": "1e-8:1e6:8"}
    write_grid(tmp_path / "0", axes, shard="2/2")
    write_grid(tmp_path / "1", axes, dataset="cifar10")
    paths = paper_figures(tmp_path)
    assert all(imread(path).std() > 0.01 for path in paths)
    wanted = {*PAPER, "fig3", "fig10", "fig5", "fig12"}
    assert {path.stem for path in paths} == wanted
    assert len(pd.read_csv(tmp_path / "diagram.csv")) == 60 + 120
    laws = pd.read_csv(tmp_path / "laws.csv").set_index(["panel", "optimizer"])
    assert set(laws.index) == {("MNIST", "sgd"), ("CIFAR-10", "sgd")}
    assert (abs(laws["exponent"] - 1) < 2 * laws["error"]).all()


def test_a_grid_of_a_single_run_keeps_its_own_table(tmp_path: Path) -> None:
    write_grid(tmp_path, SMALL, dataset="digits")
    (tmp_path / "cells.csv").write_text("the grid's own")
    stems = {path.stem for path in paper_figures(tmp_path)}
    assert {"accuracy_digits", "train_accuracy_digits"} <= stems
    assert (tmp_path / "cells.csv").read_text() == "the grid's own"


def test_folded_adam_stands_beside_rmsprop(tmp_path: Path) -> None:
    names = ["rmsprop", "scaled_rmsprop", "adam", "scaled_adam"]
    write_grid(tmp_path, SMALL | {"optimizer": names})
    paths = paper_figures(tmp_path)
    height, width = imread(next(p for p in paths if p.stem == "fig3")).shape[:2]
    assert width > 3 * height, "four maps side by side"
    assert pd.read_csv(tmp_path / "lines.csv")["optimizer"].unique().tolist() == names


@pytest.mark.parametrize(("x", "y"), [("lr", "alpha"), ("lr", "l2"), ("width", "alpha")])
def test_any_pair_of_knobs_can_be_drawn(tmp_path: Path, x: str, y: str) -> None:
    extra = {"l2": [0.0, 0.01, 0.1]} if y == "l2" else {"width": [4, 8]} if x == "width" else {}
    axes = SMALL | extra | ({"lr": [1.0]} if x == "width" else {})
    if y == "l2":
        axes["alpha"] = [1.0]
    write_grid(tmp_path, axes)
    for metric in ("val/acc", "lazy/param_distance"):
        paths = phase_diagram(tmp_path, x=x, y=y, metric=metric)
        stem = metric.replace("/", "_")
        assert [p.stem for p in paths] == [f"{stem}_{x}_{y}", f"boundary_{x}_{y}"]
        assert all(imread(path).std() > 0.01 for path in paths)


def test_a_knob_without_numbers_has_a_map_and_no_curves(tmp_path: Path) -> None:
    axes = SMALL | {"alpha": [1.0], "activation": ["relu", "linear", "softplus"]}
    write_grid(tmp_path, axes)
    (path,) = phase_diagram(tmp_path, x="activation", y="lr")
    assert path.name == "val_acc_activation_lr.png"
    assert imread(path).std() > 0.01


@pytest.mark.parametrize("shard", ["1/3", "2/3", "3/3", "6/12"])
def test_a_small_share_of_a_small_grid_is_drawn(tmp_path: Path, shard: str) -> None:
    # Panels without a cell, optimizers without an α, single cells.
    axes = {"optimizer": ["sgd", "adam"], "alpha": [0.1, 10], "lr": "1e-3:1e-1:3"}
    write_grid(tmp_path, axes, shard=shard)
    assert all(imread(path).std() > 0.01 for path in paper_figures(tmp_path))


def test_grids_without_accuracies_or_signs_are_drawn_by_their_losses(tmp_path: Path) -> None:
    # As those of regression with a linear net are; l2 = 0 is the only value of its axis.
    write_grid(tmp_path, SMALL | {"l2": [0.0]})
    table = pd.read_parquet(tmp_path / "cells.parquet")
    empty = ["val/acc", "train/acc", "lazy/sign_consistency"]
    table[empty] = np.nan
    table.to_parquet(tmp_path / "cells.parquet")
    stems = {path.stem for path in paper_figures(tmp_path)}
    assert stems == {"fig1_2", "fig6", "fig9", "slices", "boundary"}
    lines = pd.read_csv(tmp_path / "lines.csv").set_index(["optimizer", "alpha"])
    best = table.loc[table[table["optimizer"] == "sgd"].groupby("alpha")["val/loss"].idxmin()]
    assert lines.loc["sgd", "score"].tolist() == pytest.approx((-best["val/loss"]).tolist())
    assert phase_diagram(tmp_path, x="lr", y="l2", metric="val/loss")
    assert scored_by(pd.read_csv(tmp_path / "diagram.csv")) == "val/loss"
    assert scored_by(points_of(SMALL)) == "val/acc"


def test_a_metric_that_is_none_gets_one_line(tmp_path: Path) -> None:
    write_grid(tmp_path, SMALL)
    with pytest.raises(InputError, match=r"metric must be a column .*val/acc.*got 'val/accuracy'"):
        phase_diagram(tmp_path, metric="val/accuracy")


def test_a_sweep_whose_first_cell_failed_has_no_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert paper_figures(tmp_path) == phase_diagram(tmp_path) == []
    assert capsys.readouterr().out == f"missing: no cell of {tmp_path} has ended\n" * 2


@pytest.mark.slow
def test_a_real_grid_is_drawn_and_its_rates_meet_the_formula(tmp_path: Path) -> None:
    # Spec: αG does not depend on α in lazy training, so that one √v, from the folded optimizer,
    # gives the effective rate of the original one at every α. At η = 1e-9 the gradients change by
    # about that; the median of an even number of parameters is one of the two in the middle.
    axes = {
        "optimizer": ["sgd", "rmsprop", "scaled_rmsprop"],
        "alpha": [1.0, 1e2, 1e4, 1e6], "lr": [1e-9, 1e-2, 1.0, 1e2, 1e4],
    }  # fmt: skip
    fit(make_grid(tmp_path, axes=axes, steps=20, hessian="start", memory_budget=None))
    stems = {path.stem for path in paper_figures(tmp_path)}
    assert {*PAPER, "accuracy_data"} <= stems
    points = over_seeds(with_panels(read_diagram(tmp_path), "alpha", "lr"), "alpha", "lr")
    slow = points[points["lr"] == 1e-9]
    original, folded = (slow[slow["optimizer"] == n] for n in ("rmsprop", "scaled_rmsprop"))
    root = second_moment_root(folded, True)
    factor = effective_factor(original["alpha"], root, EPS, False)
    assert original["effective_lr"].to_numpy() == pytest.approx(1e-9 * factor, rel=1e-3)
    assert points["sharpness"].notna().all()
