"""The progress bar of ``train.py``."""

from typing import Any

from pytorch_lightning.callbacks import TQDMProgressBar


class TrainingBar(TQDMProgressBar):
    """One line that shows training only; validations are short and show in its numbers.

    Lightning asks for the numbers on rank 0 only, where that takes a reduction over ranks: here all
    ask, or rank 0 would wait forever.

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

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show the numbers when they are due."""
        done = batch_idx + 1
        if done == self.total_train_batches or done % max(self.refresh_rate, 1) == 0:
            self._reduced_everywhere(trainer)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Show the numbers."""
        self._reduced_everywhere(trainer)
        super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Show the numbers."""
        self._reduced_everywhere(trainer)
        super().on_train_epoch_end(trainer, pl_module)

    @staticmethod
    def _reduced_everywhere(trainer: Any) -> None:
        if trainer.world_size > 1:
            _ = trainer.progress_bar_metrics
