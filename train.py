"""Trains what conf/ describes; `python train.py --help` explains."""

import atexit
import gc
from pathlib import Path

CONF = str(Path(__file__).parent.resolve() / "conf")


def main() -> None:
    """Run the command line."""
    gc.disable()  # what imports make stays: to search it for garbage takes two fifths of their time
    try:
        from lightning_lazy.command_line import (
            deferring_mistakes,
            prepared_arguments,
            require_extra,
            tidy_errors,
        )

        require_extra("train")
        import hydra

        from lightning_lazy.training import train
    finally:
        gc.enable()

    atexit.register(gc.freeze)  # and so does the last search, when the process ends
    with tidy_errors(), prepared_arguments():
        task = deferring_mistakes(train)
        hydra.main(config_path=CONF, config_name="config", version_base="1.3")(task)()


if __name__ == "__main__":
    main()
