"""A cell of a stack against the same cell trained alone by `ScaledLightningModule`.

The oracle is the single run of this project: its module, torch's optimizers or `ScaledRMSprop` and
`ScaledAdam`, autograd. In float64 both do the same operations in another order, each rounded to
1e-16; stable cells forget such errors, so 1e-9 after 200 steps leaves room for growth by 1e6.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from cells import SameBatch, alone, deviation, labels, module_of, nets_of, on_sphere, together
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.checkpoint import checkpoint
from trainers import QUIET

from lightning_lazy import InputError
from lightning_lazy.losses import CrossEntropyLoss, LogisticLoss, SoftHingeLoss, SquaredLoss
from lightning_lazy.models import FullyConnected, LewkowyczCNN, TwoLayerNet
from lightning_lazy.scaling import Centering
from lightning_lazy.stacked.chunk import Trained, stack_class
from lightning_lazy.stacked.grid import Grid
from lightning_lazy.stacked.stack import Task
from lightning_lazy.stacked.two_layer import TwoLayerStack
from lightning_lazy.stacked.vmapped import VmappedStack

N, D, H, K = 12, 7, 6, 10
HINGE = Task(on_sphere(N, D), labels(N), SoftHingeLoss(), "subtract")
STABLE = {
    "sgd": [0.1, 1.0],
    "momentum": [0.02, 0.2],
    "rmsprop": [1e-5, 1e-4],
    "adam": [1e-4, 1e-3],
    "scaled_rmsprop": [1e-3, 1e-2],
    "scaled_adam": [1e-3, 1e-2],
}


def all_values(trained: Trained) -> dict[str, Tensor]:
    return trained.parameters | trained.fixed


@pytest.mark.parametrize("kind", [TwoLayerStack, VmappedStack])
@pytest.mark.parametrize("optimizer", STABLE)
def test_a_stable_cell_ends_where_the_same_cell_ends_alone(optimizer: str, kind: Any) -> None:
    axes = {
        "optimizer": optimizer, "lr": STABLE[optimizer], "alpha": [0.9, 30.0], "seed": [0, 3],
        "l2": [0.0, 0.01],
    }  # fmt: skip
    cells = Grid(axes).cells
    nets = nets_of(cells, partial(TwoLayerNet, D, H, K), torch.float64)
    trained = together(cells, nets, HINGE, 200, kind)
    for cell, net in list(zip(cells, nets, strict=True))[::5]:
        values = all_values(trained[cell.index])
        assert deviation(values, alone(cell, net, HINGE, 200)) < 1e-9, cell
        moved = deviation(values, module_of(cell, net, HINGE))
        assert moved > 1e-5, "it must have moved for the comparison to say anything"


def test_a_cell_ends_where_a_trainer_ends() -> None:
    cells = Grid({"optimizer": "scaled_rmsprop", "lr": 0.01, "alpha": [2.0, 5.0]}).cells
    nets = nets_of(cells, partial(TwoLayerNet, D, H, K), torch.float64)
    module = module_of(cells[1], nets[1], HINGE)
    trainer = pl.Trainer(**QUIET, max_epochs=1, precision="64-true", limit_val_batches=0)
    trainer.fit(module, SameBatch(HINGE, 200), SameBatch(HINGE, 1))
    assert deviation(together(cells, nets, HINGE, 200)[1].parameters, module) < 1e-9


@pytest.mark.parametrize("kind", [TwoLayerStack, VmappedStack])
@pytest.mark.parametrize(
    ("optimizer", "lr"), [("sgd", 300.0), ("momentum", 100.0), ("rmsprop", 1.0), ("adam", 1.0)]
)
def test_an_unstable_cell_takes_the_same_first_ten_steps(
    optimizer: str, lr: float, kind: Any
) -> None:
    # Ten to a hundred times beyond the boundary: rounding errors grow from step to step.
    cells = Grid({"optimizer": optimizer, "lr": lr, "alpha": [0.1, 1.0, 10.0]}).cells
    nets = nets_of(cells, partial(TwoLayerNet, D, H, K), torch.float64)
    trained = together(cells, nets, HINGE, 10, kind)
    for cell, net in zip(cells, nets, strict=True):
        assert deviation(trained[cell.index].parameters, alone(cell, net, HINGE, 10)) < 1e-9


@pytest.mark.parametrize(
    ("make", "centering"),
    [
        (partial(TwoLayerNet, D, H, K, activation="relu"), "subtract"),
        (partial(TwoLayerNet, D, H, K, activation="linear"), "subtract"),
        (partial(TwoLayerNet, D, H, K, beta=1.0, parametrization="none"), "none"),
        (partial(TwoLayerNet, D, H, K, symmetric=True), "symmetrize"),
        (partial(TwoLayerNet, D, H, K), "symmetrize"),
    ],
)
def test_every_two_layer_net_and_centring(
    make: Callable[[], nn.Module], centering: Centering
) -> None:
    task = HINGE._replace(centering=centering)
    cells = Grid({"optimizer": "scaled_adam", "lr": 0.01, "alpha": [0.5, 3.0]}).cells
    nets = nets_of(cells, make, torch.float64)
    trained = together(cells, nets, task, 200)
    for cell, net in zip(cells, nets, strict=True):
        assert deviation(trained[cell.index].parameters, alone(cell, net, task, 200)) < 1e-9


@pytest.mark.parametrize(
    "loss",
    [
        SoftHingeLoss(beta=3.0, samples="sum", outputs="sum", factor=0.1),
        LogisticLoss(),
        SquaredLoss(),
        CrossEntropyLoss(),
    ],
    ids=lambda loss: type(loss).__name__,
)
@pytest.mark.parametrize("kind", [TwoLayerStack, VmappedStack])
def test_every_loss(loss: nn.Module, kind: Any) -> None:
    task = HINGE._replace(loss=loss)
    cells = Grid({"lr": 0.05, "alpha": [0.5, 3.0]}).cells
    nets = nets_of(cells, partial(TwoLayerNet, D, H, K), torch.float64)
    trained = together(cells, nets, task, 100, kind)
    for cell, net in zip(cells, nets, strict=True):
        assert deviation(trained[cell.index].parameters, alone(cell, net, task, 100)) < 1e-9


class NormalisedConv(nn.Module):
    """A small convolution with max pooling and BatchNorm."""

    def __init__(self, averages: bool = True) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=averages)
        self.relu, self.pool, self.out = nn.ReLU(), nn.MaxPool2d(2), nn.Linear(16, K)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.pool(self.relu(self.norm(self.conv(x)))).flatten(1))


@pytest.mark.parametrize("centering", ["subtract", "none"])
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (partial(FullyConnected, D, 5, 2, K), (D,)),
        (partial(LewkowyczCNN, 1, 15, K, channels=2, hidden=4), (1, 15, 15)),
        (NormalisedConv, (1, 6, 6)),
        (partial(NormalisedConv, averages=False), (1, 6, 6)),
    ],
    ids=["fully connected", "cnn", "running averages", "batch statistics"],
)
def test_any_net_that_can_be_vmapped(
    make: Callable[[], nn.Module], shape: tuple[int, ...], centering: Centering
) -> None:
    # Buffers, such as running averages and those of the frozen copy, count as well.
    task = Task(on_sphere(N, *shape), labels(N), CrossEntropyLoss(), centering)
    cells = Grid({"optimizer": "momentum", "lr": 0.01, "alpha": [0.5, 3.0], "seed": [0, 1]}).cells
    nets = nets_of(cells, make, torch.float64)
    assert stack_class(nets[0], task) is VmappedStack
    trained = together(cells, nets, task, 60)
    for cell, net in list(zip(cells, nets, strict=True))[::3]:
        assert deviation(all_values(trained[cell.index]), alone(cell, net, task, 60)) < 1e-9


@pytest.mark.parametrize("kind", [TwoLayerStack, VmappedStack])
def test_cells_in_single_precision_end_where_they_end_alone(kind: Any) -> None:
    # 50 steps of rounding at 1e-7 each.
    task = HINGE._replace(x=HINGE.x.float())
    cells = Grid({"optimizer": "scaled_rmsprop", "lr": 0.01, "alpha": [0.9, 30.0]}).cells
    nets = nets_of(cells, partial(TwoLayerNet, D, H, K), torch.float32)
    trained = together(cells, nets, task, 50, kind)
    for cell, net in zip(cells, nets, strict=True):
        values = trained[cell.index].parameters
        assert all(value.dtype == torch.float32 for value in values.values())
        assert deviation(values, alone(cell, net, task, 50)) < 1e-5


@pytest.mark.parametrize("kind", [TwoLayerStack, VmappedStack])
def test_exploded_cells_leave_and_the_others_do_not_notice(kind: Any) -> None:
    task = HINGE._replace(loss=SquaredLoss())
    cells = Grid({"optimizer": "momentum", "lr": [1e4, 0.01, 1e3, 0.05], "l2": 0.1}).cells
    nets = nets_of(cells, partial(TwoLayerNet, D, H, K), torch.float64)
    trained = together(cells, nets, task, 120, kind)
    assert [trained[i].stopped for i in range(4)] == [True, False, True, False]
    assert all(trained[i].record["steps"] <= 50 for i in (0, 2))
    for place in (1, 3):
        module = alone(cells[place], nets[place], task, 120)
        assert trained[place].record["steps"] == 120
        assert deviation(trained[place].parameters, module) < 1e-9


def test_two_layer_nets_that_were_changed_are_not_differentiated_by_hand() -> None:
    # One layer alone is trained, or another activation is put in: the generic stack takes them.
    changed = TwoLayerNet(D, H, K).double()
    changed.activation = nn.Tanh()
    half = TwoLayerNet(D, H, K).double()
    half.output.requires_grad_(False)
    cells = Grid({"lr": 0.1, "alpha": 2.0}).cells
    for net in (changed, half):
        assert stack_class(net, HINGE) is VmappedStack
        trained = together(cells, [net], HINGE, 20)[0]
        assert deviation(all_values(trained), alone(cells[0], net, HINGE, 20)) < 1e-9


def test_the_softplus_neither_overflows_nor_turns_linear_too_early() -> None:
    # Pre-activations βz up to some 1e4, where e^{βz} is beyond any float, and around 20, where
    # torch's default threshold would cost 4e-10.
    cells = Grid({"lr": 1.0, "alpha": 1.0}).cells
    nets = nets_of(cells, partial(TwoLayerNet, D, H, K), torch.float64)
    with torch.no_grad():
        nets[0].get_parameter("hidden.weight")[:3] *= 3e3
    assert deviation(
        together(cells, nets, HINGE, 3)[0].parameters, alone(cells[0], nets[0], HINGE, 3)
    ) < 1e-14  # fmt: skip


class Recomputed(nn.Module):
    """Its pass forward can be vmapped, its pass back can't."""

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = checkpoint(torch.tanh, x, use_reentrant=False)
        return output


@pytest.mark.parametrize("part", [nn.Dropout(0.5), spectral_norm(nn.Linear(4, 4)), Recomputed()])
def test_a_net_that_can_t_be_vmapped_is_refused_in_one_line(part: nn.Module) -> None:
    task = HINGE._replace(centering="none")
    cells = Grid({"lr": 0.1}).cells
    nets = [nn.Sequential(nn.Linear(D, 4), part, nn.Linear(4, K)).double()]
    with pytest.raises(InputError, match="can't be stacked .* in a multirun of single runs"):
        together(cells, nets, task, 2)


@pytest.mark.parametrize("kind", [TwoLayerStack, VmappedStack])
def test_a_loss_that_can_t_be_vmapped_is_refused_in_one_line(kind: Any) -> None:
    def loss(output: Tensor, target: Tensor) -> Tensor:
        return output.square().mean() * (1.0 if float(output.mean()) < 1 else 2.0)

    cells = Grid({"lr": 0.1}).cells
    nets = nets_of(cells, partial(TwoLayerNet, D, H, K), torch.float64)
    with pytest.raises(InputError, match="can't be stacked .* in a multirun of single runs"):
        together(cells, nets, HINGE._replace(loss=loss), 2, kind)


def test_a_fault_of_the_net_is_not_taken_for_one_of_stacking() -> None:
    cells = Grid({"lr": 0.1}).cells
    nets = [nn.Sequential(nn.Linear(D, 4), nn.Linear(5, K)).double()]
    with pytest.raises(RuntimeError, match="Expected size"):
        together(cells, nets, HINGE._replace(centering="none"), 2)
