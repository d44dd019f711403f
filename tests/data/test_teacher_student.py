"""Oracles: the teacher's formula in plain torch, moments of the sphere, an uninterrupted run."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from lightning_lazy import InputError
from lightning_lazy.data import TeacherStudentDataModule
from lightning_lazy.data.teacher_student import on_sphere

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,
}


def ready(**arguments: Any) -> TeacherStudentDataModule:
    data = TeacherStudentDataModule(**({"in_features": 4, "n_train": 12, "n_val": 6} | arguments))
    data.setup()
    return data


def pairs(data: TeacherStudentDataModule, loader: Any) -> list[tuple[Tensor, Tensor]]:
    return [data.transform(batch, torch.float64) for batch in loader]


def test_targets_are_the_teachers_formula() -> None:
    data = ready(teacher_width=5, scale=2.5)
    x, y = data.train_set.images, data.train_set.labels
    b, a = data.teacher.directions, data.teacher.signs
    expected = [[2.5 * sum(float(a[j]) * max(float(b[j] @ p), 0.0) for j in range(5))] for p in x]
    # Double precision; the order of sums differs.
    torch.testing.assert_close(y, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-15)
    torch.testing.assert_close(b.norm(dim=1), torch.ones(5, dtype=torch.float64))
    assert set(a.tolist()) <= {-1.0, 1.0}
    assert (data.in_features, data.outputs) == (4, 1)


def test_both_signs_come_equally_often() -> None:
    signs = torch.cat([ready(seed=seed).teacher.signs for seed in range(400)])
    assert signs.mean().abs() < 5 / math.sqrt(len(signs))


def test_points_are_uniform_on_the_sphere() -> None:
    # Moments of the uniform distribution: mean 0, covariance I/d, E x⁴ = 3/(d (d+2)), each within
    # five standard errors, which are below 1/√n.
    size, d = 40_000, 3
    x = on_sphere(size, d, seed=1)
    torch.testing.assert_close(x.norm(dim=1), torch.ones(size, dtype=torch.float64))
    bound = 5 / math.sqrt(size)
    assert x.mean(0).abs().max() < bound
    assert (x.T @ x / size - torch.eye(d) / d).abs().max() < bound
    assert ((x**4).mean(0) - 3 / (d * (d + 2))).abs().max() < bound


def test_everything_depends_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    one = ready(seed=3)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    other, longer, different = ready(seed=3), ready(seed=3, n_train=20, n_val=9), ready(seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    for name in ("train_set", "val_set"):
        x = getattr(one, name).images
        assert torch.equal(x, getattr(other, name).images)
        assert not torch.equal(x, getattr(different, name).images)
    assert torch.equal(one.teacher.directions, longer.teacher.directions)
    assert not torch.equal(one.train_set.images[:6], one.val_set.images)


def test_mini_batches_cover_the_set_and_a_full_batch_is_one_object() -> None:
    data = ready(batch_size=5)
    x = torch.cat([x for x, _ in pairs(data, data.train_dataloader())])
    assert sorted(x.tolist()) == sorted(data.train_set.images.tolist())
    (full,) = ready().train_dataloader()
    assert full[0].dtype == torch.get_default_dtype()
    torch.testing.assert_close(full[0], data.train_set.images.to(full[0].dtype), rtol=0, atol=0)
    ((val_x, val_y),) = pairs(data, data.val_dataloader())
    assert torch.equal(val_x, data.val_set.images)
    assert val_y.shape == (6, 1)


def population(**arguments: Any) -> TeacherStudentDataModule:
    return ready(population=True, batch_size=3, **arguments)


def test_the_population_never_repeats_and_is_a_function_of_seed_and_step() -> None:
    data = population()
    loader = data.train_dataloader()
    assert len(loader) == 4  # n_train samples count as an epoch
    x = torch.cat([x for _ in range(3) for x, _ in pairs(data, loader)])
    assert len(set(map(tuple, x.tolist()))) == 36
    again = population(n_val=9)
    first = pairs(again, again.train_dataloader())
    assert torch.equal(torch.cat([x for x, _ in first]), x[:12])
    for x, y in first:
        torch.testing.assert_close(y, data.teacher(x), rtol=0, atol=0)
    other = population(seed=1)
    assert not torch.equal(pairs(other, other.train_dataloader())[0][0], first[0][0])


def test_two_ranks_take_shares_of_the_batch_that_one_would_take() -> None:
    ranks = []
    for rank in range(2):
        data = population()
        data.trainer = SimpleNamespace(global_rank=rank, world_size=2)  # type: ignore[assignment]
        ranks.append([batch.images for batch in data.train_dataloader()])
    one = ready(population=True, batch_size=6)
    whole = [batch.images for batch in one.train_dataloader()]
    assert len(whole) == len(ranks[0]) == 2
    for batch, *shares in zip(whole, *ranks, strict=True):
        assert torch.equal(batch, torch.cat(shares))


class Student(pl.LightningModule):
    """A linear net that keeps what it was fed."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(4, 1)
        self.seen: list[tuple[Tensor, Tensor]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.seen.append(batch)
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveAndStop(pl.Callback):
    """Saves after `at` steps, in the hook named, then stops the run."""

    def __init__(self, hook: str, at: int, path: Path) -> None:
        self.at, self.path = at, path
        setattr(self, hook, self.save)

    def save(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.global_step == self.at:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


@pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader`", "ignore:.*validation_step")
@pytest.mark.parametrize("precision", ["32-true", "64-true"])
@pytest.mark.parametrize(
    ("hook", "at"),
    # An epoch has four steps. Between two batches, where our checkpoints are taken, also where an
    # epoch ends; and after a step, where Lightning's are.
    [("on_train_batch_start", at) for at in (1, 4, 6, 8)] + [("on_train_batch_end", 6)],
)
def test_a_run_that_is_resumed_draws_what_it_would_have_drawn(
    tmp_path: Path, hook: str, at: int, precision: Any
) -> None:
    arguments = QUIET | {"max_steps": 11, "precision": precision}
    whole, first, second = Student(), Student(), Student()
    pl.Trainer(**arguments).fit(whole, datamodule=population())
    path = tmp_path / "stopped.ckpt"
    trainer = pl.Trainer(**arguments, callbacks=[SaveAndStop(hook, at, path)])
    with pytest.raises(SystemExit):
        trainer.fit(first, datamodule=population())
    trainer = pl.Trainer(**arguments)
    trainer.fit(second, datamodule=population(), ckpt_path=path, weights_only=True)
    seen = first.seen + second.seen
    assert (len(first.seen), len(seen), len(whole.seen)) == (at, 11, 11)
    for (x, y), (expected_x, expected_y) in zip(seen, whole.seen, strict=True):
        assert x.dtype == y.dtype == (torch.float64 if precision == "64-true" else torch.float32)
        assert torch.equal(x, expected_x)
        assert torch.equal(y, expected_y)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"in_features": 0}, "expected in_features to be a whole number of at least 1, got 0"),
        ({"teacher_width": 0}, "expected teacher_width to be a whole number"),
        ({"n_train": None}, "expected n_train to be a whole number"),
        ({"n_val": 0}, "expected n_val to be a whole number"),
        ({"batch_size": "all"}, "expected batch_size to be a whole number of at least 1 or full"),
        ({"scale": 0}, "scale must be finite and above 0, got 0"),
        ({"population": True}, "expected batch_size to be a number with population=true"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TeacherStudentDataModule(**arguments)
