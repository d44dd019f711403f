"""Trains with every callback on several processes, then replays that on one: ``… <folder>``.

The net has BatchNorm, and a layer that runs for few samples, all of them in the share of the last
process. Weights and buffers of the replay are, after every batch, those that rank 0 has had.
"""

import json
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from processes import double_trainer
from torch import Tensor, nn
from torch.multiprocessing import ProcessExitedException

from lightning_lazy import MetricsLog, RunFiles, ScaledLightningModule, callbacks
from lightning_lazy.data import ImageSet, PatternsDataModule, RawBatch
from lightning_lazy.data.memory import MemoryDataModule
from lightning_lazy.losses import CrossEntropyLoss, LogisticLoss
from lightning_lazy.models import TwoPartNet

DEVICES = {"all": (4, 2), "patterns": (4,)}  # two: see two_processes_noise.py
EPOCHS = 3
MARKED = 5  # the last samples of a set, for which the rare layer runs
_PROBE: dict[str, Any] = {"split": "train", "size": 57, "batch_size": 6}

# What a callback is told here, by the run that it is in: all at once, or on a net of two parts.
TABLE: dict[str, dict[str, dict[str, Any]]] = {
    "all": {
        "ActivationStability": {**_PROBE, "every_n_steps": 2},
        "AnnealOnLoss": {
            "thresholds": [1.0], "factors": [0.5], "every_n_steps": 2, "size": 57, "batch_size": 6
        },
        "AutoL2": {"l2": 0.02, "period": 2, "refractory": 0.01, "size": 57, "batch_size": 6},
        "CatapultMonitor": {"every_n_steps": 4, "size": 57, "batch_size": 6, "name": "monitor"},
        "DivergenceGuard": {"every_n_steps": 2},
        "FrozenParameters": {"every_n_steps": 2},
        "GradientNoise": {"std": 0.01},
        "HessianSpectrum": {**_PROBE, "every_n_steps": 4, "probes": 2, "steps": 4},
        "HessianTopEigenvalues": {**_PROBE, "every_n_steps": 2, "k": 2, "overlap": True},
        "LazinessReport": {**_PROBE, "name": "report"},
        "LinearizationGap": {**_PROBE, "every_n_steps": 2},
        "NeuralTangentKernel": {**_PROBE, "every_n_steps": 4, "size": 26},
        "ParameterDistance": {"every_n_steps": 2},
        "ParameterTrajectory": {"parameters": ["model.net.rare.0.weight"], "every_n_steps": 2},
        "PeakTime": {"l2": 0.02, "budget": 10.0},
        "PreActivationNoise": {"std": 0.1},
        "RelativeScale": {**_PROBE, "starts": 1, "iterations": 3},
    },
    "patterns": {"PatternLearning": {"every_n_steps": 2, "batch_size": 7}},
}  # fmt: skip


class Routed(nn.Module):
    """A net with BatchNorm and a part that runs for marked samples only."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.rare = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.body(x)
        marked = (x[:, 0] > 2).nonzero().flatten()
        if len(marked):
            hidden = hidden.index_add(0, marked, self.rare(hidden[marked]))
        return self.head(hidden)


class MarkedDataModule(MemoryDataModule):
    """Samples in three classes, of which the last ones are marked by their first feature."""

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size, self.eval_batch_size, self.seed = batch_size, 2, 0
        self.augment = self.drop_last = self.pin_memory = False
        self.num_workers = 0

    def setup(self, stage: str | None = None) -> None:
        """Draw both sets; neither is a multiple of the number of processes."""
        self.train_set, self.val_set = self._draw(57, 1), self._draw(17, 2)
        self.preprocess = _in_dtype

    def _draw(self, size: int, seed: int) -> ImageSet:
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(size, 6, generator=generator, dtype=torch.float64)
        y = torch.randint(3, (size,), generator=generator)
        x[torch.arange(size), 1 + y] += 1.5
        x[:, 0] = 0.0
        x[-MARKED:, 0] = 3.0
        return ImageSet(x, y)


def _in_dtype(raw: RawBatch, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return raw.images.to(dtype), raw.labels


class Keep(pl.Callback):
    """Keeps the states of rank 0 after every batch, and the last metrics of every rank."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.states: list[dict[str, Any]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        state = {key: value.clone() for key, value in _tensors(pl_module).items()}
        self.states.append(state)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        (self.folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(values))
        if trainer.is_global_zero:
            torch.save(self.states, self.folder / "states.pt")


class Replay(pl.Callback):
    """Gives the module, after every batch, the state that rank 0 had then."""

    def __init__(self, folder: Path) -> None:
        self.states = iter(torch.load(folder / "states.pt", weights_only=True))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        state = next(self.states)
        for name, tensor in _tensors(pl_module).items():
            tensor.detach().copy_(state[name])


def _tensors(pl_module: Any) -> dict[str, Tensor]:
    return {**dict(pl_module.named_parameters()), **dict(pl_module.named_buffers())}


@contextmanager
def ends_are_no_failures() -> Iterator[None]:
    """gloo's threads may abort a process that has ended its work; the files tell what it did."""
    try:
        yield
    except ProcessExitedException as error:
        if error.signal_name != "SIGABRT":
            raise


def scaled(net: nn.Module, loss: nn.Module) -> ScaledLightningModule:
    """Return a module that logs every update."""
    optimizer = partial(torch.optim.SGD, lr=0.5)
    return ScaledLightningModule(
        net.double(), loss, optimizer, centering="none", log_every_n_steps=1
    )


def fit(run: str, devices: int, folder: Path, first: pl.Callback) -> None:
    """Fit a few epochs; three batches make one, so that gradients of two and of one add up."""
    together = run == "all"
    observed = [getattr(callbacks, name)(**given) for name, given in TABLE[run].items()]
    several = {"strategy": "ddp_fork_find_unused_parameters_true"} if devices > 1 else {}
    trainer = double_trainer(
        devices,
        **several,
        max_epochs=EPOCHS if together else 6,
        accumulate_grad_batches=2 if together else 1,
        logger=MetricsLog(folder),
        callbacks=[RunFiles(str(folder), every_n_steps=3), first, *observed],
        log_every_n_steps=1,
    )
    if together:
        net, loss, data = Routed(), CrossEntropyLoss(), MarkedDataModule(20 // devices)
    else:
        net, loss = TwoPartNet(16, 12, tau=0.4), LogisticLoss()
        data = PatternsDataModule(8, n_train=60, p0=0.2, q0=0.3, n_val=21, r=0.5)
    with ends_are_no_failures():
        trainer.fit(scaled(net, loss), datamodule=data)


def resume(devices: int, folder: Path) -> None:
    """Go on for an epoch from the last checkpoint, in a folder of its own."""
    before, own = folder / f"all-{devices}", folder / f"resumed-{devices}"
    given = TABLE["all"]["ActivationStability"]
    shutil.copytree(before, own)
    trainer = double_trainer(
        devices,
        strategy="ddp_fork_find_unused_parameters_true",
        max_epochs=EPOCHS + 1,
        logger=MetricsLog(own),
        callbacks=[
            RunFiles(str(own)),
            callbacks.ActivationStability(**given),
        ],
        log_every_n_steps=1,
    )
    with ends_are_no_failures():
        trainer.fit(
            scaled(Routed(), CrossEntropyLoss()),
            datamodule=MarkedDataModule(20 // devices),
            ckpt_path=own / "checkpoints" / "last.ckpt",
            weights_only=True,
        )


def main(folder: Path) -> None:
    """Fit on several processes, which are forks of this one, then here."""
    for run in TABLE:
        for devices in DEVICES[run]:
            own = folder / f"{run}-{devices}"
            fit(run, devices, own, Keep(own))
    resume(2, folder)
    for run in TABLE:
        for devices in DEVICES[run]:
            fit(run, 1, folder / f"{run}-{devices}-alone", Replay(folder / f"{run}-{devices}"))
    (folder / "done").touch()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]))
