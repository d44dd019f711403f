"""Hessian eigenvalues and products against PyHessian, eigsh with curvlinops, and the gradient.

Nets: a VGG-like one of 0.31 M parameters, and ResNet-18 at a quarter of its width; float32, cross
entropy on 256 generated images of CIFAR's shape (ten smooth patterns in noise), after ten steps of
gradient descent, all in one process. Sides take turns and count with their fastest pass, since on a
shared machine the fastest is the least disturbed one.

- ``top5``: the five largest eigenvalues. PyHessian looks for those largest in magnitude, by power
  iteration with its own stopping rule (1e-3 between iterates); eigsh and this package stop at a
  relative residual of 1e-3. These two get the images in pieces of 64, this package keeps the graphs
  of all pieces, which together take the memory of one. PyHessian gets all images at once, since it
  keeps a graph only then. Errors are against this package at 1e-6.
- ``tracked``: products a check of the largest eigenvalue at a relative residual of 1e-3, along
  gradient descent, from a random vector, the last check's eigenvector, or that turned on by half of
  what it turned since the check before, as `HessianTopEigenvalues` does.
- ``routes``: time of a product, and peak of the resident memory above what the net and the data
  take, each in a process of its own, against a training step on the same micro-batch.

    pip install "lightning-lazy[bench]"
    python benchmarks/curvature.py [top5 tracked routes] [--net vgg] [--threads 2] [--repeats 2]

The kernel's measurements are in ``ntk.py``.
"""

import argparse
import importlib
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_lazy.curvature.functional import ModelFunction
from lightning_lazy.curvature.hessian import HessianOperator, Route
from lightning_lazy.curvature.lanczos import lanczos
from lightning_lazy.curvature.micro_batches import split_batch
from lightning_lazy.curvature.vectors import warm_start
from lightning_lazy.models import VGG, ResNet

ROUTES: tuple[Route, ...] = ("reverse", "kept_graph", "forward_over_reverse", "linearize")
K, TOLERANCE, IMAGES, PIECE, MICRO_BATCH, MANY = 5, 1e-3, 256, 64, 250, 2000
NETS: dict[str, Callable[[], nn.Module]] = {
    "vgg": lambda: VGG(3, 32, 10, plan=[32, "M", 64, "M", 112, 112, "M", 112, "M"]),
    "resnet": lambda: ResNet(3, 32, 10, width=0.25),
}
Batch = tuple[Tensor, Tensor]


def images(count: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    patterns = F.interpolate(torch.randn(10, 3, 4, 4, generator=generator), 32, mode="bilinear")
    labels = torch.randint(0, 10, (count,), generator=generator)
    return patterns[labels] + torch.randn(count, 3, 32, 32, generator=generator), labels


def pieces(batch: Batch) -> list[Batch]:
    """Split a batch so that activations fit the caches, and the allocator reuses their memory."""
    return list(zip(*(tensor.split(PIECE) for tensor in batch), strict=True))


def start(name: str) -> nn.Module:
    torch.manual_seed(0)
    return NETS[name]().eval()


def step(net: nn.Module, batch: Batch, lr: float) -> float:
    """Take a step of gradient descent and return the loss before it."""
    net.zero_grad()
    loss = F.cross_entropy(net(batch[0]), batch[1])
    loss.backward()
    with torch.no_grad():
        for p in net.parameters():
            p.sub_(p.grad, alpha=lr)
    net.zero_grad(set_to_none=True)
    return loss.item()


def warmed_up(name: str, batch: Batch) -> nn.Module:
    net = start(name)
    for _ in range(10):
        step(net, batch, lr=0.01)
    return net


def hessian(net: nn.Module, batches: list[Batch], route: Route = "auto") -> HessianOperator:
    model = ModelFunction(net, lambda m, batch: F.cross_entropy(m(batch[0]), batch[1]))
    weights = [len(y) / sum(len(y) for _, y in batches) for _, y in batches]
    return HessianOperator(model.at, model.current(), batches, weights=weights, route=route)


def ours(net: nn.Module, batch: Batch) -> tuple[np.ndarray, int]:
    result = lanczos(hessian(net, pieces(batch), "kept_graph"), K, tolerance=TOLERANCE)
    return result.values.numpy(), result.products


def eigsh_with_curvlinops(net: nn.Module, batch: Batch) -> tuple[np.ndarray, int]:
    from curvlinops import HessianLinearOperator
    from scipy.sparse.linalg import LinearOperator, eigsh

    parameters, loss = list(net.parameters()), nn.CrossEntropyLoss()
    data = pieces(batch)
    operator = HessianLinearOperator(net, loss, parameters, data, check_deterministic=False)
    scipy_operator = operator.to_scipy()
    count = 0

    def product(v: np.ndarray) -> np.ndarray:
        nonlocal count
        count += 1
        return scipy_operator @ v

    counted = LinearOperator(scipy_operator.shape, matvec=product, dtype=np.float32)
    v0 = np.random.default_rng(0).standard_normal(counted.shape[0]).astype(np.float32)
    return eigsh(counted, k=K, which="LA", tol=TOLERANCE, v0=v0)[0][::-1], count


def pyhessian_power_iteration(net: nn.Module, batch: Batch) -> tuple[np.ndarray, int]:
    peer = importlib.import_module("pyhessian.hessian")  # the package's attribute is the class
    count, product = 0, peer.hessian_vector_product

    def counted(*arguments: object) -> object:
        nonlocal count
        count += 1
        return product(*arguments)

    torch.manual_seed(0)
    peer.hessian_vector_product = counted
    try:
        values, _ = peer.hessian(net, nn.CrossEntropyLoss(), data=batch, cuda=False).eigenvalues(
            top_n=K
        )
    finally:
        peer.hessian_vector_product = product
        net.zero_grad(set_to_none=True)
    return np.array(values), count


def top5(name: str, repeats: int) -> None:
    batch = images(IMAGES)
    net = warmed_up(name, batch)
    sides = {
        "lightning_lazy": ours,
        "eigsh + curvlinops": eigsh_with_curvlinops,
        "PyHessian": pyhessian_power_iteration,
    }
    times: dict[str, float] = {}
    results: dict[str, tuple[np.ndarray, int]] = {}
    for _ in range(repeats):
        for side, compute in sides.items():
            begin = time.perf_counter()
            results[side] = compute(net, batch)
            took = time.perf_counter() - begin
            times[side] = min(times.get(side, took), took)
    exact = lanczos(hessian(net, [batch]), K, tolerance=1e-6).values.numpy()
    count = sum(p.numel() for p in net.parameters())
    print(f"\ntop {K} of {name}, {count:,} parameters: {np.round(exact, 3)}")
    print("| side | s | products | s a product | largest relative error | time / ours |")
    print("|---|---|---|---|---|---|")
    for side, (values, products) in results.items():
        error = np.abs(np.sort(values)[::-1] / exact - 1).max()
        print(
            f"| {side} | {times[side]:.1f} | {products} | {times[side] / products:.2f} "
            f"| {error:.1e} | {times[side] / times['lightning_lazy']:.1f} |",
            flush=True,
        )


def tracked(name: str, checks: int = 9, period: int = 5, lr: float = 0.01) -> None:
    batch = images(IMAGES)
    print(f"\ntop 1 of {name} tracked over {checks * period} steps, a check every {period}")
    print("| start | products of each check | mean after the first | goal |")
    print("|---|---|---|---|", flush=True)
    for side in ("random", "the last eigenvector", "warm_start, as the callback"):
        net, vectors, start_at, counts = warmed_up(name, batch), None, None, []
        for check in range(checks):
            operator = hessian(net, [batch])
            result = lanczos(
                operator, start=start_at, tolerance=TOLERANCE, eigenvectors=True, seed=check
            )
            counts.append(result.products)
            if side != "random":
                last = vectors if side.startswith("warm_start") else None
                start_at = warm_start(result.vectors, last)
            vectors = result.vectors
            for _ in range(period):
                step(net, batch, lr)
        print(f"| {side} | {counts} | {np.mean(counts[1:]):.1f} | 6 |", flush=True)


def routes(name: str, repeats: int) -> None:
    net, batch = start(name), images(MICRO_BATCH)
    sides: dict[str, Callable[[], object]] = {"training step": lambda: step(net, batch, 0.0)}
    builds: dict[str, float] = {}
    vector = torch.ones(sum(p.numel() for p in net.parameters()))
    for route in ROUTES:
        operator = hessian(net, [batch], route)
        begin = time.perf_counter()
        operator(vector)
        builds[route] = time.perf_counter() - begin
        sides[route] = lambda operator=operator: operator(vector)
    times = {side: min(seconds(run) for _ in range(repeats + 1)) for side, run in sides.items()}
    plain, plain_peak = times["training step"], peak(name, "training step", MICRO_BATCH)
    print(f"\nproducts with {name} on {MICRO_BATCH} images")
    print("| route | first, s | then, s | / training step | peak, MB | / training step |")
    print("|---|---|---|---|---|---|")
    print(f"| training step | | {plain:.2f} | 1 | {plain_peak:.0f} | 1 |", flush=True)
    for route in ROUTES:
        high = peak(name, route, MICRO_BATCH)
        print(
            f"| {route} | {builds[route]:.2f} | {times[route]:.2f} | {times[route] / plain:.1f} "
            f"| {high:.0f} | {high / plain_peak:.1f} |",
            flush=True,
        )
    print(f"\none product over {MANY} images, auto, against the training step on {MICRO_BATCH}")
    print("| images at once | peak, MB | / training step | goal |")
    print("|---|---|---|---|")
    for at_once, goal in ((MICRO_BATCH, 3.2), (MICRO_BATCH // 3, 1.2)):
        high = peak(name, "auto", at_once, MANY)
        print(f"| {at_once} | {high:.0f} | {high / plain_peak:.2f} | {goal} |", flush=True)


def seconds(side: Callable[[], object]) -> float:
    begin = time.perf_counter()
    side()
    return time.perf_counter() - begin


def peak(name: str, side: str, at_once: int, count: int = MICRO_BATCH) -> float:
    """Return the peak memory of a side in MB, measured in a process of its own."""
    command = [sys.executable, __file__, "--net", name, "--peak", side, str(at_once), str(count)]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed is given back
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(output.stdout.split()[-1])


def print_peak(name: str, side: str, at_once: int, count: int) -> None:
    torch.set_num_threads(1)
    net, batch = start(name), images(count)
    vector = torch.ones(sum(p.numel() for p in net.parameters()))

    def run(batches: list[Batch]) -> None:
        if side == "training step":
            step(net, batches[0], 0.0)
        else:
            operator = hessian(net, batches, side)
            for _ in range(2):
                operator(vector)

    small = (batch[0][:2], batch[1][:2])
    run([small, small] if count > at_once else [small])  # libraries load their parts
    before = resident("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # begins the peak anew
    run(split_batch(batch, at_once))
    print((resident("VmHWM") - before) / 1e3)


def resident(entry: str) -> float:
    """Return a memory entry of this process in kB."""
    with open("/proc/self/status") as file:
        return next(float(line.split()[1]) for line in file if line.startswith(entry))


def main() -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["top5", "tracked", "routes"])
    parser.add_argument("--net", choices=NETS, default="vgg")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.peak:
        side, at_once, count = options.peak
        print_peak(options.net, side, int(at_once), int(count))
        return
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {platform.machine()}, {options.threads} thread(s)")
    for part in options.parts:
        if part == "tracked":
            tracked(options.net)
        else:
            {"top5": top5, "routes": routes}[part](options.net, options.repeats)


if __name__ == "__main__":
    main()
