"""State, groups, closures and bad options of the optimizers. Oracle: the uninterrupted run."""

import copy
import math
import pickle
from functools import partial

import pytest
import torch
from torch import nn

from lightning_lazy.errors import InputError
from lightning_lazy.optim import ScaledAdam, ScaledRMSprop

BUILDS = {
    "rmsprop": partial(ScaledRMSprop, lr=0.03, alpha=7.0),
    "adam": partial(ScaledAdam, lr=0.03, alpha=7.0),
}
by_name = pytest.mark.parametrize("name", BUILDS)


def _params(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [
        nn.Parameter(torch.randn(shape, dtype=dtype, generator=generator)) for shape in [(4, 3), 5]
    ]


def _step(params, optimizer, step):
    for index, param in enumerate(params):
        seed = torch.Generator().manual_seed(10 * step + index)
        param.grad = torch.randn(param.shape, dtype=param.dtype, generator=seed)
    optimizer.step()


@by_name
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saved_and_resumed_is_uninterrupted(name, dtype, tmp_path):
    params = _params(dtype)
    optimizer = BUILDS[name](params)
    for step in range(5):
        _step(params, optimizer, step)
    torch.save({"params": params, "state": optimizer.state_dict()}, tmp_path / "state.pt")
    for step in range(5, 10):
        _step(params, optimizer, step)

    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed = [nn.Parameter(param.detach().clone()) for param in saved["params"]]
    second = {"rmsprop": ScaledRMSprop, "adam": ScaledAdam}[name](resumed, lr=1.0)
    second.load_state_dict(saved["state"])
    assert second.param_groups[0]["alpha"] == 7.0
    for step in range(5, 10):
        _step(resumed, second, step)
    for param, other in zip(params, resumed, strict=True):
        assert torch.equal(param, other)


@by_name
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_and_pickles(name, duplicate):
    params = _params()
    optimizer = BUILDS[name](params)
    _step(params, optimizer, 0)
    params2, optimizer2 = duplicate((params, optimizer))
    _step(params, optimizer, 1)
    _step(params2, optimizer2, 1)
    assert torch.equal(params[0], params2[0])


@by_name
def test_groups_have_options_of_their_own(name):
    params, alone = _params(), _params()
    optimizer = BUILDS[name](
        [{"params": params[:1], "alpha": 2.0}, {"params": params[1:], "lr": 0.1, "eps": 1e-3}]
    )
    singles = [BUILDS[name](alone[:1], alpha=2.0), BUILDS[name](alone[1:], lr=0.1, eps=1e-3)]
    for step in range(3):
        _step(params, optimizer, step)
        _step(alone, singles[0], step)
        singles[1].step()
    assert torch.equal(params[0], alone[0])
    assert torch.equal(params[1], alone[1])


@by_name
@pytest.mark.parametrize("foreach", [None, False])
def test_parameters_without_gradient_stay_and_count_no_step(name, foreach):
    params, alone = _params(), _params()
    optimizer = BUILDS[name](params, foreach=foreach)
    optimizer.step()
    assert torch.equal(params[0], alone[0])
    single = BUILDS[name](alone[1:])
    for step in range(6):
        for group in (params, alone):
            seed = torch.Generator().manual_seed(step)
            group[0].grad = torch.ones_like(group[0])
            group[1].grad = torch.randn(5, dtype=torch.float64, generator=seed)
        if step % 2:
            params[1].grad = None
        else:
            single.step()
        optimizer.step()
    assert torch.equal(params[1], alone[1])


@by_name
def test_mixed_dtypes_in_one_group(name):
    params = [nn.Parameter(torch.ones(3, dtype=dtype)) for dtype in (torch.float32, torch.float64)]
    optimizer = BUILDS[name](params)
    for _ in range(3):
        for param in params:
            param.grad = torch.full_like(param, 0.25)
        optimizer.step()
    assert [param.dtype for param in params] == [torch.float32, torch.float64]
    torch.testing.assert_close(params[0].double(), params[1], rtol=1e-6, atol=0)


@by_name
def test_closure(name):
    param = nn.Parameter(torch.tensor(1.0))
    optimizer = BUILDS[name]([param])

    def closure():
        optimizer.zero_grad()
        loss = param.square()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 1.0
    assert param < 1.0
    assert optimizer.step() is None


@by_name
def test_lr_zero_moves_nothing_and_named_parameters_are_taken(name):
    net = nn.Linear(3, 2)
    before = copy.deepcopy(net.state_dict())
    optimizer = BUILDS[name](net.named_parameters(), lr=0)
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]


@by_name
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -0.1}, r"lr must lie in \[0, inf\), got -0.1"),
        ({"lr": math.nan}, r"lr must lie in \[0, inf\), got nan"),
        ({"alpha": 0}, r"alpha must lie in \(0, inf\), got 0"),
        ({"alpha": -1.0}, r"alpha must lie in \(0, inf\), got -1.0"),
        ({"alpha": math.inf}, r"alpha must lie in \(0, inf\), got inf"),
        ({"eps": -1e-8}, r"eps must lie in \[0, inf\), got -1e-08"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(InputError, match=message):
        BUILDS[name](_params(), **options)
    with pytest.raises(InputError, match=message):
        BUILDS[name]([{"params": _params(), **options}])


@pytest.mark.parametrize("rho", [1.0, -0.1])
def test_bad_rho(rho):
    with pytest.raises(InputError, match=r"rho must lie in \[0, 1\), got"):
        ScaledRMSprop(_params(), 0.1, rho=rho)


@pytest.mark.parametrize(
    ("betas", "message"),
    [
        ((0.9, 1.0), r"betas must lie in \[0, 1\), got 1.0"),
        ((-0.1, 0.9), r"betas must lie in \[0, 1\), got -0.1"),
        ((0.9,), r"betas must be two numbers, got \(0.9,\)"),
        (0.9, "betas must be two numbers, got 0.9"),
    ],
)
def test_bad_betas(betas, message):
    with pytest.raises(InputError, match=message):
        ScaledAdam(_params(), 0.1, betas=betas)


@by_name
def test_complex_parameters_and_sparse_gradients_are_refused(name):
    with pytest.raises(InputError, match="needs real parameters, got complex ones"):
        BUILDS[name]([nn.Parameter(torch.zeros(2, dtype=torch.complex64))])
    embedding = nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(InputError, match="needs dense gradients, got a sparse one"):
        BUILDS[name](embedding.parameters()).step()
