"""Oracle: the sets of images that one process would take, sliced by hand."""

import pytest
import torch
from torch.utils.data import BatchSampler
from torch.utils.data.distributed import DistributedSampler

from lightning_lazy.data.sampling import (
    EpochSampler,
    ShardSampler,
    contiguous_share,
    epoch_order,
    even_batch_size,
    rank_share,
)

INDEX = 2**40 - 1


def test_order_is_a_permutation_of_seed_and_epoch() -> None:
    orders = [epoch_order(100, seed, epoch).tolist() for seed in range(4) for epoch in range(4)]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert len({tuple(order) for order in orders}) == 16
    assert epoch_order(100, 2, 3).tolist() == orders[11]


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("size", [24, 25, 29, 2])
def test_ranks_together_take_the_steps_of_one_process(size: int, world_size: int) -> None:
    order = torch.arange(size) + 100
    batch_size, step = 4, 4 * world_size
    shares = [
        rank_share(order, batch_size=batch_size, rank=rank, world_size=world_size, drop_last=False)
        for rank in range(world_size)
    ]
    assert len({len(share) for share in shares}) == 1
    for start in range(0, size, step):
        together = order[start : start + step].tolist()
        place = start // world_size
        taken = [i for share in shares for i in share[place : place + batch_size].tolist()]
        padding = taken[len(together) :]
        assert taken[: len(together)] == together
        assert len(padding) < world_size
        assert padding == [
            order[i % size] for i in range(start + len(together), start + len(taken))
        ]


def test_drop_last_leaves_the_incomplete_step_out() -> None:
    shares = [
        rank_share(torch.arange(19), batch_size=4, rank=rank, world_size=2, drop_last=True)
        for rank in range(2)
    ]
    assert [share.tolist() for share in shares] == [
        [0, 1, 2, 3, 8, 9, 10, 11],
        [4, 5, 6, 7, 12, 13, 14, 15],
    ]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize(("size", "world_size"), [(50, 1), (50, 3), (48, 3)])
def test_sampler_yields_as_many_keys_as_it_says(
    size: int, world_size: int, drop_last: bool
) -> None:
    for rank in range(world_size):
        sampler = EpochSampler(
            range(size), batch_size=8, rank=rank, world_size=world_size, drop_last=drop_last
        )
        assert len(list(sampler)) == len(sampler)
        batches = list(BatchSampler(sampler, 8, drop_last))
        assert len(batches) == len(BatchSampler(sampler, 8, drop_last))


def test_keys_carry_the_epoch() -> None:
    sampler = EpochSampler(range(10), batch_size=3, seed=5)
    sampler.set_epoch(4)
    keys = list(sampler)
    assert {key >> 40 for key in keys} == {5}
    assert [key & INDEX for key in keys] == epoch_order(10, 5, 4).tolist()


def test_skip_holds_for_one_iteration() -> None:
    sampler = EpochSampler(range(10), batch_size=3)
    everything = list(sampler)
    sampler.skip(6)
    assert list(sampler) == everything[6:]
    assert list(sampler) == everything


def test_lightning_recognises_both_samplers() -> None:
    assert isinstance(EpochSampler(range(4), batch_size=2), DistributedSampler)
    assert isinstance(ShardSampler(range(4)), DistributedSampler)


@pytest.mark.parametrize("size", [7, 8, 2001])
@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_shards_partition_the_set(size: int, world_size: int) -> None:
    shards = [
        list(ShardSampler(range(size), rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert [index for shard in shards for index in shard] == list(range(size))
    lengths = [len(shard) for shard in shards]
    assert max(lengths) - min(lengths) <= 1
    assert lengths == [len(contiguous_share(size, rank, world_size)) for rank in range(world_size)]
    # Batches much longer than their number: every rank runs equally many.
    even = even_batch_size(size, 100, world_size)
    assert even <= 100
    assert len({-(-length // even) for length in lengths}) == 1


def test_one_process_keeps_its_batch_size() -> None:
    assert even_batch_size(360, 100, 1) == 100
