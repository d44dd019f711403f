"""What ranks measure of a net with running averages is of one function, that of rank 0.

Oracles: the same callbacks in one process on all samples, with the weights and buffers that rank 0
has at the end; the kernel by explicit Jacobians.
"""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from processes import run_apart

SCRIPT = Path(__file__).parent / "two_averages.py"
# Loss histories and verdicts on them are those of another training.
OF_THE_MOMENT = ("lazy/", "ntk/", "curvature/hessian", "l2/loss", "l2/error", "anneal/")

pytestmark = [pytest.mark.slow, pytest.mark.ddp]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the states of both ranks, and the metrics of one process and of both."""
    folder = tmp_path_factory.mktemp("averages")
    for devices in (2, 1):
        last = folder / f"metrics-{devices}-{devices - 1}.json"
        run_apart(SCRIPT, str(devices), str(folder), leaves=last)
    return folder


def metrics(folder: Path, devices: int, rank: int) -> dict[str, float]:
    found: dict[str, float] = json.loads((folder / f"metrics-{devices}-{rank}.json").read_text())
    return found


def state(folder: Path, rank: int) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(folder / f"state-{rank}.pt", weights_only=True)
    return found


def test_every_rank_has_its_own_averages_after_the_measurements(folder: Path) -> None:
    first, second = state(folder, 0), state(folder, 1)
    for name in ("layers.0.weight", "layers.3.weight"):
        assert torch.equal(first[name], second[name])
    for name in ("layers.1.mean", "layers.4.running_mean", "layers.4.running_var"):
        assert not torch.allclose(first[name], second[name], rtol=1e-3)


def test_two_processes_log_what_one_logs_of_the_function_of_rank_zero(folder: Path) -> None:
    one, first, second = (metrics(folder, *which) for which in ((1, 0), (2, 0), (2, 1)))
    assert first == second
    names = [name for name in one if name.startswith(OF_THE_MOMENT)]
    assert {name.split("/")[0] for name in names} == {"lazy", "ntk", "curvature", "l2", "anneal"}
    # Double precision; sums in another order. Error bars are differences of such sums.
    for name in names:
        assert first[name] == pytest.approx(one[name], rel=1e-9), name
    assert one["anneal/stage"] == 1
    assert one["lazy/activation_stability"] < 1


def test_the_kernel_is_that_of_rank_zeros_running_averages(folder: Path) -> None:
    spec = importlib.util.spec_from_file_location("two_averages", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    net = script.Averaging().double().eval()
    net.load_state_dict(state(folder, 0))
    x = script.points().tensors[0]
    parts = torch.func.jacrev(lambda w: torch.func.functional_call(net, w, (x,)))(
        dict(net.named_parameters())
    )
    jacobian = torch.cat([part.flatten(2) for part in parts.values()], dim=2).flatten(0, 1)
    values = torch.linalg.eigvalsh((jacobian @ jacobian.T).detach()) / 16
    found = metrics(folder, 2, 0)
    assert found["ntk/top1"] == pytest.approx(float(values[-1]), rel=1e-8)
    assert found["ntk/trace"] == pytest.approx(float(values.sum()), rel=1e-8)
    assert found["ntk/top1/monitor"] == pytest.approx(float(values[-1]), rel=1e-8)
