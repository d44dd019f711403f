"""From the files of conf/ to the pages that list them."""

from pathlib import Path
from typing import NamedTuple

CONF = Path(__file__).parents[2] / "conf"
PAPERS = ("kanoh", "chizat", "huang", "li", "lewkowycz")


class Option(NamedTuple):
    """A file of conf/.

    Attributes:
        text: Its first comment as one paragraph, commands in it as code.
        body: The keys, with their comments.
    """

    text: str
    body: str


def read_option(path: Path) -> Option:
    """Split a file into its first comment and its keys."""
    lines = path.read_text().splitlines()
    end = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    comment = "\n".join(line[1:] for line in lines[:end] if "@package" not in line)
    comment = comment.replace("\\\n", "").replace("<", "&lt;")
    text = " ".join(map(_code_if_indented, comment.splitlines()))
    return Option(text, "\n".join(lines[end:]).strip())


def _code_if_indented(line: str) -> str:
    words = " ".join(line.split())
    return f"`{words.replace('&lt;', '<')}`" if line.startswith("   ") else words


def configuration() -> str:
    """Return the reference: every group, every option, its keys and comments."""
    parts = [
        "# Configuration",
        "`python train.py <group>=<option> <key>=<value>`: each option below is the file "
        "`conf/<group>/<option>.yaml`. The [experiments](experiments.md) put them together.",
        "## Knobs",
        _block(CONF / "config.yaml"),
    ]
    for folder in sorted(path for path in CONF.iterdir() if path.is_dir()):
        if folder.name == "experiment":
            continue
        parts.append(f"## {folder.name}")
        for path in sorted(folder.rglob("*.yaml")):
            parts += [f"### {_choice(path.relative_to(CONF))}", _block(path)]
    return "\n\n".join(parts) + "\n"


def _choice(path: Path) -> str:
    """Return what to write on the command line; W&B reads its sweeps from files."""
    if path.parts[0] == "sweep":
        return f"conf/{path.as_posix()}"
    group, *option = path.with_suffix("").parts
    if group == "hydra":
        group, option = f"hydra/{option[0]}", option[1:]
    return f"{group}={'/'.join(option)}"


def _block(path: Path) -> str:
    """Return the comment as text and the keys as a block of code."""
    text, body = read_option(path)
    return "\n\n".join([text, f"```yaml\n{body}\n```"] if body else [text]).strip()


def experiments() -> str:
    """Return a table of the experiments of every paper, with what their files say."""
    parts = [
        "# All experiments",
        "`python train.py experiment=<name>`; those called `_quick` change sizes only. Each row is "
        "the comment of `conf/experiment/<name>.yaml`, where the settings stand.",
    ]
    for paper in PAPERS:
        rows = ["| experiment | what it does |", "|---|---|"]
        for path in sorted((CONF / "experiment" / paper).glob("*.yaml")):
            text = read_option(path).text.replace("|", r"\|")
            rows.append(f"| `{paper}/{path.stem}` | {text} |")
        parts += [f"## {paper}", "\n".join(rows)]
    return "\n\n".join(parts) + "\n"
