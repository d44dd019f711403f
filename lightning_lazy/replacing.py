"""Files that a kill at any moment leaves whole: the old one or the new one."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def beside(path: Path) -> Path:
    """Return where the file that is going to replace ``path`` is written."""
    return path.with_name(path.name + ".new")


def put_in_place(path: Path) -> None:
    """Flush the file beside ``path`` to the disk and rename it into place."""
    new = beside(path)
    with new.open("rb+") as file:
        os.fsync(file.fileno())
    new.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Replace ``path`` by what ``write`` writes to the path that it is given."""
    write(beside(path))
    put_in_place(path)
