"""What ranks measure of a net with running averages is of one function, that of rank 0.

Oracle: the kernel by explicit Jacobians, with the weights and buffers that rank 0 has at the end.
"""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from processes import run_apart

SCRIPT = Path(__file__).parent / "two_averages.py"


@pytest.mark.slow
@pytest.mark.ddp
def test_the_kernel_is_that_of_rank_zeros_running_averages(tmp_path: Path) -> None:
    run_apart(SCRIPT, str(tmp_path), leaves=tmp_path / "metrics.json")
    spec = importlib.util.spec_from_file_location("two_averages", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    net = script.Averaging().double().eval()
    net.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    x = script.points().tensors[0]
    parts = torch.func.jacrev(lambda w: torch.func.functional_call(net, w, (x,)))(
        dict(net.named_parameters())
    )
    jacobian = torch.cat([part.flatten(2) for part in parts.values()], dim=2).flatten(0, 1)
    values = torch.linalg.eigvalsh((jacobian @ jacobian.T).detach()) / 16
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["ntk/top1"] == pytest.approx(float(values[-1]), rel=1e-8)
    assert found["ntk/trace"] == pytest.approx(float(values.sum()), rel=1e-8)
    assert found["ntk/top1/monitor"] == pytest.approx(float(values[-1]), rel=1e-8)
