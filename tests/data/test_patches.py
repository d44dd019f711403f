"""Patches: their shares, their shape, and that they come again."""

import math
from functools import partial
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from trainers import QUIET

from lightning_lazy import InputError, ScaledLightningModule
from lightning_lazy.data import ImageDataModule, Patches
from lightning_lazy.data.counter import make_keys
from lightning_lazy.data.dataset import ImageSet, RawBatch
from lightning_lazy.losses import CrossEntropyLoss


def digits(**arguments: Any) -> ImageDataModule:
    data = ImageDataModule(
        patches=Patches(3, seed=4, n_patch_only=200), flatten=False, batch_size=64, **arguments
    )
    data.setup()
    return data


def by_hand(x: Tensor, label: int, kind: int, strength: float, patches: Patches) -> Tensor:
    """Patch one standardised image of one channel and 8×8 pixels as the paper says it."""
    shared, by_class = patches.patterns(1, 10)
    x = x.clone()
    if kind == 2:
        x[:] = 0
    if kind > 0:
        x[:, 2:5, 2:5] = shared + strength * by_class[label]
    return x


@pytest.mark.parametrize(
    "pixels", [{"mean": 0.3, "std": 0.4}, {"normalize": "unit"}, {"normalize": "sphere"}]
)
def test_images_equal_those_patched_one_by_one(pixels: dict[str, Any]) -> None:
    # Oracle: assignment to slices of single images, in double precision.
    data = digits(**pixels)
    patches = data.patches
    keys = make_keys(torch.arange(300), epoch=2)
    x, y = data.transform(data.train_set.__getitems__(keys), torch.float64)
    clean, _ = data.transform(data.train_set.__getitems__(torch.arange(300)), torch.float64)
    kinds, strengths = patches.draw(keys)
    for i in range(300):
        expected = by_hand(clean[i], int(y[i]), int(kinds[i]), float(strengths[i]), patches)
        assert torch.allclose(x[i], expected, rtol=0, atol=1e-15)
    assert sorted(kinds.unique().tolist()) == [0, 1, 2]


def test_shares_of_the_kinds_hold_over_a_whole_set() -> None:
    # Oracle: 20, 64 and 16 % of 50,000 images within four standard deviations of a binomial draw.
    keys = make_keys(torch.arange(50_000), epoch=0)
    kinds, strengths = Patches().draw(keys)
    for kind, share in enumerate((0.2, 0.64, 0.16)):
        margin = 4 * math.sqrt(share * (1 - share) / 50_000)
        assert (kinds == kind).double().mean().item() == pytest.approx(share, abs=margin)
    both, alone = strengths[kinds == 1], strengths[kinds == 2]
    assert set(both.tolist()) == {1.0, -1.0}
    assert (both > 0).double().mean().item() == pytest.approx(0.5, abs=4 * 0.5 / 32_000**0.5)
    # Oracle: |s| of patches alone is uniform on (0, 1.75): mean 0.875, variance 1.75²/12.
    sizes = alone.abs().double()
    assert sizes.mean().item() == pytest.approx(0.875, abs=4 * 1.75 / math.sqrt(12 * len(sizes)))
    assert sizes.var().item() == pytest.approx(1.75**2 / 12, rel=0.05)
    assert sizes.max() <= 1.75


def test_an_augmented_image_stays_augmented_and_changes_its_kind_unless_fixed() -> None:
    index = torch.arange(5000)
    epochs = [Patches().draw(make_keys(index, epoch)) for epoch in range(2)]
    first, second = (draws.kinds for draws in epochs)
    assert torch.equal(first == 0, second == 0)
    # Oracle: two independent draws of 0.8 differ with probability 2·0.8·0.2.
    changed = (first != second)[first > 0].double().mean().item()
    assert changed == pytest.approx(0.32, abs=0.03)
    fixed = [Patches(fixed_kinds=True).draw(make_keys(index, epoch)) for epoch in range(2)]
    assert torch.equal(fixed[0].kinds, fixed[1].kinds)
    assert not torch.equal(fixed[0].strengths, fixed[1].strengths)


def test_patterns_are_drawn_once_a_seed_from_their_laws() -> None:
    shared, by_class = Patches(50).patterns(3, 10)
    # Oracle: variances of N(0, 1.25²) and U(−0.1, 0.1), four standard errors of 7,500 and 75,000.
    assert shared.var().item() == pytest.approx(1.25**2, rel=4 * math.sqrt(2 / 7500))
    assert by_class.var().item() == pytest.approx(0.2**2 / 12, rel=0.02)
    assert by_class.abs().max() <= 0.1
    assert torch.equal(shared, Patches(50).patterns(3, 10)[0])
    assert not torch.equal(shared, Patches(50, seed=1).patterns(3, 10)[0])


def epochs_of(data: ImageDataModule, epochs: int = 1) -> dict[int, Tensor]:
    loader = data.train_dataloader()
    seen: dict[int, Tensor] = {}
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        for raw in loader:
            x, _ = data.transform(raw)
            seen |= dict(zip(raw.keys.tolist(), x, strict=True))
    return seen


def test_workers_and_batches_do_not_change_an_image() -> None:
    plain = epochs_of(digits(n_train=100), 2)
    with_workers = epochs_of(digits(n_train=100, num_workers=2), 2)
    data = digits(n_train=100)
    assert plain.keys() == with_workers.keys()
    assert len(plain) == 200
    for key, x in plain.items():
        assert torch.equal(x, with_workers[key])
        alone, _ = data.transform(data.train_set.__getitems__([key]))
        assert torch.equal(x, alone[0])


def test_validation_sets_are_drawn_once() -> None:
    data = digits()
    clean, mixed, patch_only = data.val_dataloader()
    assert data.val_names == ("clean", "mixed", "patch_only")

    def images(loader: Any) -> tuple[Tensor, Tensor]:
        pairs = [data.on_after_batch_transfer(raw, 0) for raw in loader]
        return torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])

    x, y = images(mixed)
    assert torch.equal(x, images(mixed)[0])
    kinds, strengths = data.patches.draw(make_keys(torch.arange(len(x)), 0), 1)
    assert (kinds == 2).any()
    own = images(clean)[0]
    for i in range(len(x)):
        expected = by_hand(own[i], int(y[i]), int(kinds[i]), float(strengths[i]), data.patches)
        assert torch.allclose(x[i], expected.float(), atol=1e-6)
    x, y = images(patch_only)
    assert x.shape[0] == 200
    outside = x.clone()
    outside[:, :, 2:5, 2:5] = 0
    assert not outside.any()
    assert x.flatten(1).any(1).all()
    assert len(y.unique()) == 10


def test_flat_images_pooling_and_full_batches_take_patches_as_well() -> None:
    arguments: dict[str, Any] = {"n_train": 50, "mean": 0.3, "std": 0.4}
    square = epochs_of(digits(**arguments))
    data = ImageDataModule(patches=Patches(3, seed=4), flatten=True, batch_size="full", **arguments)
    data.setup()
    first, second = data.train_dataloader()._batch(), data.train_dataloader()
    assert torch.equal(
        data.transform(first)[0].view(50, 1, 8, 8), torch.stack([square[k] for k in sorted(square)])
    )
    second.position = 1
    assert not torch.equal(data.transform(first)[0], data.transform(second._batch())[0])


def test_images_are_mixed_with_patched_images() -> None:
    # Oracle: where every image has the patch z, any mixture of two has it, too.
    patches = Patches(3, fractions=[0, 1, 0], class_width=0)
    data = ImageDataModule(patches=patches, mixup=1.0, flatten=False, n_train=50)
    data.setup()
    x, _ = data.transform(data.train_set.__getitems__(make_keys(torch.arange(50), 0)))
    z = patches.patterns(1, 10)[0].float()
    torch.testing.assert_close(x[:, :, 2:5, 2:5], z.expand(50, 1, 3, 3))


def test_each_validation_set_has_an_accuracy_of_its_own() -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    module = ScaledLightningModule(
        net, CrossEntropyLoss(), partial(torch.optim.SGD, lr=0.1), centering="none"
    )
    data = ImageDataModule(patches=Patches(3, class_width=2.0), flatten=False, batch_size=64)
    trainer = pl.Trainer(**QUIET, max_epochs=3)
    trainer.fit(module, data)
    names = ("clean", "mixed", "patch_only")
    found = {name: float(trainer.callback_metrics[f"val/{name}/acc"]) for name in names}
    module.eval()
    for name, loader in zip(names, data.val_dataloader(), strict=True):
        # Oracle: outputs of all images of the set at once.
        pairs = [data.transform(raw) for raw in loader]
        x, y = (torch.cat(part) for part in zip(*pairs, strict=True))
        right = (module(x).argmax(1) == y).double().mean().item()
        assert found[name] == pytest.approx(right, abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size must be an integer of at least 1"),
        ({"fractions": [0.2, 0.6, 0.1]}, "add up to 1, got"),
        ({"fractions": [0.5, 0.5]}, "shares of none, both and patch_only"),
        ({"fractions": [-0.2, 1.0, 0.2]}, "fractions must be finite and at least 0"),
        ({"position": [1]}, "position must be a row and a column"),
        ({"position": [1.5, 2]}, "position must be an integer of at least 0, got 1.5"),
        ({"position": [-1, 2]}, "position must be an integer of at least 0, got -1"),
        ({"class_width": -1.0}, "class_width must be finite"),
    ],
)
def test_wrong_arguments_are_said_when_it_is_built(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Patches(**arguments)


@pytest.mark.parametrize("patches", [Patches(9), Patches(7, position=[4, 0])])
def test_a_patch_larger_than_the_image_is_one_line(patches: Patches) -> None:
    data = ImageDataModule(patches=patches)
    with pytest.raises(InputError, match="must fit in images of 8×8") as caught:
        data.setup()
    assert "\n" not in str(caught.value)


def test_the_set_hands_out_what_is_drawn() -> None:
    images = ImageSet(torch.ones(20, 1, 8, 8, dtype=torch.uint8), torch.arange(20) % 10)
    batch: RawBatch = Patches(3).training_set(images).__getitems__(make_keys(torch.arange(20), 0))
    assert batch.patch is not None
    for own, drawn in zip(
        batch.patch, Patches(3).draw(make_keys(torch.arange(20), 0)), strict=True
    ):
        assert torch.equal(own, drawn)
