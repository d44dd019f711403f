"""The command line of ``train.py``: missing extras, resumed runs, errors in one line."""

import errno
import functools
import importlib.util
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from lightning_lazy.errors import InputError

_NEEDED = ("hydra", "omegaconf", "torchvision", "sklearn", "scipy", "matplotlib", "pandas", "rich")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def require_extra(extra: str) -> None:
    """Exit with one line if a package of the extra is not installed."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sys.exit(
            f"train.py needs {', '.join(missing)}, from the extra {extra!r}: "
            f'pip install -e ".[{extra}]" -c constraints.txt'
        )


@contextmanager
def tidy_errors() -> Iterator[None]:
    """Print a user's mistake as one line on stderr and exit with 1.

    Hydra's errors count as such, and whatever keeps it from composing a configuration. Anything
    else is a defect and keeps its traceback, as everything does with ``HYDRA_FULL_ERROR=1``. A
    sweep's figure is drawn also where one of its cells failed.
    """
    wants_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"
    _running.clear()
    try:
        yield
        if _deferred:
            raise _deferred.pop()
    except Exception as error:
        _draw_what_there_is()
        if wants_traceback or not (_is_mistake(error) or _is_from_composing(error)):
            raise
        sys.exit(f"error: {_one_line(error)}")


def _is_mistake(error: Exception) -> bool:
    """Return whether an error is the user's, wherever it comes from."""
    from hydra.errors import HydraException
    from lightning_fabric.utilities.exceptions import MisconfigurationException
    from omegaconf.errors import OmegaConfBaseException

    mistakes = (InputError, HydraException, OmegaConfBaseException, MisconfigurationException)
    return isinstance(error, mistakes) or (
        isinstance(error, OSError) and (error.filename is not None or error.errno in _FULL)
    )


def _is_from_composing(error: Exception) -> bool:
    """Return whether an error is one of Hydra's or a launcher's checks, which have no class."""
    has_none = isinstance(error, TypeError | ValueError) or type(error) is RuntimeError
    return has_none and not _running


def _draw_what_there_is() -> None:
    """Draw a sweep's figure after an error, which stays the one that is told."""
    from lightning_lazy.sweeps import draw_unfinished

    try:
        draw_unfinished()
    except InputError as error:
        print(f"no figure: {error}", file=sys.stderr)


def deferring_mistakes(task: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return ``task`` with a single run's mistakes raised after Hydra has come to its end.

    Hydra adds a line of its own to an error that leaves the task. In a multirun, where that line
    says which cell failed, errors pass through, so that launchers count the cell as failed.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    @functools.wraps(task)
    def run(config: Any) -> None:
        _running.append(True)
        try:
            task(config)
        except Exception as error:
            if HydraConfig.get().mode is RunMode.MULTIRUN or not _is_mistake(error):
                raise
            _deferred.append(error)
        _running.clear()

    return run


_deferred: list[Exception] = []
_running: list[bool] = []  # not empty while a task runs, and after it has failed


def _one_line(error: Exception) -> str:
    """Return the first line of an error; to one of Hydra's, add where to look."""
    from hydra.errors import OverrideParseException

    if isinstance(error, OSError) and error.strerror:
        where = "make room on the disk" if error.filename is None else error.filename
        return f"{error.strerror}: {where}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = lines[0] if lines else type(error).__name__
    if isinstance(error, OverrideParseException):
        line = f"can't read the override {error.override!r}, put quotes around its value: {line}"
    elif not _is_mistake(error):
        line = f"can't start {' '.join(sys.argv[1:])}: {line}"
    if "hydra/launcher/submitit" in line:
        line = 'the launcher is in the extra "cluster": pip install -e ".[cluster]"'
    options = getattr(error, "options", None)
    if options:  # members of a group
        return f"{line}: choose one of {', '.join(options)}"
    key = getattr(error, "full_key", None)
    if key and str(key) not in line:
        line = f"{key}: {line}"
    hint = "" if isinstance(error, InputError) else " (see: python train.py --help)"
    return line + hint


@contextmanager
def prepared_arguments() -> Iterator[None]:
    """Complete ``ckpt_path=…`` by the overrides and the folder of the run that it belongs to."""
    from lightning_lazy.processes import rank_arguments
    from lightning_lazy.resolvers import register_resolvers

    register_resolvers()
    given = sys.argv
    _check_options(given[1:])
    sys.argv = [given[0], *rank_arguments(resume_arguments(given[1:]))]
    try:
        yield
    finally:
        sys.argv = given


def _check_options(arguments: list[str]) -> None:
    """Say in one line what Hydra's parser would say below its usage.

    Raises:
        InputError: An option is not there, lacks its value, or stands between overrides.
    """
    from hydra._internal.utils import get_args_parser

    told = io.StringIO()
    try:
        with redirect_stderr(told):
            get_args_parser().parse_args(arguments)
    except SystemExit as error:
        if error.code:
            reason = told.getvalue().splitlines()[-1].partition("error: ")[2]
            raise InputError(
                f"{reason}: options such as -m come before all overrides (see: python train.py "
                "--help)"
            ) from error
        raise


def resume_arguments(arguments: list[str]) -> list[str]:
    """Return the arguments that compose a resumed run's configuration in its own folder.

    Raises:
        InputError: ``ckpt_path`` is not the checkpoint of a run of this project.
    """
    paths = [text.partition("=")[2] for text in arguments if text.startswith("ckpt_path=")]
    if not paths or paths[-1] in ("", "null"):
        return arguments
    path = Path(paths[-1].strip("'\"")).resolve()
    folder = path.parent.parent
    if f"hydra.run.dir='{folder}'" in arguments:  # a rank gets the completed ones of rank 0
        return arguments
    grid = (folder / "grid.json").is_file()  # between two chunks its state is its table alone
    if not path.is_file() and not grid:
        from lightning_lazy.checkpoints import check_undamaged

        check_undamaged(path)  # offers the one before
    recorded = folder / ".hydra" / "overrides.yaml"
    if not (folder / "config.yaml").is_file() or not recorded.is_file():
        raise InputError(
            f"{folder} holds no config.yaml of a run: ckpt_path must be "
            "<run>/checkpoints/last.ckpt, with the run's folder as train.py left it"
        )
    from lightning_lazy.resume import read_settings

    before = [str(text) for text in read_settings(recorded, list)]
    now = [text for text in arguments if not text.startswith("ckpt_path=")]
    return [
        *before,
        *now,
        f"ckpt_path='{path}'",
        f"hydra.run.dir='{folder}'",
        "hydra.output_subdir=null",
        "hydra.mode=RUN",
    ]
