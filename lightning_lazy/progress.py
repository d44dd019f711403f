"""The progress bar of ``train.py``."""

from typing import Any

from pytorch_lightning.callbacks import TQDMProgressBar


class TrainingBar(TQDMProgressBar):
    """One line that shows training only; validations are short and show in its numbers.

    Args:
        refresh_rate: Updates between two redrawings.
    """

    def __init__(self, refresh_rate: int = 20) -> None:
        super().__init__(refresh_rate=refresh_rate)

    def init_validation_tqdm(self) -> Any:
        """Return a bar that draws nothing."""
        bar = super().init_validation_tqdm()
        bar.disable = True
        return bar
