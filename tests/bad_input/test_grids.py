"""Axes, shards and options of grids of cells trained at once."""

from collections.abc import Callable

import pytest

GRID = (
    "experiment=kanoh/phase_diagram_quick hydra.mode=RUN data=digits data.resolution=null "
    "data.n_val=60 data.n_train=40 model.width=8 max_steps=20 ++figures.paper=null"
)

CASES = [
    (
        "lr=0.05",
        "lr=0.05 has no effect on a grid, whose axes say it for each cell: use "
        "stacked.axes.lr=0.05",
    ),
    (
        "optimizer=adam",
        "optimizer=adam has no effect on a grid, whose axes say it for each cell: use "
        "stacked.axes.optimizer=adam",
    ),
    (
        "stacked.shard=0/2",
        "shard must be i/n with i from 1 to n, got '0/2'; the last one is 2/2",
    ),
    (
        "stacked.shard=3/2",
        "shard must be i/n with i from 1 to n, got '3/2'; the last one is 2/2",
    ),
    (
        "'stacked.shard=[1,2]'",
        "shard must be i/n such as 1/4, got [1, 2]; write it as shard=1/4",
    ),
    (
        "stacked.shard=100000/100000",
        "shard must hold a cell, got 100000/100000 of a grid of 585; make fewer shards",
    ),
    (
        "'stacked.axes.alpha=[0]'",
        "axes.alpha must be finite and above 0, got 0; change axes.alpha",
    ),
    (
        "'stacked.axes.alpha=[1,1]'",
        "axes.alpha has the value 1.0 twice; drop one",
    ),
    (
        "'stacked.axes.alpha=[1e200]'",
        "axes.alpha must be between 1e-150 and 1e150, got 1e+200; change it",
    ),
    (
        "'stacked.axes.alpha=[1e30]' trainer=default",
        "axes.alpha has 1e+30, which can't be squared in float32: choose values between 1e-18 and"
        " 1e18, or up to 1e±150 in double precision (trainer=float64)",
    ),
    (
        "stacked.axes.lr=1:2:1",
        "the count of axes.lr must be an integer of at least 2, got 1; pass a larger the count of"
        " axes.lr",
    ),
    (
        "stacked.axes.lr=-1:2:3",
        "axes.lr must be finite and above 0, got -1.0; change axes.lr",
    ),
    (
        "stacked.axes.lr=abc",
        "axes.lr must be a number above 0, got 'abc'; write it as axes.lr=0.1",
    ),
    (
        "'stacked.axes.seed=[-1]'",
        "axes.seed must be an integer of at least 0, got -1; pass a larger axes.seed",
    ),
    (
        "'+stacked.axes.depth=[3]'",
        "can't build lightning_lazy.models.TwoLayerNet: TwoLayerNet.__init__() got an unexpected "
        "keyword argument 'depth'",
    ),
    (
        "'+stacked.axes.width=[0]'",
        "width must be an integer of at least 1, got 0; pass a larger width",
    ),
    (
        "stacked=abc",
        "stacked must be settings with the _target_ that they build or null, got 'abc': see the "
        "examples in conf",
    ),
    (
        "stacked.memory_budget=10",
        "memory_budget must hold one cell of 42624 bytes, got 10; raise it, or take fewer "
        "training images or a smaller net",
    ),
    (
        "stacked.steps=0",
        "steps must be an integer of at least 1, got 0; pass a larger steps",
    ),
    (
        "'stacked.betas=[1]'",
        "betas must be two numbers, got [1]; pass (β₁, β₂)",
    ),
    (
        "stacked.betas=0.9",
        "betas must be two numbers, got 0.9; pass (β₁, β₂)",
    ),
    (
        "stacked.rho=1",
        "rho must be below 1, got 1; change rho",
    ),
    (
        "+stacked.nonsense=1",
        "can't build lightning_lazy.stacked.StackedGrid: StackedGrid.__init__() got an unexpected"
        " keyword argument 'nonsense'",
    ),
    (
        "batch_size=64",
        "a grid is trained on all images at once: use batch_size=full",
    ),
    (
        "schedule=step",
        "a grid has constant learning rates: use schedule=constant",
    ),
    (
        "data.mixup=1",
        "a grid sees the same images in every step: use data.mixup=null",
    ),
    (
        "callbacks=default",
        "DivergenceGuard judges the loss that training_step returns, StackedGrid optimises by "
        "itself: leave the callback out",
    ),
    (
        "trainer.precision=bf16-mixed",
        "a grid is computed in one precision, got precision=bf16-mixed: use 32-true or 64-true",
    ),
]


@pytest.mark.parametrize(("overrides", "line"), CASES, ids=[case[0] for case in CASES])
def test_a_grid_is_refused(refused: Callable[[str, str], None], overrides: str, line: str) -> None:
    refused(f"{GRID} {overrides}", line)
