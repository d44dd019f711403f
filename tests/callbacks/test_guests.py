"""The callbacks in projects that know nothing of this one, under both Lightning packages."""

import copy
from typing import Any

import lightning.pytorch as lp
import pytest
import pytorch_lightning as pl
import torch
from foreign import NewForeign, OldForeign, loaders
from torch import nn
from trainers import QUIET

from lightning_lazy import InputError
from lightning_lazy.callbacks import ActivationStability, DivergenceGuard, FrozenParameters


def fit(package: Any, module: Any, *callbacks: Any, **arguments: Any) -> Any:
    torch.manual_seed(0)
    trainer = package.Trainer(**(QUIET | {"max_epochs": 3} | arguments), callbacks=list(callbacks))
    trainer.fit(module, *loaders())
    return module


@pytest.mark.parametrize(("package", "kind"), [(pl, OldForeign), (lp, NewForeign)])
def test_training_is_the_same_to_the_last_bit_with_all_callbacks_on(
    package: Any, kind: Any
) -> None:
    torch.manual_seed(1)
    alone = kind()
    watched = copy.deepcopy(alone)
    fit(package, alone)
    fit(
        package,
        watched,
        ActivationStability(every_n_steps=2, size=30),
        ActivationStability(split="train", size=20, name="train"),
        DivergenceGuard(every_n_steps=2),
        FrozenParameters(every_n_steps=2),
    )
    for (name, one), other in zip(
        alone.state_dict().items(), watched.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
    assert alone.metrics["own"] == watched.metrics["own"]
    assert {"lazy/activation_stability", "lazy/activation_stability/train"} <= set(watched.metrics)
    assert watched.metrics["health/diverged"] == 0


def test_stability_equals_a_plain_float_computation_on_the_probe_set() -> None:
    # Oracle: signs of the ReLU's input in evaluation mode, on all 40 samples of the loader.
    torch.manual_seed(1)
    module = OldForeign()
    start = copy.deepcopy(module).eval()
    fit(pl, module, ActivationStability())
    module.eval()
    x = loaders()[1].dataset.tensors[0]
    same = (start.layers[:2](x) > 0) == (module.layers[:2](x) > 0)
    share = same.double().mean().item()
    assert module.metrics["lazy/activation_stability"] == pytest.approx(share, abs=1e-12)
    assert module.metrics["lazy/activation_stability/layers.2"] == pytest.approx(share, abs=1e-12)
    assert 0.3 < share < 1


def test_two_unnamed_instances_are_told_apart_by_name() -> None:
    assert ActivationStability(name="a").state_key != ActivationStability(name="b").state_key


def test_no_activation_modules_is_said_before_training() -> None:
    with pytest.raises(InputError, match="no activation modules"):
        fit(pl, OldForeign(nn.Identity()), ActivationStability())


def test_a_probe_larger_than_the_set_is_said_before_training() -> None:
    with pytest.raises(InputError, match="should have 41 samples, the val set has 40"):
        fit(pl, OldForeign(), ActivationStability(size=41))


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_a_missing_validation_set_is_said_before_training() -> None:
    trainer = pl.Trainer(**QUIET, max_epochs=1, callbacks=[ActivationStability()])
    with pytest.raises(InputError, match="no val loader"):
        trainer.fit(OldForeign(), loaders()[0])


def test_batches_that_are_no_tuples_need_a_forward_function() -> None:
    from lightning_lazy.callbacks._probe import first_element

    with pytest.raises(InputError, match=r"type dict: pass forward=function\(module, batch\)"):
        first_element({"x": torch.zeros(1)})
    assert torch.equal(first_element(torch.ones(2)), torch.ones(2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every_n_steps": 0}, "every_n_steps must be an integer of at least 1, got 0"),
        ({"every_n_epochs": 0}, "every_n_epochs must be an integer of at least 1, got 0"),
        ({"split": "test"}, "split must be one of train, val, got 'test'"),
        ({"size": 0}, "size must be an integer of at least 1, got 0"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ActivationStability(**arguments)
