"""κ = ‖h(w) − y*‖ ‖D²h(w)‖ / ‖Dh(w)‖², held against dense float64 computations and closed forms."""

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import hessian, jacrev

from lightning_lazy import InputError, ScaledModel
from lightning_lazy.curvature.functional import ModelFunction, Parameters
from lightning_lazy.curvature.relative_scale import RelativeScale, relative_scale

Function = Callable[[Parameters, Tensor], Tensor]
PRECISE: dict[str, Any] = {"tolerance": 1e-5, "iterations": 2000, "starts": 4}
# For identities that hold at every step: both sides take the same ones.
SHORT: dict[str, Any] = {"iterations": 15, "starts": 2}


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def units(w: Parameters, x: Tensor) -> Tensor:
    """Return Σ_j a_j softplus(b_j·x), one output."""
    return nn.functional.softplus(x @ w["b"].T) @ w["a"].unsqueeze(1)


def deep(w: Parameters, x: Tensor) -> Tensor:
    return torch.tanh(torch.tanh(x @ w["0"]) @ w["1"]) @ w["2"]


def deep_weights(outputs: int) -> Parameters:
    return {"0": draw(3, 2), "1": draw(2, 2, seed=1), "2": draw(2, outputs, seed=2)}


def measure(function: Function, w: Parameters, x: Tensor, y: Tensor, **options: Any) -> Any:
    return relative_scale(function, w, [x], [y], **options)


def flat(function: Function, w: Parameters, x: Tensor) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """Return h as a map from one vector of parameters to one of outputs, and the vector w."""
    sizes = [p.numel() for p in w.values()]

    def h(vector: Tensor) -> Tensor:
        parts = zip(w.items(), vector.split(sizes), strict=True)
        return function({n: part.view_as(p) for (n, p), part in parts}, x).flatten()

    return h, torch.cat([p.flatten() for p in w.values()])


def brute_force_second(
    function: Function, w: Parameters, x: Tensor, directions: Tensor, chunk: int = 10_000
) -> float:
    """Return max over the given unit z of the largest |eigenvalue| of the dense D²⟨z, h⟩.

    Where every unit vector is within an angle r of some ±z, it is between cos(r) ‖D²h‖ and ‖D²h‖,
    as ⟨z, D²h[u, u]⟩ = cos(r) ‖D²h[u, u]‖.
    """
    h, vector = flat(function, w, x)
    dense = hessian(h)(vector)
    spectra = [
        torch.linalg.eigvalsh(torch.einsum("zo,oij->zij", part, dense))
        for part in directions.split(chunk)
    ]
    return float(torch.cat(spectra).abs().max())


def half_circle(points: int = 2000) -> Tensor:
    angle = torch.arange(points, dtype=torch.float64) * (math.pi / points)
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def half_sphere(rings: int = 50) -> Tensor:
    """Return a grid of latitudes and longitudes, π/(2·rings) apart at most."""
    step = math.pi / (2 * rings)
    latitude = torch.arange(rings + 1, dtype=torch.float64) * step
    longitude = torch.arange(4 * rings, dtype=torch.float64) * step
    across, up = latitude.cos(), latitude.sin()
    x, y = across[:, None] * longitude.cos(), across[:, None] * longitude.sin()
    return torch.stack([x, y, up[:, None].expand_as(x)], dim=-1).flatten(0, 1)


@pytest.mark.parametrize("outputs", [1, 3])
def test_norm_of_the_differential_is_the_top_singular_value_of_the_jacobian(outputs: int) -> None:
    w, x = deep_weights(outputs), draw(7, 3, seed=3)
    h, vector = flat(deep, w, x)
    expected = float(torch.linalg.svdvals(jacrev(h)(vector))[0])
    y = torch.zeros(7, outputs)
    exact = measure(deep, w, x, y, **(PRECISE | {"starts": 1}))
    # The value is off by the square of the residual, which is 1e-5, over the gap.
    assert exact.converged
    assert exact.differential == pytest.approx(expected, rel=1e-8)
    rough = measure(deep, w, x, y, tolerance=0.05, starts=1)
    assert 1e-9 < expected - rough.differential < rough.differential_error
    assert rough.differential_error < 0.05 * expected


@pytest.mark.parametrize("seed", range(3))
def test_norm_of_the_second_differential_of_two_outputs_is_that_of_a_search_over_z(
    seed: int,
) -> None:
    # The grid is at most 8e-4 away from any z, so the search is below the norm by at most 3.1e-7.
    w, x = deep_weights(2), draw(1, 3, seed=seed)
    expected = brute_force_second(deep, w, x, half_circle())
    result = measure(deep, w, x, torch.zeros(1, 2), **PRECISE)
    assert result.converged
    assert result.second == pytest.approx(expected, rel=4e-7)
    assert max(result.second_values) == result.second


def test_norm_of_the_second_differential_of_three_samples_is_that_of_a_search_over_z() -> None:
    # The grid is at most 0.0223 away from any z, so the search is below by at most 2.5e-4.
    w, x = deep_weights(1), draw(3, 3, seed=3)
    expected = brute_force_second(deep, w, x, half_sphere())
    result = measure(deep, w, x, torch.zeros(3, 1), **PRECISE)
    assert 0 <= result.second / expected - 1 < 2.5e-4


def test_second_differential_of_two_layers_is_the_largest_block_of_a_unit() -> None:
    # For any z, D²⟨z, h⟩ is block diagonal over the units (no two multiply each other), so its norm
    # is that of a block, and the supremum over z is taken unit by unit. Two samples: z on a circle.
    w, x = {"a": draw(24), "b": draw(24, 3, seed=1)}, draw(2, 3, seed=2)
    blocks = [{"a": w["a"][j : j + 1], "b": w["b"][j : j + 1]} for j in range(24)]
    expected = [brute_force_second(units, block, x, half_circle(1000)) for block in blocks]
    result = measure(units, w, x, torch.zeros(2, 1), starts=12, tolerance=1e-4, iterations=1000)
    # A relative residual of 1e-4 leaves an error of order 1e-8 over the gap, which is small here.
    assert result.second == pytest.approx(max(expected), rel=1e-4)
    # The searches are below by at most 1.3e-6, with a grid of 1000 points.
    assert max(result.second_values) <= max(expected) * (1 + 2e-6)


def test_one_sample_and_relu_units_have_a_closed_form() -> None:
    # h = Σ a_j max(b_j·x, 0): D²h[u, u] = 2 Σ α_j β_j·x over the active units, at most ‖x‖ on the
    # unit sphere; ‖Dh‖² = Σ over the active units of (b_j·x)² + a_j²‖x‖².
    w, x, y = {"a": draw(9), "b": draw(9, 4, seed=1)}, draw(1, 4, seed=2), draw(1, 1, seed=3)

    def relu_units(w: Parameters, x: Tensor) -> Tensor:
        return torch.relu(x @ w["b"].T) @ w["a"].unsqueeze(1)

    inner = (w["b"] @ x[0]).clamp(min=0)
    first = inner.square().sum() + (w["a"].square() * (inner > 0)).sum() * x.square().sum()
    distance = (inner @ w["a"] - y).abs()
    result = measure(relu_units, w, x, y, **PRECISE)
    assert result.second == pytest.approx(float(x.norm()), rel=1e-10)
    assert result.kappa == pytest.approx(float(distance * x.norm() / first), rel=1e-10)


def test_the_value_never_falls_from_step_to_step() -> None:
    # Two layers: ±λ come in nearly equal pairs, where plain power steps oscillate.
    w, x = {"a": draw(6), "b": draw(6, 3, seed=1)}, draw(4, 3, seed=2)
    paths = [
        measure(units, w, x, torch.zeros(4, 1), starts=3, iterations=steps, tolerance=1e-12)
        for steps in range(1, 13)
    ]
    for before, after in zip(paths, paths[1:], strict=False):
        assert before.differential <= after.differential * (1 + 1e-14)
        # The first value starts from the singular vector, which changes with the steps.
        for low, high in zip(before.second_values[1:], after.second_values[1:], strict=True):
            assert low <= high * (1 + 1e-14)
    assert not paths[-1].converged


@pytest.mark.parametrize("layers", [2, 3])
def test_a_homogeneous_net_follows_the_formula_of_the_paper(layers: int) -> None:
    # Closed form, §1.2: κ(λw) = ‖λ^q h(w) − y‖ ‖D²h(w)‖ / (λ^q ‖Dh(w)‖²), q the number of layers.
    # The same starts take the same steps at both w, so only rounding is left.
    w = {str(i): draw(4, 4, seed=i) for i in range(layers)}
    x, y, factor = draw(5, 4, seed=7), draw(5, 4, seed=8), 3.0

    def relu_net(w: Parameters, x: Tensor) -> Tensor:
        for i in range(layers):
            x = (torch.relu(x) if i else x) @ w[str(i)]
        return x

    base = measure(relu_net, w, x, y, **SHORT)
    scaled = measure(relu_net, {name: factor * p for name, p in w.items()}, x, y, **SHORT)
    power = factor**layers
    distance = float((power * relu_net(w, x) - y).norm())
    expected = distance * base.second / (power * base.differential**2)
    assert scaled.kappa == pytest.approx(expected, rel=1e-9)


def test_a_scaled_model_follows_the_formula_and_falls_like_one_over_alpha_if_centred() -> None:
    # Closed form, §1.2: κ_{αh} = (1/α) ‖αh − y‖ ‖D²h‖/‖Dh‖². As above, only rounding is left.
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Softplus(), nn.Linear(8, 2)).double()
    x, y = draw(6, 4), draw(6, 2, seed=1)
    output = net(x).detach()

    def kappa(alpha: float, centering: Any) -> RelativeScale:
        model = ModelFunction(ScaledModel(net, alpha, centering), lambda m, batch: m(batch))
        return relative_scale(model.at, model.current(), [x], [y], **SHORT)

    base = kappa(1.0, "none")
    ratio = base.second / base.differential**2
    centred = kappa(1.0, "subtract").kappa
    for alpha in (0.1, 1e5):
        expected = float((alpha * output - y).norm()) * ratio / alpha
        assert kappa(alpha, "none").kappa == pytest.approx(expected, rel=1e-9)
        assert kappa(alpha, "subtract").kappa == pytest.approx(centred / alpha, rel=1e-9)


def test_a_common_factor_of_the_outputs_norm_does_not_matter() -> None:
    w, x, y = deep_weights(2), draw(5, 3), draw(5, 2, seed=1)
    norm = 5**-0.5
    mean = measure(lambda w, x: norm * deep(w, x), w, x, norm * y, **SHORT)
    assert mean.kappa == pytest.approx(measure(deep, w, x, y, **SHORT).kappa, rel=1e-10)


def two_layer_kappa(width: int, alpha: float, seed: int) -> float:
    """Return κ of α Σ a_j tanh(b_j·x), a_j = ±1 and b_j on the sphere, so that E h = 0."""
    generator = torch.Generator().manual_seed(seed)
    b = torch.randn(width, 3, dtype=torch.float64, generator=generator)
    a = torch.randint(0, 2, (width,), generator=generator).double() * 2 - 1
    w = {"a": a, "b": b / b.norm(dim=1, keepdim=True)}

    def h(w: Parameters, x: Tensor) -> Tensor:
        return alpha * (torch.tanh(x @ w["b"].T) @ w["a"])

    x, y = draw(4, 3, seed=1), torch.ones(4, dtype=torch.float64)
    return measure(h, w, x, y, starts=1, tolerance=0.1).kappa


@pytest.mark.parametrize(("power", "slope"), [(-0.5, -0.5), (-1.0, 0.0)])
def test_wide_nets_of_two_layers_follow_the_bound_of_the_paper(power: float, slope: float) -> None:
    # E[κ] ≲ m^{-1/2} + (m α(m))^{-1}, §1.2: lazier with the width for α = m^{-1/2}, not for 1/m.
    # Means over eight seeds scatter by some 10%, which over a factor 64 in m moves a slope by 0.05.
    widths = [32, 256, 2048]
    logs = []
    for m in widths:
        values = [two_layer_kappa(m, m**power, seed) for seed in range(8)]
        logs.append(math.log(sum(values) / len(values)))
    x = torch.tensor(widths).double().log()
    y = torch.tensor(logs).double()
    fitted = float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())
    assert fitted == pytest.approx(slope, abs=0.1)


def test_micro_batches_give_the_result_of_one_batch() -> None:
    w, x, y = deep_weights(2), draw(7, 3), draw(7, 2, seed=1)
    parts = relative_scale(deep, w, x.split(3), y.split(3), **SHORT)
    whole = measure(deep, w, x, y, **SHORT)
    assert parts.iterations == whole.iterations
    assert parts.kappa == pytest.approx(whole.kappa, rel=1e-10)


def test_ranks_with_batches_of_their_own_get_the_result_of_the_union() -> None:
    # Three ranks, one of them without a sample, as threads that take turns at every reduction.
    w, x, y = deep_weights(2), draw(7, 3), draw(7, 2, seed=1)
    shares = [(x[:4].split(2), y[:4].split(2)), ((), ()), ((x[4:],), (y[4:],))]
    baton, waiting, sums = threading.Condition(), [], []
    results: dict[int, RelativeScale] = {}

    def reduce(value: Tensor) -> Tensor:
        round_ = len(sums)
        waiting.append(value)
        if len(waiting) == len(shares):
            sums.append(torch.stack(waiting).sum(dim=0))
            waiting.clear()
            baton.notify_all()
        elif not baton.wait_for(lambda: len(sums) > round_, timeout=60):
            raise TimeoutError
        return sums[round_].clone()

    def rank(i: int) -> None:
        with baton:
            results[i] = relative_scale(deep, w, *shares[i], **SHORT, reduce=reduce)

    threads = [threading.Thread(target=rank, args=(i,)) for i in range(len(shares))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1] == results[2]
    whole = measure(deep, w, x, y, **SHORT)
    assert results[0].iterations == whole.iterations
    assert results[0].kappa == pytest.approx(whole.kappa, rel=1e-10)


def test_single_precision_agrees_with_double() -> None:
    # Errors of float32 (6e-8) through 15 passes.
    w, x, y = deep_weights(2), draw(5, 3), draw(5, 2, seed=1)
    single = measure(deep, {n: p.float() for n, p in w.items()}, x.float(), y.float(), **SHORT)
    assert single.kappa == pytest.approx(measure(deep, w, x, y, **SHORT).kappa, rel=1e-4)


def test_an_operation_without_forward_mode_is_differentiated_in_reverse() -> None:
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(x: Tensor) -> Tensor:
            return x**3

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return 3 * x**2 * gradient

    w, x, y = {"w": draw(3, 2)}, draw(4, 3, seed=1), draw(4, 2, seed=2)
    own = measure(lambda w, x: Cube.apply(x @ w["w"]), w, x, y, **SHORT)
    assert own.kappa == pytest.approx(
        measure(lambda w, x: (x @ w["w"]) ** 3, w, x, y, **SHORT).kappa, rel=1e-10
    )


def test_a_linear_net_has_no_second_differential() -> None:
    result = measure(lambda w, x: x @ w["w"], {"w": draw(3, 2)}, draw(4, 3), draw(4, 2))
    assert (result.kappa, result.second, result.converged) == (0.0, 0.0, True)


def test_kappa_is_infinite_where_the_differential_vanishes() -> None:
    w = {"a": torch.zeros(5).double(), "b": torch.zeros(5, 3).double()}
    x, y = draw(4, 3), draw(4, 1)
    result = measure(lambda w, x: torch.tanh(x @ w["b"].T) @ w["a"][:, None], w, x, y)
    # D²h[u, u] = 2 Σ α_j β_j·x: the norm is the top singular value of the inputs.
    assert result.second == pytest.approx(float(torch.linalg.svdvals(x)[0]), rel=1e-3)
    assert (result.differential, result.kappa) == (0.0, math.inf)


def test_parameters_that_are_not_finite_give_nan() -> None:
    w = {name: p * math.nan for name, p in deep_weights(2).items()}
    result = measure(deep, w, draw(4, 3), draw(4, 2), starts=1)
    assert math.isnan(result.kappa)
    assert not result.converged


def test_nothing_is_left_behind() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    model = ModelFunction(net, lambda m, batch: m(batch))
    before = torch.get_rng_state()
    x, y = torch.ones(2, 3), torch.ones(2, 2)
    first = relative_scale(model.at, dict(net.named_parameters(prefix="")), [x], [y], starts=1)
    assert torch.equal(before, torch.get_rng_state())
    assert all(p.grad is None for p in net.parameters())
    torch.rand(1)
    assert first == relative_scale(model.at, model.current(), [x], [y], starts=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"starts": 0}, "starts must be an integer of at least 1"),
        ({"iterations": 0}, "iterations must be an integer of at least 1"),
        ({"tolerance": 0.0}, "tolerance must be finite and above 0"),
        ({"parameters": {}}, "parameters must not be empty"),
        ({"targets": []}, "expected a target for each of 1 batches, got 0"),
        ({"targets": [torch.ones(4)]}, r"the outputs \[4, 2\], got \[4\]"),
        ({"batches": [], "targets": []}, "at least one sample"),
    ],
)
def test_bad_input_gets_one_clear_line(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "function": deep,
        "parameters": deep_weights(2),
        "batches": [draw(4, 3)],
        "targets": [draw(4, 2)],
    }
    with pytest.raises(InputError, match=message):
        relative_scale(**(arguments | changes))
