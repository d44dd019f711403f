"""Trains on as many processes as asked: ``python two_processes.py <devices> <folder>``."""

import sys
import warnings
from functools import partial

import torch
from processes import double_trainer

from lightning_lazy import MetricsLog, RunFiles, ScaledLightningModule
from lightning_lazy.callbacks import (
    ActivationStability,
    AutoL2,
    CatapultMonitor,
    DivergenceGuard,
    FrozenParameters,
    HessianTopEigenvalues,
    LazinessReport,
    LinearizationGap,
    NeuralTangentKernel,
    ParameterDistance,
    PeakTime,
    RelativeScale,
)
from lightning_lazy.data import ImageDataModule
from lightning_lazy.losses import SoftHingeLoss
from lightning_lazy.models import TwoLayerNet


def main(devices: int, folder: str) -> None:
    """Fit full-batch gradient descent in double precision; shards of equal size give its step."""
    trainer = double_trainer(
        devices,
        max_steps=12,
        val_check_interval=4,
        check_val_every_n_epoch=None,
        logger=MetricsLog(folder),
        callbacks=[
            RunFiles(folder, every_n_steps=5),
            DivergenceGuard(every_n_steps=4),
            FrozenParameters(every_n_steps=4),
            ActivationStability(every_n_steps=4, size=41),
            ActivationStability(every_n_steps=4, split="train", name="train"),
            ParameterDistance(every_n_steps=4),
            LinearizationGap(every_n_steps=4, size=41, batch_size=15),
            RelativeScale(size=21, batch_size=10, starts=1, iterations=10),
            LazinessReport(size=41, name="report"),
            HessianTopEigenvalues(2, every_n_steps=4, size=41, batch_size=10, overlap=True),
            HessianTopEigenvalues(matrix="gauss_newton", every_n_steps=4, size=41, name="gn"),
            CatapultMonitor(every_n_steps=4, size=41, batch_size=15, split="val"),
            CatapultMonitor("hessian", name="h", size=41, batch_size=15),
            NeuralTangentKernel(every_n_steps=4, size=11, batch_size=2, top_k=2),
            NeuralTangentKernel(every_n_steps=4, size=11, batch_size=25, outputs="sum", name="s"),
            AutoL2(0.03, period=2, refractory=0.01, size=41, batch_size=15),
            PeakTime(l2=0.03, budget=100),
        ],
        log_every_n_steps=1,
    )
    module = ScaledLightningModule(
        TwoLayerNet(64, 12, 10).double(),
        SoftHingeLoss(),
        partial(torch.optim.SGD, lr=3.0),
        log_every_n_steps=4,
    )
    data = ImageDataModule("digits", n_train=80, n_val=51, eval_batch_size=20, batch_size="full")
    trainer.fit(module, datamodule=data)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(int(sys.argv[1]), sys.argv[2])
