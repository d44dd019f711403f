"""The documentation site: it builds without a warning, and what its pages say is there."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_lazy import callbacks

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
CONF = ROOT / "conf"
PAGES = sorted(DOCS.rglob("*.md"))
_BLOCK = re.compile(r"```\w+\n# (my_package/\S+|conf/\S+)\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_the_front_page_is_the_readme(site: Path) -> None:
    page = (site / "index.html").read_text()
    headings = re.findall(r"^## (.+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(headings) > 3
    for heading in headings:
        assert f">{heading}<a" in page, heading


def test_the_reference_has_every_option_and_every_experiment(site: Path) -> None:
    reference = (site / "configuration/index.html").read_text()
    table = (site / "experiments/index.html").read_text()
    for path in sorted(CONF.rglob("*.yaml")):
        group, *names = path.relative_to(CONF).with_suffix("").parts
        if group == "experiment":
            assert f"<code>{'/'.join(names)}</code>" in table, path
        elif group not in ("config", "hydra", "sweep"):
            assert f">{group}={'/'.join(names)}<a" in reference, path


@pytest.mark.parametrize("name", callbacks.__all__)
def test_a_callback_has_a_page_with_its_use_cost_and_arguments(name: str, site: Path) -> None:
    module = getattr(callbacks, name).__module__.rpartition(".")[2]
    text = (DOCS / "callbacks" / f"{module}.md").read_text()
    assert f"from lightning_lazy.callbacks import {name}\n" in text
    assert "**Cost.**" in text
    assert "**Caveats.**" in text
    assert f"callbacks/{module}.md" in (DOCS / "callbacks.md").read_text()
    page = (site / "callbacks" / module / "index.html").read_text()
    assert page.count("<code>name</code>") == 1  # of its arguments, that which all have


@pytest.mark.parametrize("name", callbacks.__all__)
def test_the_code_on_the_page_of_a_callback_runs(name: str) -> None:
    module = getattr(callbacks, name).__module__.rpartition(".")[2]
    text = (DOCS / "callbacks" / f"{module}.md").read_text()
    found = re.search(r"Trainer\(callbacks=\[(.+)\]\)\n", text)
    assert found is not None
    assert isinstance(eval(found[1], vars(callbacks).copy()), getattr(callbacks, name))


def test_formulas_are_no_longer_directives(site: Path) -> None:
    pages = [path.read_text() for path in site.rglob("index.html")]
    assert not any(".. math::" in page for page in pages)
    assert any("\\tfrac12 \\lambda" in page for page in pages)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_experiments_that_a_page_names_are_there(path: Path) -> None:
    text = path.read_text()
    commands = re.findall(r"experiment=([a-z0-9_]+/[a-z0-9_]+)", text)
    named = re.findall(r"`((?:kanoh|chizat|huang|li|lewkowycz)/[a-z0-9_]+)", text)
    own = set(re.findall(r"^# conf/experiment/(\S+)\.yaml$", text, re.MULTILINE))
    for experiment in {*commands, *named} - own:
        assert (CONF / "experiment" / f"{experiment}.yaml").is_file(), experiment


def test_pictures_are_small() -> None:
    pictures = list(DOCS.rglob("*.png"))
    assert pictures
    for picture in pictures:
        assert picture.stat().st_size < 150_000, picture


def test_the_page_on_extending_can_be_followed(
    train: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # `train` works in an empty folder, where the files of the page are laid.
    for name, text in _BLOCK.findall((DOCS / "extending.md").read_text()):
        path = Path(name.replace("conf/", "my_conf/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    Path("my_package/figures.py").write_text("def width(folder):\n    return [folder]\n")
    monkeypatch.syspath_prepend(os.getcwd())
    small = ("--config-dir", "my_conf", "max_epochs=1")
    train(*small, "model=mixer", "loss=absolute", "model.width=8")
    (run,) = Path("runs/default").iterdir()
    assert "my_package.losses.AbsoluteLoss" in (run / "config.yaml").read_text()
    assert (run / "summary.json").is_file()
    out = train(
        *small, "experiment=mine/width", "data=digits", "data.n_train=40", "data.n_val=40",
        "model.width=5,6", "seed=0", "callbacks=health",
    )  # fmt: skip
    assert re.search(r"figure: runs/mine/width/\S+", out)
    assert len(list(Path("runs/mine/width").glob("*/*/summary.json"))) == 2
