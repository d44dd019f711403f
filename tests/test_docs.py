"""The documentation site: it builds without a warning, and what its pages say is there."""

import html
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from trainers import QUIET

from lightning_lazy import ScaledLightningModule, callbacks
from lightning_lazy.data import PatternsDataModule
from lightning_lazy.losses import LogisticLoss
from lightning_lazy.models import TwoPartNet

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
CONF = ROOT / "conf"
PAGES = sorted(DOCS.rglob("*.md"))
_BLOCK = re.compile(
    r"```\w+\n((?:# @package _global_\n)?# (my_package/\S+|conf/\S+).*?)```", re.DOTALL
)


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
    assert "**Picture.**" in text
    assert "**Cost.**" in text
    assert "**Caveats.**" in text
    assert f"callbacks/{module}.md" in (DOCS / "callbacks.md").read_text()
    page = (site / "callbacks" / module / "index.html").read_text()
    assert page.count("<code>name</code>") == 1  # of its arguments, that which all have


class Classifier(pl.LightningModule):
    """A module such as a reader has, with L2 and the metrics that pages speak of."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/acc", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, weight_decay=0.01)


@pytest.mark.filterwarnings("ignore:AutoL2 may shrink a net without BatchNorm")
@pytest.mark.parametrize("name", callbacks.__all__)
def test_the_three_lines_on_the_page_of_a_callback_train(name: str, tmp_path: Path) -> None:
    module: pl.LightningModule = Classifier()
    x = torch.randn(100, 6)
    both = [DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), 20) for _ in ("train", "val")]
    data = pl.LightningDataModule()
    data.train_dataloader, data.val_dataloader = (lambda loader=one: loader for one in both)
    if name == "PatternLearning":  # says on its page what it is for
        net, optimizer = TwoPartNet(8, 10, v_width=6), partial(torch.optim.SGD, lr=0.1)
        module = ScaledLightningModule(net, LogisticLoss(), optimizer, centering="none")
        data = PatternsDataModule(dimension=4, n_train=20, n_val=10)
    trainer = partial(pl.Trainer, **QUIET, max_epochs=2, default_root_dir=tmp_path)
    file = getattr(callbacks, name).__module__.rpartition(".")[2]
    text = (DOCS / "callbacks" / f"{file}.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code is not None
    assert len(code[1].split("\n\n")) == 2  # the import, then two lines
    names = {"Trainer": trainer, "your_module": module, "your_data": data}
    exec(code[1], names)
    assert [type(one).__name__ for one in names["trainer"].callbacks].count(name) == 1
    assert names["trainer"].global_step > 0


@pytest.mark.parametrize("example", ["cifar", "transformer", "gan"])
def test_the_page_of_projects_shows_their_code(example: str, site: Path) -> None:
    page = html.unescape(re.sub("<[^>]+>", "", (site / "projects/index.html").read_text()))
    for line in (ROOT / f"examples/{example}.py").read_text().splitlines():
        assert line in page


def test_formulas_are_no_longer_directives(site: Path) -> None:
    pages = [path.read_text() for path in site.rglob("index.html")]
    assert not any(".. math::" in page for page in pages)
    assert any("\\tfrac12 \\lambda" in page for page in pages)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_experiments_that_a_page_names_are_there(path: Path) -> None:
    text = path.read_text()
    commands = re.findall(r"experiment=([a-z0-9_]+/[a-z0-9_]+)", text)
    named = re.findall(r"`((?:kanoh|chizat|huang|li|lewkowycz)/[a-z0-9_]+)", text)
    own = set(re.findall(r"^# conf/experiment/(\S+)\.yaml", text, re.MULTILINE))
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
    for text, name in _BLOCK.findall((DOCS / "extending.md").read_text()):
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
