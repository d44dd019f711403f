"""Cells of every experiment, shrunk to a few updates, for comparisons of device counts."""

from dataclasses import dataclass
from typing import Literal

Alike = Literal["all", "training", "start"]

# Sizes of full batches and of most validation sets are no multiples of the number of processes.
_FULL = ("data.n_train=23", "data.n_val=11")
_STEPS = ("max_steps=4", "every_n_steps=2")
_SHORT = ("max_updates=4", "measurements=2")
_DIGITS = ("data=digits", "data.resolution=null", *_FULL, "model.width=8")
_IMAGES = (
    "data.resolution=16", "data.balanced=false", "data.n_train=32", "data.n_val=11",
    "data.eval_batch_size=4", "batch_size=4",
)  # fmt: skip
_PICTURES = ("data=folder", "data.path=pictures", *_IMAGES)
_LARGE = (*_PICTURES, "data.resolution=null")  # 32×32
_CNN = (*_PICTURES, *_SHORT, "model.channels=4", "model.hidden=8")
_WRN = (*_PICTURES, *_SHORT, "data.resolution=8", "model.width=0.25")
# BatchNorm in evaluation, too, takes the statistics of batches: each process has whole ones.
_WHOLE = ("data.n_val=32", "data.eval_batch_size=4")
_STABILITY = (
    "callbacks.activation_stability.size=null", "callbacks.activation_stability.every_n_epochs=1",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One cell of an experiment's sweep.

    Attributes:
        overrides: What the sweep sets, and sizes.
        devices: Numbers of processes that it runs on.
        accumulated: Whether one process adds up the gradients of as many batches, in place of
            taking batches that are as much larger.
        alike: What must agree: ``all``; ``training``, where validation uses running averages of
            BatchNorm, which are those of rank 0; or ``start``, where each rank draws noise.
    """

    overrides: tuple[str, ...]
    devices: tuple[int, ...] = (2,)
    accumulated: bool = False
    alike: Alike = "all"


def normalised(*overrides: str, devices: tuple[int, ...] = (2,), alike: Alike = "all") -> Cell:
    """Return a cell with BatchNorm, whose statistics are those of a batch.

    The training loss is logged as a mean over passes: single batches are not those of one process.
    """
    return Cell((*overrides, "module.log_every_n_steps=null"), devices, True, alike)


_CHIZAT = {
    "chizat/fig1_quick": [
        Cell((
            "cell={panel: plane, tau: 0.1}", "panels.plane.trajectory.every_n_steps=2", *_STEPS,
            "data.n_val=11",
        )),
        Cell(("cell={linearize: true}", "panels.tau.width=6", *_STEPS, *_FULL)),
    ],
    "chizat/fig2a_quick": [
        Cell(("scaling={power: -1, step: 0.05}", "model.width=8", *_STEPS, *_FULL), (2, 4)),
    ],
    "chizat/fig2b_quick": [
        Cell((
            "model.tau=0.1", "model.width=6", *_STEPS, "batch_size=4", "data.n_train=32",
            "data.n_val=11",
        )),
    ],
    "chizat/fig3a": [  # with augmentation
        Cell(("cell={alpha: 10}", *_LARGE, "model.width=0.06", "max_epochs=1", *_STABILITY)),
    ],
    "chizat/fig3a_quick": [
        Cell(("cell={alpha: 1e7, linearize: true}", *_PICTURES, "max_epochs=1")),
    ],
    "chizat/fig3a_lr_quick": [  # which diverges
        Cell(("cell={alpha: 1e2}", "lr=10", *_PICTURES, "max_epochs=2", *_STABILITY)),
    ],
    "chizat/fig3b_quick": [
        Cell((
            "arm=chizat/resnet18_standard", *_LARGE, "wide.resnet18=0.03", "max_epochs=2",
            *_STABILITY,
        ), (2, 4)),
    ],
    "chizat/kernel_spectrum": [
        Cell((
            *_LARGE, "model.width=0.06", "batch_size=full", "data.n_train=9", "max_steps=2",
        )),
    ],
    "chizat/kernel_spectrum_quick": [
        Cell((
            "data.random_pixels=true", *_PICTURES, "batch_size=full", "data.n_train=9",
            "max_steps=2", "every_n_steps=1",
        )),
    ],
}  # fmt: skip

_HUANG = {
    "huang/fig1_quick": [
        Cell(("cell={loss: ExponentialLoss, points: non_separable, lr: 0.2}", "max_steps=4")),
    ],
    "huang/fig2_quick": [Cell(("cell={lr: 1.5}", "max_steps=4", "model.width=6"))],
    "huang/fig3_quick": [
        Cell(("cell={points: non_separable, lr: 4}", "max_steps=4", "model.width=6")),
    ],
    "huang/fig4_quick": [
        Cell((
            "cell={stop: annealed, lr: 24}", "cell.net=two_hidden", *_DIGITS, "data.classes=[3,8]",
            "steps=2", "data.balanced=false",
        ), (2, 4)),
    ],
    "huang/table1_quick": [
        Cell((
            "cell={loss: SquaredLoss, points: flipped_blobs, lr: 0.6}", "max_steps=4",
            "model.width=6", "data.n_train=21",
        )),
    ],
}  # fmt: skip

_KANOH = {
    "kanoh/fig6_quick": [
        Cell(("optimizer=scaled_rmsprop", "alpha=10", *_DIGITS, *_STEPS, _STABILITY[0]), (2, 4)),
    ],
}

_LEWKOWYCZ = {
    "lewkowycz/fig1a_quick": [normalised("cell={l2: 1e-2}", *_WRN, *_WHOLE)],
    "lewkowycz/fig1c_quick": [normalised("cell={decay: auto}", *_WRN, *_WHOLE, "epochs=1")],
    "lewkowycz/fig2_quick": [Cell(("cell={l2: 1e-2}", *_DIGITS, *_SHORT), (2, 4))],
    "lewkowycz/fig2_wrn_quick": [
        normalised("cell={l2: 8e-3}", *_WRN, *_WHOLE, devices=(2, 4)),
    ],
    "lewkowycz/fig3_quick": [
        normalised("cell={batch_norm: true, l2: 5e-3}", *_CNN, *_WHOLE),
        Cell(("cell={l2: 5e-3}", *_CNN)),
    ],
    "lewkowycz/fig4_quick": [normalised("cell={part: predict, budget: 1}", *_WRN, *_WHOLE)],
    "lewkowycz/fig5_quick": [  # whose loss is a sum over samples
        Cell((*_DIGITS, *_STEPS, "module.log_every_n_steps=1"), (2, 4)),
        Cell((*_DIGITS, *_STEPS, "module.log_every_n_steps=null")),
    ],
    "lewkowycz/predict_l2": [
        normalised(
            *_PICTURES, *_WHOLE, "data.resolution=8", "model.depth=10", "model.width=0.25",
            "max_epochs=1", "trainer.accumulate_grad_batches=2", "every_n_steps=1",
        ),
    ],
    "lewkowycz/predict_l2_quick": [Cell((*_DIGITS, "max_steps=4"))],
    "lewkowycz/s1_quick": [Cell(("cell={l2: 1e-4}", *_DIGITS, *_SHORT))],
    "lewkowycz/s5_quick": [Cell(("cell={l2: 1e-2}", *_DIGITS, *_SHORT))],
    "lewkowycz/s6_quick": [
        Cell(("arm=lewkowycz/fc_quick", *_DIGITS, *_SHORT)),
        normalised("arm=lewkowycz/wrn_quick", *_WRN, *_WHOLE),
        Cell(("arm=lewkowycz/cnn_quick", *_CNN)),
    ],
    "lewkowycz/s7_quick": [
        Cell(("cell={l2: 1e-4}", *_DIGITS, *_SHORT, "batch_size=4", "data.n_train=24")),
    ],
    "lewkowycz/s8_quick": [
        normalised(
            "data.path=pictures", "data.n_train=32", "data.n_val=11", "data.eval_batch_size=4",
            "batch_size=4", "updates=4", "measurements=2", "cell={l2: 1e-3}", alike="training",
        ),
    ],
}  # fmt: skip

_SMALL_WRN = ("data.resolution=8", "model.width=0.25", "max_epochs=2")
_PQ = (*_STEPS, "data.dimension=6", "data.n_val=11", "model.width=8", "model.v_width=12")
_LI = {
    "li/fig1_quick": [
        normalised("cell.arm=large", *_PICTURES, *_SMALL_WRN, alike="training"),
    ],
    "li/fig3_quick": [
        normalised(
            "cell.arm=small", "data.dataset=folder", "+data.path=pictures", *_IMAGES, *_SMALL_WRN,
            "data.patches.size=3", "data.patches.n_patch_only=12", alike="training",
        ),
    ],
    "li/noise_quick": [Cell(("cell.arm=noise", *_PICTURES, *_SMALL_WRN), alike="start")],
    "li/pq_quick": [
        Cell(("cell.arm=large", *_PQ), (2, 4)),
        Cell(("cell.arm=noise", *_PQ), alike="start"),
    ],
}  # fmt: skip

TABLE: dict[str, list[Cell]] = {**_CHIZAT, **_HUANG, **_KANOH, **_LEWKOWYCZ, **_LI}

_OF_FIG4, _OF_FIG1C = ("fig1b", "s2", "s3", "s4"), {"s9": "constant", "s10": "step_fractions"}
# Experiments that draw another picture of the runs of one in the table, and what that has to set.
SAME_RUNS: dict[str, tuple[str, ...]] = {
    "chizat/fig3a_lr": ("experiment=chizat/fig3a",),
    **{
        f"lewkowycz/{figure}{end}": (f"experiment=lewkowycz/fig4{end}",)
        for figure in _OF_FIG4
        for end in ("", "_quick")
    },
    **{
        f"lewkowycz/{figure}{end}": (f"experiment=lewkowycz/fig1c{end}", f"schedule={schedule}")
        for figure, schedule in _OF_FIG1C.items()
        for end in ("", "_quick")
    },
}

# Grids of stacked cells, which are spread over devices by shards.
GRIDS = tuple(
    f"kanoh/{name}{end}"
    for name in ("phase_diagram", "folded_adam", "knobs")
    for end in ("", "_quick")
)
