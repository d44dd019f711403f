"""What W&B has recorded without a network, read from the file of the run."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

# A file starts with 7 bytes of W&B's own; then come LevelDB's blocks of chunks, each with a header:
# checksum (4 bytes), length (2) and type (1): full, first, middle or last part of a record.
_FILE_HEADER, _BLOCK, _HEADER = 7, 32768, 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


@dataclass
class OfflineRun:
    """A recorded run.

    Attributes:
        folder: ``offline-run-…``.
        sweep: Id of the sweep that it belongs to, empty for none.
        history: The logged values, a mapping for every call.
        config: The configuration, by top-level key.
    """

    folder: Path
    sweep: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)

    def values(self, name: str) -> list[Any]:
        """The values of a metric, in their order."""
        return [row[name] for row in self.history if name in row]


def read_offline_run(folder: Path) -> OfflineRun:
    """Read the records of the only run in ``<folder>/wandb``."""
    (found,) = folder.glob("wandb/offline-run-*")
    run = OfflineRun(found)
    (file,) = found.glob("*.wandb")
    for raw in _records(file.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(raw)
        run.sweep = run.sweep or record.run.sweep_id
        run.config |= {i.key: json.loads(i.value_json) for i in record.run.config.update}
        run.config |= {i.key: json.loads(i.value_json) for i in record.config.update if i.key}
        items = record.history.item
        if items:
            names = ("/".join(item.nested_key) or item.key for item in items)
            values = (json.loads(item.value_json) for item in items)
            run.history.append(dict(zip(names, values, strict=True)))
    return run


def _records(raw: bytes) -> Iterator[bytes]:
    position, record = _FILE_HEADER, b""
    while position + _HEADER <= len(raw):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER:  # the end of a block, too short for a header, is filled up
            position += left
            continue
        length = int.from_bytes(raw[position + 4 : position + 6], "little")
        kind = raw[position + 6]
        assert kind in (_FULL, _FIRST, _MIDDLE, _LAST), f"chunk of type {kind} at byte {position}"
        position += _HEADER
        record += raw[position : position + length]
        position += length
        if kind in (_FULL, _LAST):
            yield record
            record = b""
