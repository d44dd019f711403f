"""What a wheel holds."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_every_package_is_listed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {p.parent.relative_to(ROOT) for p in (ROOT / "lightning_lazy").rglob("__init__.py")}
    names = {".".join(folder.parts) for folder in folders} | {"lightning_lazy.callbacks"}
    assert set(settings["packages"]) == names


@pytest.mark.slow
def test_a_wheel_holds_the_callbacks(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.split():
        if name.startswith(("lightning_lazy/", "callbacks/", "pyproject.toml", "README.md")):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(tree)],
        check=True, capture_output=True,
    )  # fmt: skip
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    own = {f"lightning_lazy/callbacks/{path.name}" for path in (ROOT / "callbacks").glob("*.py")}
    assert own <= names
    assert "lightning_lazy/py.typed" in names
    assert not any(name.startswith(("callbacks/", "tests/")) for name in names)
