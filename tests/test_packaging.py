"""What is released: a wheel, a source distribution, and what they say of themselves."""

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

ROOT = Path(__file__).parent.parent
FOLDERS = ("benchmarks", "callbacks", "conf", "docs", "examples", "lightning_lazy", "tests")
FILES = (
    ".ci/run", ".gitignore", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "MANIFEST.in",
    "README.md", "constraints.txt", "mkdocs.yml", "pyproject.toml", "sweep.yaml", "train.py",
)  # fmt: skip


def settings() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def tool(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_package_is_listed() -> None:
    folders = {p.parent.relative_to(ROOT) for p in (ROOT / "lightning_lazy").rglob("__init__.py")}
    names = {".".join(folder.parts) for folder in folders} | {"lightning_lazy.callbacks"}
    assert set(settings()["tool"]["setuptools"]["packages"]) == names


def test_one_version_is_told_everywhere() -> None:
    version = settings()["project"]["version"]
    assert OmegaConf.load(ROOT / "CITATION.cff").version == version
    newest = next(
        line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")
    )
    assert newest.split()[1] == version


def test_the_citation_has_what_its_format_asks_for() -> None:
    """The required keys of the Citation File Format 1.2.0."""
    citation = OmegaConf.load(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    for reference in citation.references:
        assert {"type", "title", "authors"} <= set(reference)


@pytest.mark.slow
def test_what_is_released_is_complete(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for name in FOLDERS:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        (tree / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    files = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
    # The wheel is built from the source distribution.
    tool("build", "--no-isolation", "--outdir", str(tmp_path), str(tree))
    (source,), (wheel,) = tmp_path.glob("*.tar.gz"), tmp_path.glob("*.whl")
    tool("twine", "check", "--strict", str(source), str(wheel))
    with tarfile.open(source) as archive:
        assert files <= {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    own = {name for name in files if name.startswith("lightning_lazy/") and name.endswith(".py")}
    own |= {f"lightning_lazy/{name}" for name in files if name.startswith("callbacks/")}
    assert own | {"lightning_lazy/py.typed"} <= names
    assert all(name.startswith("lightning_lazy") for name in names)
