"""The projects of ``examples/`` with every callback: those that apply, and those that refuse."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from trainers import QUIET

from lightning_lazy import InputError, callbacks

# Said once a run, of the classifier's in-place ReLU.
pytestmark = pytest.mark.filterwarnings("ignore:ActivationStability measures the in-place")

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cifar, transformer, gan = load("cifar"), load("transformer"), load("gan")

# What a callback must be told; small, so that a run takes a fraction of a second.
NEEDED: dict[str, dict[str, Any]] = {
    "AnnealOnLoss": {"thresholds": [10.0], "factors": [0.5], "size": 40},
    "AutoL2": {"size": 40},
    "CatapultMonitor": {"size": 10},
    "GradientNoise": {"std": 0.1},
    "HessianSpectrum": {"size": 20, "steps": 4, "probes": 2, "every_n_epochs": 1},
    "HessianTopEigenvalues": {"size": 20},
    "NeuralTangentKernel": {"size": 6},
    "PreActivationNoise": {"std": 0.1},
    "RelativeScale": {"size": 5, "starts": 1, "iterations": 2},
}
JUDGED = {"forward": gan.judgement, "split": "train"}
LOSS = {"loss_fn": gan.discriminator_loss}
ONES = {"target": lambda module, batch, output: torch.ones_like(output)}
PARTS = "found no net of two parts in {}: use model=two_part, or leave the callback out"

# For each example: what its callbacks need besides, and what those that do not apply say.
TOLD: dict[str, dict[str, dict[str, Any]]] = {
    "cifar": {"ParameterTrajectory": {"parameters": ["head.1.bias"]}},
    "transformer": {"ParameterTrajectory": {"parameters": ["position"]}},
    "gan": {
        "ActivationStability": JUDGED,
        "AnnealOnLoss": LOSS,
        "AutoL2": LOSS,
        "HessianSpectrum": LOSS,
        "HessianTopEigenvalues": LOSS,
        "LazinessReport": {"forward": gan.judgement},
        "LinearizationGap": JUDGED,
        "NeuralTangentKernel": JUDGED,
        "ParameterTrajectory": {"parameters": ["generator.0.bias", "discriminator.0.bias"]},
        "RelativeScale": JUDGED | ONES,
    },
}
REFUSED = {
    "cifar": {"PatternLearning": PARTS.format("Classifier")},
    "transformer": {
        "AutoL2": "AutoL2 needs L2, AdamW decays weights outside of the gradient",
        "PatternLearning": PARTS.format("Transformer"),
        "PeakTime": "PeakTime needs L2, AdamW decays weights outside of the gradient",
    },
    "gan": {
        "AutoL2": "AutoL2 needs one optimizer, GAN has 2: leave the callback out",
        "CatapultMonitor": "GAN optimises by itself: leave the callback out",
        "DivergenceGuard": "GAN optimises by itself: leave the callback out",
        "FrozenParameters": "GAN optimises by itself: leave the callback out",
        "PatternLearning": PARTS.format("GAN"),
        "PeakTime": "PeakTime needs a validation set to see 'val/acc' peak",
    },
}
# Without being told, what can't be known of a GAN.
UNTOLD = {
    "ActivationStability": r"no val loader .*: choose the split 'train'",
    "AnnealOnLoss": r"can't call the training_step of GAN, which .*: pass loss_fn",
    "AutoL2": r"can't call the training_step of GAN, which .*: pass loss_fn",
    "HessianSpectrum": r"can't call the training_step of GAN, which .*: pass loss_fn",
    "HessianTopEigenvalues": r"can't call the training_step of GAN, which .*: pass loss_fn",
    "LazinessReport": r"GAN can't be run on a batch of .*: pass forward=",
    "LinearizationGap": r"no val loader .*: choose the split 'train'",
    "NeuralTangentKernel": r"no val loader .*: choose the split 'train'",
    "RelativeScale": r"no val loader .*: choose the split 'train'",
}
# A name that each callback logs, or none.
LOGGED = {
    "ActivationStability": "lazy/activation_stability",
    "AnnealOnLoss": "anneal/stage",
    "AutoL2": "l2/coefficient",
    "CatapultMonitor": "curvature/phase",
    "DivergenceGuard": "health/diverged",
    "FrozenParameters": "health/frozen_share",
    "GradientNoise": "noise/gradient_std",
    "HessianSpectrum": "curvature/hessian_trace",
    "HessianTopEigenvalues": "curvature/hessian_top1",
    "LazinessReport": "lazy/nonlinear_share",
    "LinearizationGap": "lazy/nonlinear_share",
    "NeuralTangentKernel": "ntk/drift",
    "ParameterDistance": "lazy/param_distance",
    "ParameterTrajectory": None,
    "PeakTime": "l2/peak_step",
    "PreActivationNoise": "noise/std",
    "RelativeScale": "lazy/kappa",
}
CHANGE_THE_RUN = {"AnnealOnLoss", "AutoL2", "GradientNoise", "PreActivationNoise"}
# Take the loss that training_step returns, or the gradients of one optimizer: a GAN has neither.


def callback(example: str, name: str) -> Any:
    return getattr(callbacks, name)(**NEEDED.get(name, {}) | TOLD[example].get(name, {}))


def applicable(example: str) -> list[str]:
    return [name for name in callbacks.__all__ if name not in REFUSED[example]]


def fit(example: str, tmp_path: Path, on: list[Any], **arguments: Any) -> tuple[Any, Any]:
    """Train an example for a few batches; return the module and its Trainer."""
    torch.manual_seed(0)
    kinds = {
        "cifar": (cifar, cifar.Classifier, cifar.loaders),
        "transformer": (transformer, transformer.Transformer, lambda: transformer.loaders(100)),
        "gan": (gan, gan.GAN, lambda: (gan.loader(100),)),
    }
    project, kind, loaders = kinds[example]
    module = kind()
    few = {"max_epochs": 2, "limit_train_batches": 2, "limit_val_batches": 2}
    trainer = project.pl.Trainer(
        **(QUIET | few | arguments), callbacks=on, default_root_dir=str(tmp_path)
    )
    trainer.fit(module, *loaders())
    return module, trainer


@pytest.mark.parametrize(
    ("example", "name"),
    [(example, name) for example in TOLD for name in applicable(example)],
)
def test_a_callback_works_in_an_example(example: str, name: str, tmp_path: Path) -> None:
    module, trainer = fit(example, tmp_path, [callback(example, name)])
    metric = LOGGED[name]
    if metric is not None:
        assert math.isfinite(trainer.callback_metrics[metric])
    if example != "gan":
        assert "train/loss" in trainer.callback_metrics  # the project's own


@pytest.mark.parametrize("example", list(TOLD))
def test_all_observers_together_leave_an_example_as_it_is(example: str, tmp_path: Path) -> None:
    observers = [name for name in applicable(example) if name not in CHANGE_THE_RUN]
    alone, _ = fit(example, tmp_path, [])
    watched, trainer = fit(example, tmp_path, [callback(example, name) for name in observers])
    for (name, one), other in zip(
        alone.state_dict().items(), watched.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name
    wanted = {LOGGED[name] for name in observers} - {None}
    assert wanted <= trainer.callback_metrics.keys()
    assert (tmp_path / "laziness.json").is_file()


@pytest.mark.parametrize(
    ("example", "name"), [(example, name) for example in REFUSED for name in REFUSED[example]]
)
def test_a_callback_that_does_not_apply_says_so(example: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        fit(example, tmp_path, [callback(example, name)])
    assert REFUSED[example][name] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", list(UNTOLD))
def test_what_a_callback_must_be_told_of_manual_optimisation(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=UNTOLD[name]) as caught:
        fit("gan", tmp_path, [getattr(callbacks, name)(**NEEDED.get(name, {}))])
    assert "\n" not in str(caught.value)


def test_the_classifier_takes_class_folders(cifar_folder: Path, tmp_path: Path) -> None:
    train, val = cifar.loaders(cifar_folder, batch_size=20)
    assert next(iter(val))[0].shape == (20, 3, 32, 32)
    report = callbacks.LazinessReport(size=40)
    trainer = cifar.pl.Trainer(
        **QUIET, max_steps=2, limit_val_batches=1, callbacks=[report], default_root_dir=tmp_path
    )
    trainer.fit(cifar.Classifier(), train, val)
    assert report.verdict is not None
    assert report.verdict.evidence["activation_stability"] < 1


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_stay_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 80
