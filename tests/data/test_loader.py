"""Oracle: the batches of an uninterrupted pass."""

from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, SequentialSampler

from lightning_lazy.data import (
    EpochSampler,
    FullBatchLoader,
    ImageSet,
    RawBatch,
    ReadyBatch,
    ResumableLoader,
    Transform,
)
from lightning_lazy.errors import InputError

SIZE, BATCH = 23, 4  # six batches, the last one short


@pytest.fixture(scope="module")
def images() -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (SIZE, 3, 6, 6), dtype=torch.uint8, generator=generator)
    return ImageSet(pixels, torch.arange(SIZE))


@pytest.fixture
def make(images: ImageSet) -> Callable[..., ResumableLoader]:
    def build(**kwargs: Any) -> ResumableLoader:
        sampler = EpochSampler(images, batch_size=BATCH, seed=1)
        return ResumableLoader(images, batch_size=BATCH, sampler=sampler, **kwargs)

    return build


def inputs(loader: ResumableLoader) -> list[torch.Tensor]:
    transform = Transform(augment=True, padding=2)
    return [transform(batch, torch.float64)[0] for batch in loader]


def labels(batches: Any) -> list[list[int]]:
    return [batch.labels.tolist() for batch in batches]


def test_getitem_and_getitems_agree(images: ImageSet) -> None:
    one = images[5]
    assert torch.equal(one.images, images.images[5])
    assert int(one.labels) == 5
    assert one.keys is None
    assert torch.equal(images[-1].images, images.images[-1])
    drawn = images[5 | 3 << 40]
    assert torch.equal(drawn.images, one.images)
    assert int(drawn.keys) == 5 | 3 << 40
    batch = images.__getitems__([5, 0])
    assert torch.equal(batch.images, images.images[[5, 0]])
    assert torch.equal(images.__getitems__(torch.tensor([5, 0])).images, batch.images)
    with pytest.raises(IndexError):
        images[SIZE]
    assert len(list(images)) == SIZE


def test_an_epoch_has_every_image_once(make: Callable[..., ResumableLoader]) -> None:
    loader = make()
    assert len(loader) == loader.batches_per_epoch == 6
    first = labels(loader)
    assert [len(batch) for batch in first] == [4] * 5 + [3]
    assert sorted(sum(first, [])) == list(range(SIZE))
    assert labels(loader) == first
    loader.set_epoch(1)
    assert labels(loader) != first


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("consumed", [0, 1, 5, 6])
def test_resuming_continues_with_the_batches_left(
    make: Callable[..., ResumableLoader], consumed: int, workers: int
) -> None:
    reference = make()
    reference.set_epoch(3)
    expected = inputs(reference)

    loader = make(num_workers=workers)
    loader.set_epoch(3)
    before = list(islice(loader, consumed))
    loader.batch_done()
    state = loader.state_dict()
    assert len(before) == consumed
    assert state == {"epoch": 3 if consumed else 0, "position": consumed}
    assert all(type(value) is int for value in state.values())

    resumed = make(num_workers=workers)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    iterator = iter(resumed)  # as in Lightning, made before the epoch is set
    resumed.set_epoch(3)
    assert len(resumed) == 6
    rest = [Transform(augment=True, padding=2)(batch, torch.float64)[0] for batch in iterator]
    assert len(rest) == 6 - consumed
    assert all(map(torch.equal, rest, expected[consumed:]))
    resumed.set_epoch(4)
    assert len(list(resumed)) == 6  # the next epoch is whole again


def test_the_batch_in_flight_is_served_again(make: Callable[..., ResumableLoader]) -> None:
    loader = make()
    iterator = iter(loader)
    for taken in range(1, 4):
        in_flight = next(iterator)
        assert loader.state_dict()["position"] == taken - 1
    resumed = make()
    resumed.load_state_dict(loader.state_dict())
    assert torch.equal(next(iter(resumed)).labels, in_flight.labels)
    loader.batch_done()
    loader.batch_done()
    assert loader.state_dict()["position"] == 3


def test_a_position_of_another_epoch_is_forgotten(make: Callable[..., ResumableLoader]) -> None:
    loader = make()
    loader.load_state_dict({"epoch": 2, "position": 5})
    loader.set_epoch(3)
    assert len(list(loader)) == 6
    assert loader.state_dict() == {"epoch": 3, "position": 6}


def test_a_position_behind_the_end_is_refused(make: Callable[..., ResumableLoader]) -> None:
    with pytest.raises(InputError, match="position of at most 6 batches, got 7: resume with"):
        make().load_state_dict({"epoch": 0, "position": 7})


def test_other_samplers_start_at_the_beginning(images: ImageSet) -> None:
    loader = ResumableLoader(images, batch_size=BATCH, sampler=SequentialSampler(images))
    assert sum(labels(loader), []) == list(range(SIZE))
    assert all(batch.keys is None for batch in loader)


def test_loading_leaves_the_global_random_state_alone(
    make: Callable[..., ResumableLoader],
) -> None:
    before = torch.get_rng_state()
    for workers in (0, 1):
        inputs(make(num_workers=workers))
    assert torch.equal(torch.get_rng_state(), before)


def test_measurements_read_the_set_in_order_and_unaugmented(
    make: Callable[..., ResumableLoader],
) -> None:
    loader = make()
    plain = DataLoader(loader.dataset, batch_size=10, shuffle=False, collate_fn=loader.collate_fn)
    batches = list(plain)
    assert all(type(batch) is RawBatch and batch.keys is None for batch in batches)
    assert sum(labels(batches), []) == list(range(SIZE))
    x, _ = Transform(augment=True)(batches[0], torch.float32)
    assert torch.equal(x, Transform()(batches[0], torch.float32)[0])


def full(images: ImageSet, **kwargs: Any) -> FullBatchLoader:
    return FullBatchLoader(images, lambda raw: Transform()(raw, torch.float64), **kwargs)


def test_full_batch_is_one_object(images: ImageSet) -> None:
    loader = full(images, steps=5)
    batches = list(loader)
    assert len(loader) == len(batches) == 5
    assert loader.batches_per_epoch == 1
    assert type(batches[0]) is ReadyBatch
    assert all(batch is batches[0] for batch in batches)
    x, y = batches[0]
    assert (x.shape, x.dtype) == ((SIZE, 108), torch.float64)
    assert y.tolist() == list(range(SIZE))
    assert loader.dataset is images
    assert loader.collate_fn(batches[0]) is batches[0]


def test_full_batch_resumes_also_when_the_run_got_longer(images: ImageSet) -> None:
    loader = full(images, steps=5)
    taken = list(islice(loader, 3))
    assert loader.state_dict()["position"] == 2  # the third is in flight
    loader.batch_done()
    assert len(taken) == loader.state_dict()["position"] == 3
    for steps, left in ((5, 2), (9, 6), (3, 3)):
        resumed = full(images, steps=steps)
        resumed.load_state_dict(loader.state_dict())
        assert len(list(resumed)) == left
        resumed.batch_done()
        assert resumed.state_dict()["position"] == 3 + left
        assert len(list(resumed)) == steps


def test_full_batch_of_one_step_counts_over_iterations(images: ImageSet) -> None:
    loader = full(images)
    for _ in range(4):
        assert len(list(loader)) == 1
    assert loader.state_dict()["position"] == 3
    loader.batch_done()
    assert loader.state_dict()["position"] == 4


def test_full_batch_draws_new_crops_every_step(images: ImageSet) -> None:
    loader = full(images, steps=3, augment=True)
    batches = list(loader)
    assert all(type(batch) is RawBatch for batch in batches)
    assert [int(batch.keys[0]) >> 40 for batch in batches] == [1, 2, 3]
    assert batches[1].keys is not None
    assert (batches[1].keys & (2**40 - 1)).tolist() == list(range(SIZE))
    resumed = full(images, steps=3, augment=True)
    resumed.load_state_dict({"epoch": 2, "position": 2})
    (last,) = list(resumed)
    assert torch.equal(last.keys, batches[2].keys)
    assert torch.equal(last.images, batches[2].images)


def test_full_batch_shards_are_neighbours(images: ImageSet) -> None:
    loader = full(images, share=range(12, SIZE), augment=True)
    (batch,) = list(loader)
    assert batch.labels.tolist() == list(range(12, SIZE))
    assert (batch.keys & (2**40 - 1)).tolist() == list(range(12, SIZE))
