"""Arguments of data sets, and data sets that are not there."""

from collections.abc import Callable

import pytest

CASES = [
    (
        "data.n_train=0",
        "expected n_train to be a whole number of at least 1 or null, got 0",
    ),
    (
        "data.n_train=many",
        "expected n_train to be a whole number of at least 1 or null, got 'many'",
    ),
    (
        "data.n_val=1.5",
        "expected n_val to be a whole number of at least 1 or null, got 1.5",
    ),
    (
        "data.subset_seed=abc",
        "subset_seed must be a whole number, got 'abc'; change subset_seed",
    ),
    (
        "data.balanced=maybe",
        "balanced must be true or false, got 'maybe'; change balanced",
    ),
    (
        "data.balanced=true data.n_train=7",
        "expected a number of balanced training images that 10 classes divide, got 7: change it "
        "or use balanced=false",
    ),
    (
        "data.balanced=true data.n_train=1500",
        "expected 150 training images of each class, class '7' has 134",
    ),
    (
        "'data.classes=[0]'",
        "expected at least two classes, got 1",
    ),
    (
        "'data.classes=[0,0]'",
        "expected each class once, got '0' twice",
    ),
    (
        "data.classes=zero",
        "classes must be a list or null, got 'zero'; change classes",
    ),
    (
        "'data.classes=[cat,dog]'",
        "expected classes among 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 (or their numbers from 0), got 'cat'",
    ),
    (
        "data.binary=true",
        "expected two classes for binary=true, got 10: choose them by classes, or give binary two"
        " lists of classes",
    ),
    (
        "data.binary=maybe",
        "binary must be true or false or a list, got 'maybe'; change binary",
    ),
    (
        "data.eval_batch_size=0",
        "expected eval_batch_size to be a whole number of at least 1, got 0",
    ),
    (
        "data.resolution=0",
        "expected resolution to be a whole number of at least 1 or null, got 0",
    ),
    (
        "data.normalize=whiten",
        "normalize must be one of standardize, sphere, unit, got 'whiten'; pick one",
    ),
    (
        "+data.mean=0.5 +data.std=0",
        "expected std above 0, got 0",
    ),
    (
        "+data.mean=a +data.std=b",
        "expected mean to be one number or more, one a channel, got 'a'",
    ),
    (
        "+data.mean=0.5 +data.std=nan",
        "expected std to be one number or more, one a channel, got nan",
    ),
    (
        "data.augment=maybe",
        "augment must be true or false, got 'maybe'; change augment",
    ),
    (
        "data.padding=-1",
        "expected padding to be a whole number of at least 0, got -1",
    ),
    (
        "data.padding_mode=wrap",
        "padding_mode must be one of zeros, reflect, got 'wrap'; pick one",
    ),
    (
        "data.mixup=0",
        "mixup must be finite and above 0, got 0; change mixup",
    ),
    (
        "data.patches=abc",
        "patches must be lightning_lazy.data.Patches or None, got 'abc'; see …",
    ),
    (
        "'data.patches={}'",
        "patches must be lightning_lazy.data.Patches or None, got {}; see …",
    ),
    (
        "data.drop_last=true data.n_train=10",
        "expected at least 64 training images for one batch on each device, got 10: lower "
        "batch_size or use drop_last=false",
    ),
    (
        "data.num_workers=-1",
        "expected num_workers to be a whole number of at least 0, got -1",
    ),
    (
        "data.random_pixels=5",
        "random_pixels must be true or false, got 5; change random_pixels",
    ),
    (
        "data=folder",
        "data.path: Missing mandatory value: path (see: python train.py --help)",
    ),
    (
        "data=folder data.path=null",
        "expected path with dataset=folder, got none: name the folder that holds train/ and test/"
        " (or val/)",
    ),
    (
        "data=folder data.path=5",
        "path must be a text or null, got 5; change path",
    ),
    (
        "+data.path=/tmp",
        "expected no path with dataset=digits: use root, or dataset=folder",
    ),
    (
        "data=mnist data.root=nowhere data.download=false",
        "expected mnist under 'nowhere', got none (Dataset not found. You can use download=True "
        "to download it): put MNIST/raw/*-ubyte there, set LIGHTNING_LAZY_DATA to a folder that "
        "has it, or go online with download=true",
    ),
    (
        "data=imagenet data.path=nowhere",
        "expected a folder with train/ and test/ (or val/) in it, got 'nowhere': set path to one "
        "that holds <split>/<class>/<image>",
    ),
    (
        "data=points data.points=circles",
        "points must be one of degenerate, non_separable, blobs, flipped_blobs, got 'circles'; "
        "pick one",
    ),
    (
        "data=points data.n_train=0",
        "expected n_train to be a whole number of at least 1, got 0",
    ),
    (
        "data=points data.points=blobs data.radius=-1",
        "radius must be finite and above 0, got -1; change radius",
    ),
    (
        "data=patterns data.kappa=3",
        "kappa must be below 1, got 3; N = d/kappa² must exceed d",
    ),
    (
        "data=patterns data.dimension=0",
        "expected dimension to be a whole number of at least 2, got 0",
    ),
    (
        "data=patterns data.p0=2",
        "p0 + q0 must be at most 1, the share of all examples, got 2 + 0.2: lower one of them",
    ),
    (
        "data=teacher_student data.in_features=0",
        "expected in_features to be a whole number of at least 1, got 0",
    ),
    (
        "data=teacher_student data.scale=nan",
        "scale must be finite and above 0, got nan; change scale",
    ),
    (
        "data=teacher_student data.population=maybe",
        "population must be true or false, got 'maybe'; change population",
    ),
]


@pytest.mark.parametrize(("overrides", "line"), CASES, ids=[case[0] for case in CASES])
def test_data_is_refused(refused: Callable[[str, str], None], overrides: str, line: str) -> None:
    refused(overrides, line)
