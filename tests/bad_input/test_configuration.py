"""Groups, options and targets that are not there; configurations without their parts."""

from collections.abc import Callable

import pytest

CASES = [
    (
        "alhpa=1",
        "Could not override 'alhpa'. (see: python train.py --help)",
    ),
    (
        "nogroup=x",
        "Could not override 'nogroup'. (see: python train.py --help)",
    ),
    (
        "model=resnet_9000",
        "In 'config': Could not find 'model/resnet_9000': choose one of …",
    ),
    (
        "model=1",
        "can't start model=1: Config group override must be a string or a list. Got int (see: "
        "python train.py --help)",
    ),
    (
        "model=null",
        "can't start model=null: Config group override must be a string or a list. Got NoneType"
        " (see: python train.py --help)",
    ),
    (
        "loss=hinge",
        "In 'config': Could not find 'loss/hinge': choose one of …",
    ),
    (
        "schedule=cosine",
        "In 'config': Could not find 'schedule/cosine': choose one of …",
    ),
    (
        "experiment=kanoh",
        "In 'config': Could not find 'experiment/kanoh' (see: python train.py --help)",
    ),
    (
        "arm=x",
        "In 'config': Could not find 'arm/x' (see: python train.py --help)",
    ),
    (
        "model@data=two_layer",
        "Could not override 'model@data'. (see: python train.py --help)",
    ),
    (
        "+alpha=1",
        "Could not append to config. An item is already at 'alpha'. (see: python train.py --help)",
    ),
    (
        "alpha",
        "can't read the override 'alpha', put quotes around its value: Error parsing override "
        "'alpha' (see: python train.py --help)",
    ),
    (
        "=1",
        "can't start =1: Config group override must be a string or a list. Got int (see: python"
        " train.py --help)",
    ),
    (
        "'alpha=[1,2'",
        "can't read the override 'alpha=[1,2', put quotes around its value: no viable alternative"
        " at input '[1,2' (see: python train.py --help)",
    ),
    (
        "'alpha=${alhpa}'",
        "alpha: Interpolation key 'alhpa' not found (see: python train.py --help)",
    ),
    (
        "'alpha=${alpha}'",
        "alpha: Recursive interpolation detected (see: python train.py --help)",
    ),
    (
        "'alpha=${power:x,y}'",
        "alpha: ValueError raised while resolving interpolation: could not convert string to "
        "float: 'x' (see: python train.py --help)",
    ),
    (
        "~alpha",
        "the configuration must have alpha, got none: leave out ~alpha",
    ),
    (
        "~lr",
        "the configuration must have lr, got none: leave out ~lr",
    ),
    (
        "~seed",
        "the configuration must have seed, got none: leave out ~seed",
    ),
    (
        "~trainer",
        "the configuration must have trainer, got none: leave out ~trainer",
    ),
    (
        "~callbacks",
        "the configuration must have callbacks, got none: leave out ~callbacks",
    ),
    (
        "~figures",
        "the configuration must have figures, got none: leave out ~figures",
    ),
    (
        "~optimizer._target_",
        "optimizer must be settings with the _target_ that they build, got {…}: see the examples "
        "in conf",
    ),
    (
        "~optimizer._partial_",
        "can't build torch.optim.SGD: SGD.__init__() missing 1 required positional argument: "
        "'params'",
    ),
    (
        "~loss",
        "the configuration must have loss, got none: leave out ~loss",
    ),
    (
        "model._target_=lightning_lazy.models.NetOfTomorrow",
        "_target_ must name a class or function, got lightning_lazy.models.NetOfTomorrow, which "
        "is not there (No module named 'lightning_lazy.models.NetOfTomorrow'): check its spelling",
    ),
    (
        "+callbacks.x._target_=nopackage.Nothing",
        "_target_ must name a class or function, got nopackage.Nothing, which is not there (No "
        "module named 'nopackage'): check its spelling",
    ),
    (
        "+callbacks.health=1",
        "callbacks.health must be settings with the _target_ that they build or null, got 1: see "
        "the examples in conf",
    ),
    (
        "callbacks.activation_stability=abc",
        "callbacks.activation_stability must be settings with the _target_ that they build or "
        "null, got 'abc': see the examples in conf",
    ),
    (
        "logger.csv=abc",
        "logger.csv must be settings with the _target_ that they build or null, got 'abc': see "
        "the examples in conf",
    ),
    (
        "figures=abc",
        "figures must be a group of named parts, got 'abc': see the examples in conf",
    ),
    (
        "figures.learning_curve=abc",
        "figures.learning_curve must be settings with the _target_ that they build or null, got "
        "'abc': see the examples in conf",
    ),
    (
        "figures.learning_curve._target_=lightning_lazy.nonsense",
        "_target_ must name a class or function, got lightning_lazy.nonsense, which is not there "
        "(No module named 'lightning_lazy.nonsense'): check its spelling",
    ),
    (
        "sweep_figure=abc",
        "sweep_figure must be settings with the _target_ that they build or null, got 'abc': see "
        "the examples in conf",
    ),
    (
        "++sweep_figure._target_=nopackage.x",
        "_target_ must name a class or function, got nopackage.x, which is not there (No module "
        "named 'nopackage'): check its spelling",
    ),
    (
        "+data.nonsense=1",
        "can't build lightning_lazy.data.ImageDataModule: ImageDataModule.__init__() got an "
        "unexpected keyword argument 'nonsense'",
    ),
    (
        "+loss.x=1",
        "can't build lightning_lazy.losses.SoftHingeLoss: SoftHingeLoss.__init__() got an "
        "unexpected keyword argument 'x'",
    ),
    (
        "+optimizer.nonsense=1",
        "can't build the optimizer or its schedule: SGD.__init__() got an unexpected keyword "
        "argument 'nonsense'; change one of optimizer.lr=1.0, optimizer.momentum=0.0, "
        "optimizer.nonsense=1",
    ),
    (
        "+trainer.nonsense=1",
        "can't build pytorch_lightning.Trainer: Trainer.__init__() got an unexpected keyword "
        "argument 'nonsense'",
    ),
    (
        "+alhpa=1",
        "+alhpa=1 has no effect, since nothing reads alhpa: check its spelling (see: python "
        "train.py --help)",
    ),
    (
        "+trianer.devices=2",
        "+trianer.devices=2 has no effect, since nothing reads trianer: check its spelling (see: "
        "python train.py --help)",
    ),
    (
        "+data._partial_=true",
        "data must build a LightningDataModule of pytorch_lightning, got a …: change "
        "data._target_ or leave out data._partial_",
    ),
    (
        "+model._partial_=true",
        "model must build a Module of torch, got a …: change model._target_ or leave out "
        "model._partial_",
    ),
    (
        "+module._partial_=true",
        "module must build a LightningModule of pytorch_lightning, got a …: change "
        "module._target_ or leave out module._partial_",
    ),
    (
        "+callbacks.x._target_=builtins.object",
        "callbacks.x must build a callback of Lightning, got one of type object: change "
        "callbacks.x._target_ or leave out _partial_",
    ),
    (
        "--nonsense",
        "unrecognized arguments: --nonsense: options such as -m come before all overrides (see: "
        "python train.py --help)",
    ),
    (
        "lr=1 -m seed=0,1",
        "unrecognized arguments: seed=0,1: options such as -m come before all overrides (see: "
        "python train.py --help)",
    ),
    (
        "hydra.run.dir=/proc/nowhere",
        "No such file or directory: /proc/nowhere",
    ),
    (
        "hydra/launcher=nothing",
        "In 'hydra/config': Could not find 'hydra/launcher/nothing': choose one of …",
    ),
]


@pytest.mark.parametrize(("overrides", "line"), CASES, ids=[case[0] for case in CASES])
def test_a_configuration_is_refused(
    refused: Callable[[str, str], None], overrides: str, line: str
) -> None:
    refused(overrides, line)
