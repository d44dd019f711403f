"""Pages that are made of other files: README.md, benchmarks/README.md, conf/, docstrings."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File
from reference import configuration, experiments

ROOT = Path(__file__).parents[2]
PACKAGES = {"lightning_lazy": "lightning_lazy", "callbacks": "lightning_lazy/callbacks"}
_installed = tempfile.TemporaryDirectory()


@event_priority(100)
def on_config(config: Any) -> Any:
    """Lay the packages out as they are installed; mkdocstrings reads their docstrings there."""
    ignored = shutil.ignore_patterns("__pycache__")
    for folder, place in PACKAGES.items():
        target = Path(_installed.name) / place
        shutil.copytree(ROOT / folder, target, ignore=ignored, dirs_exist_ok=True)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [_installed.name]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages."""
    pages = {
        "index.md": readme(),
        "benchmarks.md": (ROOT / "benchmarks" / "README.md").read_text(),
        "configuration.md": configuration(),
        "experiments.md": experiments(),
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def readme() -> str:
    """Return README.md with links as they are in the site."""
    text = (ROOT / "README.md").read_text()
    return text.replace("](docs/", "](").replace("](benchmarks/README.md)", "](benchmarks.md)")
