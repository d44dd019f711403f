"""Every diagnostic at once leaves no trace in the training (design, rule 1)."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import nn
from trainers import QUIET

from lightning_lazy import ScaledLightningModule, callbacks
from lightning_lazy.data import ImageDataModule
from lightning_lazy.losses import CrossEntropyLoss

# What a callback needs to be told here; the others stand with their defaults.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "ParameterTrajectory": {"parameters": ["model.net.0.weight"]},
    "RelativeScale": {"size": 5, "starts": 1, "iterations": 2},
    "NeuralTangentKernel": {"size": 6},
    "HessianSpectrum": {"size": 20, "steps": 4, "probes": 2, "every_n_epochs": 1},
    "HessianTopEigenvalues": {"size": 20, "overlap": True},
}

# What changes the run by design, or needs a net of its own.
LEFT_OUT = {"AnnealOnLoss", "AutoL2", "GradientNoise", "PatternLearning", "PreActivationNoise"}


def test_weights_buffers_and_metrics_are_the_same_to_the_last_bit(tmp_path: Path) -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(36, 10),
    )  # fmt: skip
    alone = ScaledLightningModule(
        net, CrossEntropyLoss(), partial(torch.optim.SGD, lr=0.1, momentum=0.9), alpha=2.0
    )
    watched = copy.deepcopy(alone)
    all_of_them = [
        getattr(callbacks, name)(**ARGUMENTS.get(name, {}))
        for name in callbacks.__all__
        if name not in LEFT_OUT
    ]
    metrics = []
    for module, on in ((alone, []), (watched, all_of_them)):
        torch.manual_seed(0)
        trainer = pl.Trainer(**QUIET, max_epochs=2, callbacks=on, default_root_dir=str(tmp_path))
        data = ImageDataModule(
            "digits", n_train=60, n_val=130, batch_size=20, flatten=False, augment=True, padding=1
        )
        trainer.fit(module, datamodule=data)
        metrics.append(trainer.callback_metrics)
    for (name, one), other in zip(
        alone.state_dict().items(), watched.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other) if torch.is_tensor(one) else one == other, name
    assert all(metrics[1][name] == value for name, value in metrics[0].items())
    assert {"curvature/hessian_top1", "curvature/phase", "ntk/drift"} <= metrics[1].keys()
    assert {"lazy/kappa", "l2/peak_step"} <= metrics[1].keys()
