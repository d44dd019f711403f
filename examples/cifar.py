"""Someone's CIFAR classifier in plain Lightning, and what three lines say about its training.

python examples/cifar.py --folder <folder with train/<class>/*.png and test/<class>/*.png>
python examples/cifar.py    # without images: scikit-learn's digits
"""

import argparse
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split

from lightning_lazy.callbacks import HessianTopEigenvalues, LazinessReport


class Classifier(pl.LightningModule):
    """A small convolutional network with BatchNorm and dropout; inputs `[batch, 3, h, w]`."""

    def __init__(self, channels: int = 16, classes: int = 10, lr: float = 0.05) -> None:
        super().__init__()
        self.lr = lr
        self.features = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Linear(8 * channels, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits `[batch, classes]`."""
        return self.head(self.features(images))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the cross entropy."""
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the accuracy."""
        self.log("val/acc", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> Any:
        """Momentum, weight decay and a cosine schedule."""
        sgd = torch.optim.SGD(self.parameters(), self.lr, momentum=0.9, weight_decay=5e-4)
        return [sgd], [torch.optim.lr_scheduler.CosineAnnealingLR(sgd, self.trainer.max_epochs)]


def loaders(
    folder: Path | None = None, batch_size: int = 64
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Return loaders for training and validation: of class folders, else of the digits."""
    train: Dataset[Any]
    if folder is not None:
        from torchvision import datasets, transforms

        train, val = (
            datasets.ImageFolder(str(folder / split), transforms.ToTensor())
            for split in ("train", "test")
        )
    else:
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        x = torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8).repeat(1, 3, 1, 1)
        train, val = random_split(TensorDataset(x, torch.tensor(labels)), [1400, len(x) - 1400])
    return DataLoader(train, batch_size, shuffle=True), DataLoader(val, batch_size)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path)
    watching = [LazinessReport(), HessianTopEigenvalues(size=250)]
    trainer = pl.Trainer(max_epochs=5, callbacks=watching)
    trainer.fit(Classifier(), *loaders(parser.parse_args().folder))
