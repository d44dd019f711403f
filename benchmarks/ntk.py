"""The tangent kernel of a VGG-like net of 0.3 M parameters on 200 images with 10 outputs.

Against the Jacobian contraction that PyTorch's tutorial "Neural Tangent Kernels" describes, written
anew here: ``vmap(jacrev)`` over the images, then an ``einsum`` over every parameter. All in float32
on random images of CIFAR's shape. Every run has a process of its own, which prints its time and
that of its threads (without imports, after a small warming up) and its peak memory, ``ru_maxrss``,
less that before the run. Sides take turns; each counts with its fastest run, since on a shared
machine the fastest is the least disturbed one, and with its largest peak. The kernels must agree.

    python benchmarks/ntk.py [--threads 2] [--repeats 3] [--outputs full]
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import functional_call, jacrev, vmap

from lightning_lazy.curvature.functional import ModelFunction
from lightning_lazy.curvature.ntk import tangent_kernel
from lightning_lazy.models import VGG

IMAGES, BATCH, OUTPUTS = 200, 25, 10
PLAN = [32, "M", 64, "M", 112, 112, "M", 112, "M"]


def contraction(net: VGG, x: Tensor, outputs: str) -> Tensor:
    """Return the kernel from the Jacobians of all images at once, one product a parameter."""
    weights = {name: p.detach() for name, p in net.named_parameters()}

    def of_image(w: dict[str, Tensor], image: Tensor) -> Tensor:
        return functional_call(net, w, (image[None],))[0]

    jacobians = vmap(jacrev(of_image), in_dims=(None, 0))(weights, x)
    rows = (j.flatten(2) for j in jacobians.values())
    axes = "iap,jap->ij" if outputs == "sum" else "iap,jbp->ijab"
    return sum(torch.einsum(axes, j, j) for j in rows)


def ours(route: str) -> Callable[[VGG, Tensor, str], Tensor]:
    def kernel(net: VGG, x: Tensor, outputs: str) -> Tensor:
        function = ModelFunction(net, lambda module, batch: module(batch))
        batches = list(torch.split(x, BATCH))
        return tangent_kernel(
            function.at, function.current(), batches, outputs=outputs, route=route
        )

    return kernel


SIDES = {"tutorial": contraction, "route auto": ours("auto"), "route jacobian": ours("jacobian")}


def measure(name: str, outputs: str, threads: int) -> None:
    """Run one side and print its numbers as a line of JSON."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    net = VGG(3, 32, OUTPUTS, plan=PLAN)
    x = torch.randn(IMAGES, 3, 32, 32)
    SIDES[name](net, x[:4], outputs)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, used = time.perf_counter(), time.process_time()
    kernel = SIDES[name](net, x, outputs)
    seconds, used = time.perf_counter() - start, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if name == "tutorial" and outputs == "full":
        kernel = kernel.permute(0, 2, 1, 3).reshape(IMAGES * OUTPUTS, -1)
    probes = torch.randn(len(kernel), 3, generator=torch.Generator().manual_seed(1))
    times = {"s": seconds, "cpu": used, "MB": (peak - before) / 1024}
    print(json.dumps(times | {"probes": (kernel @ probes).T.tolist()}))


def main() -> None:
    """Print a row a side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--outputs", choices=("full", "sum"), default="full")
    parser.add_argument("--side", choices=SIDES, help="run one side in this process")
    options = parser.parse_args()
    if options.side:
        return measure(options.side, options.outputs, options.threads)
    command = [sys.executable, __file__, "--threads", str(options.threads)]
    command += ["--outputs", options.outputs]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in SIDES}
    for _ in range(options.repeats):
        for name in SIDES:
            done = subprocess.run(
                [*command, "--side", name], check=True, capture_output=True, text=True
            )
            runs[name].append(json.loads(done.stdout.splitlines()[-1]))
    size = sum(p.numel() for p in VGG(3, 32, OUTPUTS, plan=PLAN).parameters())
    print(f"torch {torch.__version__}, {platform.machine()}, {options.threads} thread(s)")
    print(f"{IMAGES} images, {OUTPUTS} outputs, {size} parameters, outputs={options.outputs}")
    print("| | s | times faster | CPU s | times less | peak, MB | relative difference |")
    print("|---|---|---|---|---|---|---|")
    reference = torch.tensor(runs["tutorial"][0]["probes"])
    base = {key: min(run[key] for run in runs["tutorial"]) for key in ("s", "cpu")}
    for name, found in runs.items():
        best = {key: min(run[key] for run in found) for key in base}
        peak = max(run["MB"] for run in found)
        gap = (torch.tensor(found[0]["probes"]) - reference).abs().max() / reference.abs().max()
        columns = [f"{best[key]:.2f} | {base[key] / best[key]:.1f}" for key in base]
        print(f"| {name} | {' | '.join(columns)} | {peak:.0f} | {gap:.0e} |")
    return None


if __name__ == "__main__":
    main()
