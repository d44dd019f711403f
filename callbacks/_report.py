"""Verdicts on a run, printed and stored beside it."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def store_report(
    trainer: Any, kind: str, name: str | None, text: str, values: Mapping[str, Any]
) -> None:
    """Print a verdict and write it to a JSON file; call it on all ranks, rank 0 does it.

    The file is in the run's folder: the first logger's, else the Trainer's ``default_root_dir``.

    Args:
        trainer: The Trainer.
        kind: Name of the file, without its ending.
        name: That of the callback, added to the file's if there is one.
        text: What is printed.
        values: What is written, under the number of updates done; numbers that are not finite, for
            which JSON has no word, become null.
    """
    folder = Path(trainer.log_dir or trainer.default_root_dir)  # some loggers ask all ranks
    if not trainer.is_global_zero:
        return
    print(text, flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    suffix = "" if name is None else f"-{name}"
    stored = _finite({"step": trainer.global_step} | dict(values))
    (folder / f"{kind}{suffix}.json").write_text(json.dumps(stored, indent=2) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
