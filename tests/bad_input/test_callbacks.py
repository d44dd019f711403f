"""Arguments of callbacks, and callbacks that the run can't have."""

from collections.abc import Callable

import pytest

CASES = [
    (
        "callbacks.activation_stability.size=99999",
        "the probe set should have 99999 samples, the val set has 360: choose a size up to 360",
    ),
    (
        "callbacks.activation_stability.size=0",
        "size must be an integer of at least 1, got 0; pass a larger size",
    ),
    (
        "callbacks.activation_stability.batch_size=0",
        "batch_size must be an integer of at least 1, got 0; pass a larger batch_size",
    ),
    (
        "callbacks.activation_stability.split=test",
        "split must be one of train, val, got 'test'; pick one",
    ),
    (
        "callbacks.activation_stability.every_n_epochs=abc",
        "every_n_epochs must be an integer of at least 1, got 'abc'; pass a larger every_n_epochs",
    ),
    (
        "linearize=true callbacks=health '+callbacks.x={_target_:lightning_lazy.callbacks."
        "PreActivationNoise,std:0.1}'",
        "ScaledLightningModule has no activation modules …",
    ),
    (
        "callbacks.activation_stability.metric=5",
        "metric must be one of lazy/activation_stability, lazy/sign_consistency, got 5; …",
    ),
    (
        "callbacks.activation_stability.metric=train/loss",
        "metric must be one of lazy/activation_stability, …, got 'train/loss'; pick one",
    ),
    (
        "callbacks.activation_stability.pooling=true",
        "ScaledLightningModule has no nn.MaxPool2d modules to find winners in: use pooling=False",
    ),
    (
        "callbacks.activation_stability.per_layer=2",
        "per_layer must be true or false, got 2; change per_layer",
    ),
    (
        "+callbacks.activation_stability.nonsense=1",
        "can't build lightning_lazy.callbacks.ActivationStability: ActivationStability.__init__()"
        " got an unexpected keyword argument 'nonsense'",
    ),
    (
        "'+callbacks.activation_stability.types=[Nothing]'",
        "types must be classes of modules, got ['Nothing']; pass nn.ReLU, say",
    ),
    (
        "callbacks.divergence_guard.every_n_steps=0",
        "every_n_steps must be an integer of at least 1, got 0; pass a larger every_n_steps",
    ),
    (
        "callbacks.divergence_guard.factor=1",
        "factor must be above 1, got 1: the default is 1e6",
    ),
    (
        "callbacks.divergence_guard.factor=abc",
        "factor must be a number, got 'abc'; change factor",
    ),
    (
        "callbacks.frozen_parameters.every_n_steps=-1",
        "every_n_steps must be an integer of at least 1, got -1; pass a larger every_n_steps",
    ),
    (
        "callbacks.progress_bar.refresh_rate=abc",
        "refresh_rate must be a whole number, got 'abc'; change refresh_rate",
    ),
    (
        "callbacks=auto_l2 callbacks.auto_l2.l2=0",
        "l2 must be finite and above 0, got 0; change l2",
    ),
    (
        "callbacks=auto_l2 callbacks.auto_l2.factor=2",
        "factor must be below 1, got 2; the paper's is 0.1",
    ),
    (
        "callbacks=auto_l2 callbacks.auto_l2.on=somewhere",
        "on must be one of subset, batch, got 'somewhere'; pick one",
    ),
    (
        "callbacks=auto_l2 callbacks.auto_l2.reset_on_decay=maybe",
        "reset_on_decay must be true or false, got 'maybe'; change reset_on_decay",
    ),
    (
        "callbacks=curvature callbacks.hessian_top_eigenvalues.k=0",
        "k must be an integer of at least 1, got 0; pass a larger k",
    ),
    (
        "callbacks=curvature callbacks.hessian_top_eigenvalues.on=batch "
        "callbacks.hessian_top_eigenvalues.size=5",
        "size is that of the probe set, got 5 with on='batch': leave it out",
    ),
    (
        "callbacks=curvature callbacks.hessian_top_eigenvalues.which=XX",
        "which must be one of LA, SA, LM, got 'XX'; pick one",
    ),
    (
        "callbacks=curvature callbacks.hessian_top_eigenvalues.tolerance=0",
        "tolerance must be finite and above 0, got 0; change tolerance",
    ),
    (
        "callbacks=laziness callbacks.neural_tangent_kernel.model=G",
        "model must be one of f, F, got 'G'; pick one",
    ),
    (
        "callbacks=laziness callbacks.linearization_gap.double=maybe",
        "double must be true or false or null, got 'maybe'; change double",
    ),
    (
        "+callbacks.x._target_=lightning_lazy.callbacks.AnnealOnLoss",
        "AnnealOnLoss needs thresholds or stop, got none: pass a loss",
    ),
    (
        "+callbacks.x._target_=lightning_lazy.callbacks.AnnealOnLoss "
        "'+callbacks.x.thresholds=[0.1,0.2]' '+callbacks.x.factors=[0.1,0.1]'",
        "thresholds must descend, to stop at last, got [0.1, 0.2]: sort them",
    ),
    (
        "callbacks=health +callbacks.x._target_=lightning_lazy.callbacks.PatternLearning",
        "PatternLearning found no net of two parts in ScaledLightningModule: use model=two_part, "
        "or leave the callback out",
    ),
    (
        "callbacks=health +callbacks.x._target_=lightning_lazy.callbacks.PeakTime "
        "+callbacks.x.budget=10",
        "PeakTime can't predict l2 for a budget of 10 epochs from a run without L2 of one "
        "strength: set l2 (or weight_decay), above 0",
    ),
    (
        "+callbacks.x._target_=lightning_lazy.callbacks.GradientNoise +callbacks.x.std=-1",
        "std must be finite and at least 0, got -1; change std",
    ),
    (
        "+callbacks.x._target_=lightning_lazy.callbacks.CatapultMonitor +callbacks.x.kernel=x",
        "kernel must be one of ntk, hessian, got 'x'; pick one",
    ),
    (
        "+callbacks.x._target_=lightning_lazy.callbacks.HessianSpectrum +callbacks.x.probes=0",
        "probes must be an integer of at least 1, got 0; pass a larger probes",
    ),
    (
        "+callbacks.x._target_=lightning_lazy.callbacks.ParameterDistance "
        "+callbacks.y._target_=lightning_lazy.callbacks.ParameterDistance",
        "can't build pytorch_lightning.Trainer: RuntimeError: Found more than one stateful "
        "callback of type `ParameterDistance`. In the current configuration, this callback does "
        "not support being saved alongside other instances of the same type. Please consult the "
        "documentation of `ParameterDistance` regarding valid settings for the callback state to "
        "be checkpointable. HINT: The `callback.state_key` must be unique among all callbacks in "
        "the Trainer.",
    ),
]


@pytest.mark.parametrize(("overrides", "line"), CASES, ids=[case[0] for case in CASES])
def test_a_callback_is_refused(
    refused: Callable[[str, str], None], overrides: str, line: str
) -> None:
    refused(overrides, line)
