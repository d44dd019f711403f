"""An append-only csv log of metrics that survives a kill and continues without a gap."""

import csv
import io
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from lightning_lazy.errors import InputError
from lightning_lazy.replacing import append_text, naming_refusals, replace_file
from lightning_lazy.reporting import is_main_process

FIXED_COLUMNS = ("step", "epoch")


class MetricsLog(Logger):
    """Metrics of a run in one csv file, a row a step, written by rank 0.

    Rows are appended and never changed; values that come in at the same step share a row. A metric
    that was not seen before becomes a column at the right end: the file is then written anew
    beside the old one and renamed into its place. `sync` is called before a checkpoint is made
    visible, and `truncate` when a run continues from one, so that no row is lost or doubled. A disk
    that is full or read-only raises an `InputError` and leaves whole rows.

    Args:
        folder: Folder of the run; made if it is not there.
        filename: Name of the file in it.
    """

    def __init__(self, folder: str | os.PathLike[str], filename: str = "metrics.csv") -> None:
        super().__init__()
        self.path = Path(folder) / filename
        self._clock: Callable[[], tuple[int, float]] | None = None
        self._columns: list[str] = list(FIXED_COLUMNS)
        self._pending: dict[str, float] = {}
        self._is_written = True  # the file has all values of the row in hand
        self._in_file = False  # the file has some of them
        self._rows = 0
        self._opened = False

    @property
    def name(self) -> str:
        """The name that Lightning shows for this logger."""
        return "metrics"

    @property
    def version(self) -> str:
        """Nothing, so that the progress bar shows none."""
        return ""

    @property
    def save_dir(self) -> str:
        """The folder of the file."""
        return str(self.path.parent)

    def set_clock(self, clock: Callable[[], tuple[int, float]]) -> None:
        """Stamp rows with what ``clock`` returns, updates done and epochs done.

        Lightning's own step is off by one after a resume; `RunFiles` sets a clock that is right.
        """
        self._clock = clock

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the configuration has a file of its own, ``config.yaml``."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add values to the row of the present step."""
        values = {name: float(value) for name, value in metrics.items()}
        epoch = values.pop("epoch", 0.0)
        now, epoch = self._clock() if self._clock is not None else (step or 0, epoch)
        if self._pending and self._pending["step"] != now:
            self._write_pending()
            self._pending, self._in_file = {}, False
        self._pending |= {"step": now, "epoch": epoch, **values}
        self._is_written = False

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the row in hand."""
        self._write_pending()

    def sync(self) -> int:
        """Write everything through to the disk and return the number of rows in the file."""
        if not is_main_process():
            return 0
        self._open()
        self._write_pending()
        with naming_refusals(self.path), self.path.open("ab") as file:
            os.fsync(file.fileno())
        return self._rows

    @rank_zero_only
    def truncate(self, rows: int) -> None:
        """Keep the first ``rows`` rows of the file and continue after them.

        What comes in at the step of the last of them still goes to it.

        Args:
            rows: Number of rows that the checkpoint knows of.

        Raises:
            InputError: The file holds fewer rows, so it is not the one of the checkpoint.
        """
        if not self.path.exists():
            raise InputError(f"{self.path} is not there: a resumed run continues its metrics file")
        lines = self.path.read_text().splitlines(keepends=True)
        complete = [line for line in lines if line.endswith("\n")]
        if len(complete) - 1 < rows:
            raise InputError(
                f"{self.path} has {len(complete) - 1} rows, the checkpoint was made at row {rows}: "
                "resume in the folder that the checkpoint was written in"
            )
        self._columns = next(csv.reader([complete[0]]))
        _replace(self.path, "".join(complete[: rows + 1]))
        cells = next(csv.reader([complete[rows]])) if rows else []
        pairs = zip(self._columns, cells, strict=False)
        self._pending = {name: float(cell) for name, cell in pairs if cell}
        self._rows, self._opened = rows, True
        self._is_written, self._in_file = True, rows > 0

    def _open(self) -> None:
        if not self._opened:
            with naming_refusals(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
            _replace(self.path, _line(self._columns))
            self._opened = True

    def _write_pending(self) -> None:
        """Append the row in hand; one that the file has in part is replaced as a whole."""
        if self._is_written:
            return
        self._open()
        new = [name for name in self._pending if name not in self._columns]
        columns = self._columns + new
        line = _line([_text(self._pending.get(name)) for name in columns])
        if new or self._in_file:
            _replace(self.path, self._head(columns) + line)
        else:
            append_text(self.path, line)
        self._columns = columns
        self._rows += not self._in_file
        self._is_written = self._in_file = True

    def _head(self, columns: list[str]) -> str:
        """Return the header and the rows before the one in hand, padded to all columns."""
        with self.path.open(newline="") as file:
            rows = list(csv.reader(file))[1:]
        before = rows[:-1] if self._in_file else rows
        padded = [row + [""] * (len(columns) - len(row)) for row in before]
        return "".join(map(_line, [columns, *padded]))


def _text(value: float | None) -> str:
    """Return the shortest text that reads back as the same float; whole numbers as such."""
    if value is None:
        return ""
    return str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else repr(value)


def _line(cells: list[str]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


def _replace(path: Path, text: str) -> None:
    replace_file(path, lambda new: new.write_text(text, newline=""))
