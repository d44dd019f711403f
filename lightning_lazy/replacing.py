"""Files that a kill or a full disk at any moment leaves whole: the old one or the new one."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lightning_lazy.errors import InputError


def beside(path: Path) -> Path:
    """Return where the file that is going to replace ``path`` is written."""
    return path.with_name(path.name + ".new")


@contextmanager
def naming_refusals(path: Path) -> Iterator[None]:
    """Say in one line that ``path`` could not be written, and leave no half of it beside it.

    Raises:
        InputError: The disk is full, the folder is read-only, or the like.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = _reason(error)
        if reason is None:
            raise
        with suppress(OSError):  # the folder may be read-only: the first error is the one to tell
            beside(path).unlink()
        raise InputError(
            f"can't write {path} ({reason}): make room or choose a folder that can be written; "
            "what was written before is as it was"
        ) from error


def check_writable(path: Path) -> None:
    """Make the folder of a file that will be written, and see that it can be.

    Raises:
        InputError: It can't.
    """
    with naming_refusals(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside(path).touch()
        beside(path).unlink()


def put_in_place(path: Path, keep_as: Path | None = None) -> None:
    """Flush the file beside ``path`` to the disk and rename it into place.

    Args:
        path: The file that is replaced, if it is there.
        keep_as: New name of the file that is replaced; ``None``: it is not kept.

    Raises:
        InputError: The disk refuses; the file that was there is there still.
    """
    with naming_refusals(path):
        new = beside(path)
        with new.open("rb+") as file:
            os.fsync(file.fileno())
        if keep_as is not None and path.is_file():
            _give_second_name(path, keep_as)
        new.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Replace ``path`` by what ``write`` writes to the path that it is given.

    Raises:
        InputError: The disk refuses; the file that was there is there still.
    """
    with naming_refusals(path):
        write(beside(path))
        put_in_place(path)


def append_text(path: Path, text: str) -> None:
    """Append the whole of ``text`` to a file, or nothing.

    Raises:
        InputError: The disk refuses; the file is as it was.
    """
    with naming_refusals(path):
        size = path.stat().st_size
        try:
            with path.open("a", newline="") as file:
                file.write(text)
        except OSError:
            os.truncate(path, size)
            raise


def _give_second_name(path: Path, name: Path) -> None:
    """Have ``name`` stand for the file of ``path``, which keeps its own name as well.

    Where the file system knows no hard links the file is renamed: a kill before the new file takes
    its place leaves it under its second name alone.
    """
    link = beside(name)
    link.unlink(missing_ok=True)
    try:
        link.hardlink_to(path)
    except OSError:
        path.replace(name)
        return
    link.replace(name)
    link.unlink(missing_ok=True)  # after a kill both may be one file: then renaming does nothing


def _reason(error: OSError | RuntimeError) -> str | None:
    """Return why a file could not be written; ``None`` where the error is about something else."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if "inline_container" in str(error):  # all that torch.save says when not all could be written
        cause = error.__context__
        return _reason(cause) if isinstance(cause, OSError) else "the disk took a part of it only"
    return None
