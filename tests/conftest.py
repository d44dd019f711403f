"""What all tests share: small runs that leave no trace."""

import os
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put experiments first, from the last file on, which takes longest: no worker ends with it."""

    def rank(item: pytest.Item) -> str:
        return item.path.name if item.path.name.startswith("test_experiments") else ""

    items.sort(key=rank, reverse=True)


@pytest.fixture(autouse=True)
def _leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore the environment, the random state, the default dtype and the thread count."""
    environment = dict(os.environ)
    state, dtype, threads = torch.get_rng_state(), torch.get_default_dtype(), 1
    torch.set_num_threads(threads)
    monkeypatch.setenv("WANDB_MODE", "offline")
    yield
    torch.set_rng_state(state)
    torch.set_default_dtype(dtype)
    os.environ.clear()
    os.environ.update(environment)


@pytest.fixture
def data_root() -> Path:
    """The folder with real images; the test is skipped where there is none."""
    root = Path(os.environ.get("LIGHTNING_LAZY_DATA", "data"))
    if not (root / "MNIST").is_dir():
        pytest.skip(f"no real images in {root.resolve()}: set LIGHTNING_LAZY_DATA")
    return root.resolve()


@pytest.fixture
def cifar_folder(data_root: Path) -> Path:
    """CIFAR-10 as a folder of images; the test is skipped where there is none."""
    folder = data_root / "cifar10_jpeg"
    if not folder.is_dir():
        pytest.skip(f"no CIFAR-10 images in {folder}: set LIGHTNING_LAZY_DATA")
    return folder


@pytest.fixture
def train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run ``train.py`` in this process, in an empty folder; return what it printed.

    A run that ends with an error raises `SystemExit`, whose value is what goes to stderr.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def run(*overrides: str) -> str:
        from hydra.core.global_hydra import GlobalHydra

        GlobalHydra.instance().clear()
        os.environ.pop("HYDRA_FULL_ERROR", None)
        monkeypatch.setattr(sys, "argv", [str(ROOT / "train.py"), *overrides])
        capsys.readouterr()
        runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
        return capsys.readouterr().out

    return run
