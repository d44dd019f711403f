"""Trains what conf/ describes; `python train.py --help` explains."""

from pathlib import Path

from lightning_lazy.command_line import (
    deferring_mistakes,
    prepared_arguments,
    require_extra,
    tidy_errors,
)

CONF = str(Path(__file__).parent.resolve() / "conf")

if __name__ == "__main__":
    require_extra("train")
    import hydra

    from lightning_lazy.training import train

    with tidy_errors(), prepared_arguments():
        task = deferring_mistakes(train)
        hydra.main(config_path=CONF, config_name="config", version_base="1.3")(task)()
